import os
import signal
import time

import pytest

from hypersphere.training.checkpoints._checkpoint import Checkpoints
from tests.training import resilience
from tests.training.resilience import arrays, ended, logged, outcome, run, saved, start

pytestmark = pytest.mark.slow
ARGUMENTS = ["--config.steps=160", "--config.checkpoint_every=100000"]


@pytest.fixture(scope="module")
def straight(tmp_path_factory):
    """A run that was never stopped."""
    folder = tmp_path_factory.mktemp("signals") / "straight"
    assert run(folder, *ARGUMENTS).status == 0
    return outcome(folder)


def stop(process, name):
    """Sends a signal to all processes of a run; how it has ended, within a minute."""
    os.killpg(process.pid, getattr(signal, name))
    return ended(process, 60)


@pytest.mark.parametrize(("name", "status"), [("SIGUSR1", 75), ("SIGINT", 130)])
def test_a_signal_saves_and_the_next_start_goes_on_bit_for_bit(
    tmp_path, straight, name, status
):
    folder = tmp_path / "run"
    process = start(folder, *ARGUMENTS)
    assert resilience.wait_until(lambda: logged(folder), process)
    done = stop(process, name)
    assert (done.status, done.err) == (status, "")
    (step,) = saved(folder)
    assert f"Stopped and saved at step {step} of 160; the same command" in done.out
    assert resilience.last_step(folder) == step  # all losses are told
    assert run(folder, *ARGUMENTS).status == 0
    assert outcome(folder) == straight


@pytest.mark.usefixtures("shared_memory")
def test_workers_that_decode_survive_a_signal_to_all_processes(tmp_path):
    folder = tmp_path / "run"
    arguments = resilience.streamed(tmp_path / "images")
    arguments += ["--config.data.workers=2", "--config.steps=100000"]
    process = start(folder, *arguments)
    assert resilience.wait_until(lambda: logged(folder), process)
    done = stop(process, "SIGTERM")
    assert done.status == 75
    assert "Stopped and saved at step" in done.out
    assert done.err == ""


def test_an_evaluation_is_cut_short_and_done_by_the_next_start(tmp_path):
    """The last one as well, and neither its line nor another comes twice."""
    data = "--config.data.source=synthetic:8x8x1,classes=2,examples=20000"
    arguments = [data, "--config.eval_batch_size=1", "--config.optim.ema=0.9"]
    arguments += ["--config.evaluators=('train every 8',)", "--config.eval_every=8"]
    arguments += ["--config.steps=8"]
    folder = tmp_path / "run"
    process = start(folder, *arguments)
    assert resilience.wait_until(lambda: ("train", 8) in logged(folder), process)
    done = stop(process, "SIGTERM")
    assert (done.status, done.err) == (75, "")
    assert ("test", 8) not in logged(folder)
    assert saved(folder) == [8]
    before = arrays(folder)

    process = start(folder, *arguments)  # cut short again
    resuming = lambda: "Resuming" in resilience.said(process)  # noqa: E731
    assert resilience.wait_until(resuming, process)
    time.sleep(0.5)
    done = stop(process, "SIGTERM")
    assert (done.status, done.err) == (75, "")
    assert ("test", 8) not in logged(folder)

    faster = [*arguments, "--config.eval_batch_size=500"]
    assert run(folder, *faster).status == 0
    of_last = {split for split, step in logged(folder) if step == 8}
    raw = {"test_raw", "train_raw"}
    assert of_last == {"train", "test", "train_eval"} | raw
    assert arrays(folder) == before
    checkpoints = Checkpoints(folder, read_only=True)
    assert checkpoints.best_step() == 8  # its score was found after it was saved
    assert checkpoints.meta()["progress"]["evaluated"] == {"test": 8, "train": 8}
    checkpoints.close()


def test_a_signal_before_the_first_step_ends_in_a_status_that_restarts(tmp_path):
    process = start(tmp_path / "run", *ARGUMENTS)
    written = (tmp_path / "run" / "config.json").is_file
    assert resilience.wait_until(written, process)
    done = stop(process, "SIGTERM")
    assert done.status in (75, -signal.SIGTERM)
    assert run(tmp_path / "run", *ARGUMENTS).status == 0
