import time

import pytest

from hypersphere import training
from tests.training import resilience
from tests.training.resilience import ended, last_step, outcome, run, saved, start

pytestmark = pytest.mark.slow
STEPS = 200
ARGUMENTS = [f"--config.steps={STEPS}"]


def fill(folder):
    """Takes all the room that is left, to the last byte."""
    with open(folder / "filler", "ab", buffering=0) as file:
        for size in (65536, 4096, 512, 1):
            try:
                while file.write(bytes(size)):
                    pass
            except OSError:
                continue


def run_on_a_disk_that_fills_up(disk, choice):
    folder = disk / "run"
    arguments = [*ARGUMENTS, f"--config.guard.full_disk={choice}"]
    process = start(folder, *arguments, log=disk.with_name("log"))
    assert resilience.wait_until(lambda: last_step(folder) >= 50, process)
    while process.poll() is None:  # what a failed save gives back is taken as well
        fill(disk)
        time.sleep(0.002)
    return ended(process), arguments


@pytest.fixture(scope="module")
def straight(tmp_path_factory):
    """A run with all the room it wants."""
    folder = tmp_path_factory.mktemp("room") / "run"
    assert run(folder, *ARGUMENTS).status == 0
    return outcome(folder)


def test_a_full_disk_ends_a_run_which_resumes_when_there_is_room(small_disk, straight):
    done, arguments = run_on_a_disk_that_fills_up(small_disk, "stop")
    folder = small_disk / "run"
    assert done.status == 1
    (line,) = [x for x in done.err.splitlines() if x.startswith("train.py: ")]
    assert "could not be written" in line
    assert "No space left" in line or "disk is full" in line
    assert saved(folder)
    assert training.load(folder).config.steps == STEPS
    (small_disk / "filler").unlink()
    done = run(folder, *arguments, log=small_disk.with_name("log"))
    assert (done.status, done.err) == (0, "")
    assert outcome(folder) == straight


def test_or_the_run_trains_to_its_end_but_is_not_finished_without_room_for_it(
    small_disk, straight
):
    done, arguments = run_on_a_disk_that_fills_up(small_disk, "continue")
    folder = small_disk / "run"
    assert f"step {STEPS}: test loss" in done.out
    assert "could not be written" in done.out
    assert saved(folder) and max(saved(folder)) < STEPS
    assert not (folder / "result.json").exists()
    assert done.status == 1
    assert f"train.py: Checkpoint {STEPS} could not be written" in done.err
    (small_disk / "filler").unlink()
    done = run(folder, *arguments, log=small_disk.with_name("log"))
    assert (done.status, done.err) == (0, "")
    assert outcome(folder) == straight
