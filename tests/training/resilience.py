"""Runs of train.py in processes of their own, that tests stop, kill and compare."""

import json
import os
import pathlib
import signal
import socket
import subprocess
import sys
import time
from typing import NamedTuple

import jax
import numpy as np
import orbax.checkpoint as ocp
from PIL import Image

ROOT = pathlib.Path(__file__).parents[2]
CACHE = (
    ROOT / ".cache" / "resilience"
)  # its own: killed runs leave half-written entries
UNOPTIMIZED = "JAX_DISABLE_MOST_OPTIMIZATIONS"  # as the test itself compiles
SMALL = [
    "--config=configs/quickstart.py",
    "--config.data.source=synthetic:8x8x1,classes=2,examples=64",
    "--config.data.pad=1",
    "--config.batch_size=8",
    "--config.log_every=1",
    "--config.eval_every=100",
    "--config.checkpoint_every=20",
    "--config.model.width=0.02",
    "--config.model.depth=3",
]


def streamed(folder):
    """The arguments to decode 96 PNG images of three classes while training."""
    generator = np.random.default_rng(7)
    for index in range(96):
        name = folder / "abc"[index % 3] / f"{index}.png"
        name.parent.mkdir(parents=True, exist_ok=True)
        shape = (*generator.integers(10, 20, 2), 3)
        pixels = generator.integers(0, 80, shape) + 80 * (index % 3)
        Image.fromarray(pixels.astype(np.uint8)).save(name)
    source = f"--config.data.source=folder:{folder}"
    return [source, "--config.data.stream", "--config.data.image_size=8"]


class Outcome(NamedTuple):
    """What a finished run has come to; equal if and only if every bit is."""

    losses: dict
    arrays: dict
    accuracy: float
    loss: float


class Process(subprocess.Popen):
    """A run, and where its words go."""

    log: str = ""


def start(workdir, *arguments, devices=1, log=None, environment=None):
    """A run in a process group of its own, its words in files beside its folder."""
    flags = f"--xla_force_host_platform_device_count={devices}"
    given = {
        "PATH": "/usr/bin:/bin",
        "HOME": str(ROOT),
        "JAX_PLATFORMS": "cpu",
        "JAX_COMPILATION_CACHE_DIR": str(CACHE),
        "XLA_FLAGS": flags,
        UNOPTIMIZED: os.environ[UNOPTIMIZED],
    }
    log = f"{log or workdir}.{time.monotonic_ns()}"
    with open(f"{log}.out", "w") as out, open(f"{log}.err", "w") as err:
        process = Process(
            [sys.executable, "train.py", *SMALL, *arguments, f"--workdir={workdir}"],
            cwd=ROOT,
            stdout=out,
            stderr=err,
            start_new_session=True,
            env=given | (environment or {}),
        )
    process.log = log
    return process


class Done(NamedTuple):
    """How a run has ended: its exit status, negative after a kill, and its words."""

    status: int
    out: str
    err: str


def ended(process, seconds=180):
    """Waits for the end of a run, and for what it has said."""
    try:
        status = process.wait(seconds)
    except subprocess.TimeoutExpired:
        kill(process)
        told = said(process)[-2000:]
        raise AssertionError(f"the run has not ended in {seconds} s: {told}") from None
    read = [pathlib.Path(f"{process.log}.{x}").read_text() for x in ("out", "err")]
    return Done(status, *read)


def said(process):
    """What a run has said so far."""
    return pathlib.Path(process.log + ".out").read_text()


def run(workdir, *arguments, **options):
    """A run from its start to its end."""
    return ended(start(workdir, *arguments, **options))


def kill(process):
    """Kills a run with all processes it has started, as when a machine goes down."""
    os.killpg(process.pid, signal.SIGKILL)
    return process.wait()


def wait_until(condition, process, seconds=180):
    """Whether a condition came about; False if the run ended before."""
    end = time.monotonic() + seconds
    while not condition():
        if process.poll() is not None:
            return False
        assert time.monotonic() < end, f"it did not come about within {seconds} s"
        time.sleep(0.002)
    return True


def logged(workdir):
    """(split, step) to loss and accuracy, of every whole line; none comes twice."""
    file = workdir / "metrics.jsonl"
    if not file.is_file():
        return {}
    text = file.read_text()
    lines = [json.loads(x) for x in text[: text.rfind("\n") + 1].splitlines()]
    found = {(x["split"], x["step"]): (x["loss"], x["accuracy"]) for x in lines}
    assert len(found) == len(lines)
    return found


def last_step(workdir):
    """The last step in the log, 0 before the first one."""
    return max((step for _, step in logged(workdir)), default=0)


def saved(workdir):
    """The steps of all checkpoints that look whole."""
    names = [path.name for path in (workdir / "checkpoints").glob("*")]
    return sorted(int(name) for name in names if name.isdigit())


def arrays(workdir, step=None):
    """The bytes of every array of a checkpoint, read by Orbax alone."""
    step = max(saved(workdir)) if step is None else step
    folder = workdir / "checkpoints" / str(step) / "state"
    handler = ocp.PyTreeCheckpointHandler()
    tree = handler.metadata(folder).tree
    how = jax.tree.map(lambda _: ocp.RestoreArgs(restore_type=np.ndarray), tree)
    read = handler.restore(folder, args=ocp.args.PyTreeRestore(restore_args=how))
    leaves, _ = jax.tree_util.tree_flatten_with_path(read)
    return {jax.tree_util.keystr(k): np.asarray(leaf).tobytes() for k, leaf in leaves}


def outcome(workdir):
    """What a finished run has come to."""
    result = json.loads((workdir / "result.json").read_text())
    assert max(saved(workdir)) == result["steps"]
    accuracy, loss = result["test_accuracy"], result["test_loss"]
    return Outcome(logged(workdir), arrays(workdir), accuracy, loss)


def free_port():
    """A port that nobody listens at now."""
    with socket.socket() as listener:
        listener.bind(("127.0.0.1", 0))
        return listener.getsockname()[1]
