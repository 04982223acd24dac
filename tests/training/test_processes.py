import json
import os
import signal
import socket

import pytest

from tests.training import resilience
from tests.training.resilience import arrays, ended, logged, run, saved, start

pytestmark = pytest.mark.slow


def start_both(workdir, *arguments, each=("", "")):
    """Two processes as one run, with a field of its own for each."""
    several = [
        f"--coordinator=127.0.0.1:{resilience.free_port()}",
        "--processes=2",
        "--heartbeat=10",
        "--join_timeout=60",
    ]
    own = [[f"--config.{field}"] * bool(field) for field in each]
    return [
        start(workdir, *arguments, *several, f"--process={index}", *own[index])
        for index in (0, 1)
    ]


def close(one, other):
    """Whether two logs tell of the same evaluations and losses."""
    assert one.keys() == other.keys()
    for key, values in one.items():
        assert values == pytest.approx(other[key], rel=1e-5), key


def test_two_processes_train_as_one_does_stop_together_and_resume(tmp_path):
    arguments = ["--config.steps=40", *resilience.streamed(tmp_path / "images")]
    alone = run(tmp_path / "alone", *arguments, devices=2)
    assert (alone.status, alone.err) == (0, "")

    folder = tmp_path / "both"
    first, second = start_both(folder, *arguments)
    assert resilience.wait_until(lambda: logged(folder), first)
    os.kill(second.pid, signal.SIGTERM)  # to one of them, not to the coordinator
    both = ended(first), ended(second)
    assert [done.status for done in both] == [75, 75]
    (step,) = {max(saved(folder))}
    assert f"Stopped and saved at step {step} of 40" in both[0].out
    assert step < 40

    both = [ended(process) for process in start_both(folder, *arguments)]
    assert [done.status for done in both] == [0, 0]
    assert f"Resuming {folder} at step {step}" in both[0].out
    assert "Traceback" not in both[0].err + both[1].err
    close(logged(folder), logged(tmp_path / "alone"))
    found = json.loads((folder / "result.json").read_text())
    expected = json.loads((tmp_path / "alone" / "result.json").read_text())
    for name in ("test_accuracy", "test_loss", "steps", "devices"):
        assert found[name] == pytest.approx(expected[name], rel=1e-5)


def test_processes_with_other_configs_end_with_the_field_that_differs(tmp_path):
    first, second = start_both(tmp_path / "run", each=["seed=3", "seed=4"])
    message = "config.seed is 3 in process 0 and 4 in process 1"
    for done in (ended(first), ended(second)):
        assert done.status != 0 and message in done.err
    assert not (tmp_path / "run").exists()


@pytest.mark.parametrize("victim", [0, 1], ids=["coordinator", "other"])
def test_when_one_dies_the_other_ends_with_a_status_that_restarts(tmp_path, victim):
    folder = tmp_path / "run"
    arguments = ["--config.steps=100000", "--config.checkpoint_every=10"]
    processes = start_both(folder, *arguments)
    assert resilience.wait_until(lambda: saved(folder), processes[0])
    resilience.kill(processes[victim])
    done = ended(processes[1 - victim], 60)
    assert done.status == -signal.SIGABRT  # 134 for a shell
    step = max(saved(folder))
    assert arrays(folder, step)  # the checkpoint is whole


def test_an_error_in_one_ends_both(tmp_path):
    arguments = resilience.streamed(tmp_path / "images")
    for path in (tmp_path / "images" / "a").iterdir():
        path.write_bytes(b"no image")  # for the one that does not tolerate any
    arguments += ["--config.steps=100000", "--config.checkpoint_every=2"]
    folder = tmp_path / "run"
    several = [
        f"--coordinator=127.0.0.1:{resilience.free_port()}",
        "--processes=2",
        "--heartbeat=10",
        "--join_timeout=20",
    ]
    processes = [
        start(
            folder,
            *arguments,
            *several,
            f"--process={index}",
            f"--config.data.max_bad={max_bad}",
        )
        for index, max_bad in ((0, 1.0), (1, 0.0))
    ]
    other, wrong = (ended(process, 120) for process in processes)
    assert wrong.status != 0 and "cannot be decoded, more than" in wrong.err
    assert other.status != 0


def test_a_port_in_use_is_a_mistake_and_no_crash(tmp_path):
    with socket.create_server(("", 0)) as server:
        port = server.getsockname()[1]
        flags = ["--processes=2", "--process=0", f"--coordinator=127.0.0.1:{port}"]
        done = run(tmp_path / "run", *flags)
    assert done.status == 1
    (line,) = done.err.splitlines()
    assert "needs a port that is free on the host of process 0, got '127.0" in line


@pytest.mark.parametrize(
    ("flags", "message"),
    [
        (["--coordinator=127.0.0.1", "--process=0"], "needs HOST:PORT"),
        (["--coordinator=127.0.0.1:1", "--process=2"], "--process=2"),
        (["--coordinator=127.0.0.1:1", "--process=-1"], "--process=-1"),
        (["--process=0"], "got no coordinator"),
        (
            ["--coordinator=127.0.0.1:1", "--process=1", "--join_timeout=1"],
            "could not reach the coordinator at 127.0.0.1:1 within 1 s",
        ),
    ],
)
def test_processes_that_cannot_meet_say_why_in_one_line(tmp_path, flags, message):
    done = run(tmp_path / "run", "--processes=2", *flags)
    assert done.status == (75 if "could not reach" in message else 1)
    (line,) = done.err.splitlines()
    assert line.startswith("train.py: ") and message in line
    assert not (tmp_path / "run").exists()
