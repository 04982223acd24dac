import contextlib
import os
import pathlib
import signal
import subprocess
import time

import pytest

from tests import helpers

LAUNCH = pathlib.Path(__file__).parents[1] / "launch"


@contextlib.contextmanager
def signals_reach_children():
    """What a background job starts would ignore some, for good, as the job does."""
    before = {
        signal.SIGINT: signal.signal(signal.SIGINT, signal.default_int_handler),
        signal.SIGHUP: signal.signal(signal.SIGHUP, signal.SIG_DFL),
    }
    try:
        yield
    finally:
        for number, handler in before.items():
            signal.signal(number, handler)


@pytest.fixture
def start(tmp_path):
    """Runs a script under restart.sh; it counts its own starts in `starts`."""
    started = []

    def start(script, **environment):
        (tmp_path / "job.sh").write_text(f"echo start >> starts\n{script}\n")
        with signals_reach_children():
            process = subprocess.Popen(
                [LAUNCH / "restart.sh", "bash", "job.sh"],
                cwd=tmp_path,
                stderr=subprocess.PIPE,
                text=True,
                start_new_session=True,
                env={"PATH": "/usr/bin:/bin", "RESTART_DELAY": "0", **environment},
            )
        started.append(process)
        return process

    yield start
    for process in started:
        process.terminate()  # where a test has failed; it ends what it has started
        process.communicate(timeout=60)


def starts(folder):
    file = folder / "starts"
    return len(file.read_text().splitlines()) if file.is_file() else 0


def wait_until(condition):
    end = time.monotonic() + 60
    while not condition():
        assert time.monotonic() < end, "it did not come about within a minute"
        time.sleep(0.01)


@pytest.mark.parametrize("status", [75, 134, 137, 143])
def test_what_a_restart_can_help_is_started_again(start, tmp_path, status):
    first = f"[ -e begun ] && exit 0; touch begun; exit {status}"
    process = start(first)
    _, told = process.communicate(timeout=60)
    assert process.returncode == 0
    assert starts(tmp_path) == 2
    assert f"status {status}, restart 1" in told


@pytest.mark.parametrize("status", [0, 1, 2, 130])
def test_what_is_finished_wrong_or_interrupted_is_final(start, tmp_path, status):
    process = start(f"exit {status}")
    _, told = process.communicate(timeout=60)
    assert process.returncode == status
    assert starts(tmp_path) == 1
    assert not told


def test_a_killed_command_is_started_again(start, tmp_path):
    script = "[ -e begun ] && exit 0; touch begun; kill -KILL $$"
    process = start(script)
    process.communicate(timeout=60)
    assert (process.returncode, starts(tmp_path)) == (0, 2)


def test_the_number_of_restarts_is_limited(start, tmp_path):
    process = start("exit 75", MAX_RESTARTS="3")
    _, told = process.communicate(timeout=60)
    assert process.returncode == 75
    assert starts(tmp_path) == 4
    assert "gave up after 3 restarts" in told


@pytest.mark.parametrize("name", helpers.sampled(["TERM", "USR1", "INT"], "USR1"))
def test_a_signal_is_passed_on_once_and_ends_the_restarts(start, tmp_path, name):
    script = f"""
    trap 'echo {name} >> got; ended=1' {name}
    touch ready
    until [ -n "$ended" ]; do sleep 0.05; done
    sleep 0.2  # as if it saved
    exit 75
    """
    process = start(script)
    wait_until((tmp_path / "ready").exists)
    process.send_signal(getattr(signal, f"SIG{name}"))
    process.communicate(timeout=60)
    assert process.returncode == 75
    assert (tmp_path / "got").read_text().split() == [name]
    assert starts(tmp_path) == 1


def test_a_signal_between_two_starts_ends_it_at_once(start, tmp_path):
    process = start("exit 75", RESTART_DELAY="1000")
    assert process.stderr and "restart 1" in process.stderr.readline()
    process.send_signal(signal.SIGTERM)
    process.communicate(timeout=60)
    assert process.returncode == 75
    assert starts(tmp_path) == 1


def test_a_command_under_it_can_be_interrupted_while_it_starts(start, tmp_path):
    """Plain bash has its background commands ignore Ctrl-C."""
    process = start("touch ready; exec sleep 1000")
    wait_until((tmp_path / "ready").exists)
    process.send_signal(signal.SIGINT)
    process.communicate(timeout=60)
    assert process.returncode == 130


@pytest.mark.parametrize("file", sorted(LAUNCH.glob("*.s*")), ids=lambda f: f.name)
def test_every_script_is_bash(file):
    assert file.read_text().startswith("#!/usr/bin/env bash\n")
    done = subprocess.run(["bash", "-n", file], capture_output=True, text=True)
    assert (done.returncode, done.stderr) == (0, "")


@pytest.mark.parametrize("file", sorted(LAUNCH.glob("*.yaml")), ids=lambda f: f.name)
def test_kubernetes_starts_as_many_processes_as_they_are_told(file):
    yaml = pytest.importorskip("yaml")
    service, job = yaml.safe_load_all(file.read_text())
    pod = job["spec"]["template"]["spec"]
    (container,) = pod["containers"]
    count = job["spec"]["completions"]
    assert job["spec"]["parallelism"] == count
    assert f"--processes={count}" in container["command"]
    name = service["metadata"]["name"]
    address = next(x for x in container["command"] if x.startswith("--coordinator="))
    assert address.startswith(f"--coordinator={name}-0.{pod['subdomain']}:")
    claimed = {mount["name"] for mount in container["volumeMounts"]}
    assert claimed == {volume["name"] for volume in pod["volumes"]}


def test_when_the_terminal_goes_the_command_is_asked_to_stop(start, tmp_path):
    script = "trap 'touch asked; kill %1; exit 75' TERM; touch begun; sleep 60 & wait"
    process = start(script)
    wait_until((tmp_path / "begun").is_file)
    process.send_signal(signal.SIGHUP)
    process.communicate(timeout=60)
    assert (tmp_path / "asked").is_file()
    assert (process.returncode, starts(tmp_path)) == (75, 1)


@pytest.mark.slow
def test_a_command_that_is_stopped_is_waited_for_without_haste(start, tmp_path):
    process = start("echo $$ > pid; kill -STOP $$; exit 0")
    wait_until(lambda: (tmp_path / "pid").is_file() and (tmp_path / "pid").read_text())
    before = time.monotonic()
    time.sleep(1)
    stat = pathlib.Path(f"/proc/{process.pid}/stat").read_text().rpartition(")")[2]
    ticks = sum(map(int, stat.split()[11:13]))
    assert ticks < 50 * (time.monotonic() - before)  # half of a processor
    os.kill(int((tmp_path / "pid").read_text()), signal.SIGCONT)
    process.communicate(timeout=60)
    assert process.returncode == 0


@pytest.mark.parametrize(("status", "told"), [(0, 0), (1, 254), (2, 254), (75, 75)])
def test_a_mistake_of_one_task_is_above_what_kills_the_others(status, told):
    command = [LAUNCH / "task.sh", "bash", "-c", f"exit {status}"]
    assert subprocess.run(command, timeout=60).returncode == told


def test_a_task_passes_signals_on(tmp_path):
    script = f"trap 'kill %1; exit 75' USR1; touch {tmp_path}/begun; sleep 60 & wait"
    process = subprocess.Popen([LAUNCH / "task.sh", "bash", "-c", script])
    wait_until((tmp_path / "begun").is_file)
    process.send_signal(signal.SIGUSR1)
    assert process.wait(60) == 75
