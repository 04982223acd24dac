import signal
import time

import numpy as np
import pytest

from tests.training import resilience
from tests.training.resilience import ended, kill, last_step, outcome, run, start

pytestmark = pytest.mark.slow
STEPS = 240
EACH = ["start", "step", "save"]
ALL = [*EACH, "step", "save"]


def kill_at(moment, process, workdir, generator):
    """Kills a run at a random instant of a moment of its life; False if it has ended.

    Args:
        moment: `start`, from its first breath to its first step; `step`, in some step;
            `save`, while a checkpoint is being written.
    """
    if moment == "start":
        time.sleep(generator.uniform(0.1, 4.0))
    else:
        step = last_step(workdir) + generator.integers(1, 60)
        reached = lambda: last_step(workdir) >= step  # noqa: E731
        resilience.wait_until(reached, process)
        parts = lambda: list((workdir / "checkpoints").glob("*.part"))  # noqa: E731
        if moment == "save":
            resilience.wait_until(parts, process)
        time.sleep(generator.uniform(0, 0.03))
    if process.poll() is not None:
        return False
    kill(process)
    return True


@pytest.mark.parametrize(
    ("devices", "stream", "workers", "moments"),
    [
        pytest.param(1, False, 0, ALL, id="one_device", marks=pytest.mark.optimized),
        pytest.param(1, True, 2, EACH, id="stream_workers"),
    ],
)
def test_a_run_killed_again_and_again_is_bit_for_bit_the_one_that_was_not(
    request, tmp_path, devices, stream, workers, moments
):
    if workers:
        request.getfixturevalue("shared_memory")
    arguments = [f"--config.steps={STEPS}"]
    if stream:
        arguments += resilience.streamed(tmp_path / "images")
    straight = run(tmp_path / "straight", *arguments, devices=devices)
    assert (straight.status, straight.err) == (0, "")

    generator = np.random.default_rng([devices, stream, workers])
    folder, kills = tmp_path / "killed", 0
    again = [*arguments, f"--config.data.workers={workers}"]
    for moment in generator.permutation(moments):
        process = start(folder, *again, devices=devices)
        kills += kill_at(moment, process, folder, generator)
        told = ended(process)
        assert told.err == ""  # such as a warning about the compilation cache
        assert told.status in (0, -signal.SIGKILL)
    last = run(folder, *again, devices=devices)
    assert (last.status, last.err) == (0, "")
    assert kills >= len(moments) - 1
    assert outcome(folder) == outcome(tmp_path / "straight")
    assert not list(folder.rglob("*.part"))


def test_a_kill_while_it_compiles_leaves_a_cache_that_works(tmp_path):
    cache = {"JAX_COMPILATION_CACHE_DIR": str(tmp_path / "cache")}
    folder, arguments = tmp_path / "run", ["--config.steps=2"]
    process = start(folder, *arguments, environment=cache)
    written = lambda: len(list((tmp_path / "cache").glob("*-cache"))) > 5  # noqa: E731
    assert resilience.wait_until(written, process)
    kill(process)
    assert ended(process).err == ""
    done = run(folder, *arguments, environment=cache)
    assert (done.status, done.err) == (0, "")

    entries = sorted((tmp_path / "cache").glob("*-cache"))
    for index, entry in enumerate(entries):  # as if written just before a power cut
        content = entry.read_bytes()
        entry.write_bytes(content[: len(content) // 2] if index % 2 else b"")
    done = run(tmp_path / "anew", *arguments, environment=cache)
    assert (done.status, done.err) == (0, "")
    assert outcome(folder) == outcome(tmp_path / "anew")
