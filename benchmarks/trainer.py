"""What the training program adds to its steps, as JSON.

python benchmarks/trainer.py                      # everything, some minutes
python benchmarks/trainer.py loop dispatch        # only these
"""

import argparse
import contextlib
import json
import os
import pathlib
import random
import statistics
import subprocess
import sys
import tempfile
import time
from collections.abc import Iterator
from typing import Any

import jax
import jax.numpy as jnp
import numpy as np
from _measure import setting

from hypersphere import training
from hypersphere.training.checkpoints._checkpoint import Checkpoints
from hypersphere.training.run import _cadence, _run, _setup, _stepper

ROOT = pathlib.Path(__file__).parents[1]
NEVER = 10**9


def quiet(line: Any) -> None:
    """Says nothing."""
    del line


def network(steps: int, **model: Any) -> training.TrainConfig:
    """A run on images from a seed, without evaluations and checkpoints."""
    config = training.TrainConfig(steps=steps, batch_size=64, log_every=50)
    config.eval_every = config.checkpoint_every = NEVER
    config.data.source = "synthetic:28x28x1,classes=10,examples=1024"
    config.data.pad = 2
    for name, value in model.items():
        setattr(config.model, name, value)
    return config


@contextlib.contextmanager
def run_of(config: training.TrainConfig) -> Iterator[_run.Run]:
    """A run in a folder of its own, without what comes at its end."""
    setup = _setup.prepare(config, quiet)
    with tempfile.TemporaryDirectory() as folder, open(os.devnull, "w") as nowhere:
        checkpoints = Checkpoints(pathlib.Path(folder))
        with contextlib.redirect_stdout(nowhere), contextlib.closing(checkpoints):
            yield _run.Run(
                setup.config,
                pathlib.Path(folder),
                setup.feed,
                {},
                setup.program,
                checkpoints,
            )


def bare(config: training.TrainConfig) -> float:
    """Seconds per step of the compiled call alone, the same batches each time."""
    setup = _setup.prepare(config, quiet)
    count = _cadence.steps_per_call(setup.config, {}, 0)
    state, batches = setup.program.init(), setup.feed.take(0, count)
    state, _ = setup.program.train(state, *batches)
    jax.block_until_ready(state)
    calls = max(1, setup.config.steps // count)
    start = time.perf_counter()
    for _ in range(calls):
        state, _ = setup.program.train(state, *batches)
    jax.block_until_ready(state)
    return (time.perf_counter() - start) / (calls * count)


def looped(config: training.TrainConfig) -> float:
    """Seconds per step of a run, logging included, from its first call to its last."""
    marks: list[tuple[int, float]] = []
    advance, save = _stepper.Stepper.advance, _run.Run._save

    def timed(self: _stepper.Stepper, count: int) -> Any:
        metrics = advance(self, count)
        if not marks or self.step == config.steps:
            jax.block_until_ready(metrics)
            marks.append((self.step, time.perf_counter()))
        return metrics

    _stepper.Stepper.advance, _run.Run._save = timed, _enough
    try:
        with run_of(config) as run, contextlib.suppress(_Enough):
            run.advance()
    finally:
        _stepper.Stepper.advance, _run.Run._save = advance, save
    (first, start), (last, end) = marks
    return (end - start) / (last - first)


class _Enough(Exception):
    """The last step has been made."""


def _enough(self: _run.Run) -> None:
    raise _Enough


def measure_loop(rounds: int) -> dict[str, Any]:
    """The loop against the bare step, for two sizes of steps."""
    rows = []
    for name, model, steps in (
        ("quickstart", dict(depth=3, width=3 / 16), 300),
        ("SphereNet-9, width 1/8", dict(depth=9, width=1 / 8), 150),
    ):
        config = network(steps, **model)
        bare(config)  # what is measured does not compile
        pairs = [(bare(config), looped(config)) for _ in range(rounds)]
        rows.append(
            {
                "name": name,
                "step_ms": round(1e3 * statistics.median(a for a, _ in pairs), 3),
                "ratio": round(statistics.median(b / a for a, b in pairs), 3),
                "added_ms": round(1e3 * statistics.median(b - a for a, b in pairs), 3),
            }
        )
    return {"rounds": rounds, "rows": rows}


def measure_dispatch(rounds: int) -> dict[str, Any]:
    """Milliseconds of the calling thread per call of the compiled step, 248 arrays.

    Its own processor time: on a CPU the step itself runs on other threads. A call that
    only adds one to every array shows what is due to the arrays alone.
    """
    config = network(1, depth=30, width=1 / 64)
    config.batch_size, config.optim.name = 8, "sgd"
    setup = _setup.prepare(config, quiet)
    batches = setup.feed.take(0, 1)
    add = jax.jit(lambda s: (jax.tree.map(lambda x: x + 1, s), 0), donate_argnums=0)
    return {
        "arrays": len(jax.tree.leaves(setup.program.template)),
        "calls": _CALLS * rounds,
        "milliseconds": _dispatch(
            lambda s: setup.program.train(s, *batches), setup.program.init(), rounds
        ),
        "milliseconds_of_an_addition": _dispatch(add, setup.program.init(), rounds),
    }


_CALLS = 20


def _dispatch(call: Any, state: Any, rounds: int) -> float:
    times = []
    for _ in range(rounds + 1):
        start = time.thread_time()
        for _ in range(_CALLS):
            state, _ = call(state)
        times.append((time.thread_time() - start) / _CALLS)
        jax.block_until_ready(state)
    return round(1e3 * statistics.median(times[1:]), 3)


def measure_checkpoints(rounds: int) -> dict[str, Any]:
    """How long `save` blocks, and how many flipped bits are noticed."""
    leaves, megabytes = 25, 100

    @jax.jit
    def fill(key: jax.Array) -> dict[str, jax.Array]:
        size = megabytes * 1_000_000 // 4 // leaves
        return {
            f"w{i}": jax.random.normal(jax.random.fold_in(key, i), (size // 1000, 1000))
            for i in range(leaves)
        }

    step = jax.jit(lambda state: jax.tree.map(lambda x: x + 1, state), donate_argnums=0)
    blocked, committed = [], []
    with tempfile.TemporaryDirectory() as folder:
        with contextlib.closing(Checkpoints(pathlib.Path(folder))) as checkpoints:
            state = jax.block_until_ready(fill(jax.random.key(0)))
            for i in range(rounds + 1):
                start = time.perf_counter()
                checkpoints.save(i, state, {})
                blocked.append(time.perf_counter() - start)
                state = step(state)
                checkpoints.wait()
                committed.append(time.perf_counter() - start)
                jax.block_until_ready(state)
    scale = 100 / megabytes
    return {
        "megabytes": megabytes,
        "saves": rounds,
        "blocked_ms_per_100_mb": round(1e3 * scale * statistics.median(blocked[1:]), 2),
        "committed_s_per_100_mb": round(scale * statistics.median(committed[1:]), 3),
        "flips": measure_flips(64),
    }


def measure_flips(count: int) -> dict[str, int]:
    """Flips single bits in the files of a checkpoint, one at a time."""
    draw = random.Random(0)
    state = {"w": jnp.asarray(np.random.default_rng(0).normal(size=(64, 512)))}
    template = jax.eval_shape(lambda: state)
    noticed = harmless = 0
    with tempfile.TemporaryDirectory() as name:
        folder = pathlib.Path(name)
        with contextlib.closing(Checkpoints(folder)) as checkpoints:
            checkpoints.save(1, state, {})
            checkpoints.wait()
        files = [path for path in folder.rglob("*") if path.is_file()]
        sizes = [path.stat().st_size for path in files]
        for _ in range(count):
            (file,) = draw.choices(files, sizes)
            before = file.read_bytes()
            after = bytearray(before)
            after[draw.randrange(len(after))] ^= 1 << draw.randrange(8)
            file.write_bytes(after)
            try:
                with contextlib.closing(Checkpoints(folder, read_only=True)) as again:
                    restored = again.restore(template)
                same = restored and np.array_equal(restored.state["w"], state["w"])
                harmless += bool(same)
                noticed += restored is None
            except (OSError, ValueError):
                noticed += 1
            file.write_bytes(before)
    return {
        "bits": count,
        "noticed": noticed,
        "same_values": harmless,
        "silently_wrong": count - noticed - harmless,
    }


def measure_start(rounds: int) -> dict[str, Any]:
    """Seconds of whole processes: the help, the imports, the first step."""
    help_, imports, first = [], [], []
    code = "import hypersphere.training, sys; sys.exit('tensorflow' in sys.modules)"
    with tempfile.TemporaryDirectory() as cache:
        environment = os.environ | {"JAX_COMPILATION_CACHE_DIR": cache}
        for _ in range(rounds + 1):
            help_.append(_seconds([sys.executable, "train.py", "--help"], environment))
            imports.append(_seconds([sys.executable, "-c", code], environment))
            first.append(_first_step(environment))
    return {
        "rounds": rounds,
        "help_seconds": round(statistics.median(help_[1:]), 2),
        "import_seconds": round(statistics.median(imports[1:]), 2),
        "first_step_seconds": round(statistics.median(first[1:]), 2),
        "first_step_seconds_without_cache": round(first[0], 2),
    }


def _seconds(command: list[str], environment: dict[str, str]) -> float:
    start = time.perf_counter()
    done = subprocess.run(command, cwd=ROOT, capture_output=True, env=environment)
    if done.returncode and "--help" not in command:  # absl's help ends with 1
        raise RuntimeError(done.stderr.decode())
    return time.perf_counter() - start


def _first_step(environment: dict[str, str]) -> float:
    """From the start of the quickstart to the line that tells of its first step."""
    with tempfile.TemporaryDirectory() as folder:
        command = [sys.executable, "train.py", "--config=configs/quickstart.py"]
        command += [f"--workdir={folder}", "--config.log_every=1"]
        start = time.perf_counter()
        process = subprocess.Popen(
            command, cwd=ROOT, env=environment, stdout=subprocess.PIPE, text=True
        )
        assert process.stdout is not None  # noqa: S101
        for line in process.stdout:
            if line.startswith("step 1 "):
                break
        else:
            raise RuntimeError(f"There was no first step: {command}")
        seconds = time.perf_counter() - start
        process.kill()
        process.wait()
        process.stdout.close()
    return seconds


PARTS = {
    "loop": measure_loop,
    "dispatch": measure_dispatch,
    "checkpoints": measure_checkpoints,
    "start": measure_start,
}


def main() -> None:
    """Prints what was asked for."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("parts", nargs="*", help=f"of {', '.join(PARTS)}; all if none")
    parser.add_argument("--rounds", type=int, default=7)
    options = parser.parse_args()
    if unknown := set(options.parts) - set(PARTS):
        parser.error(f"there is no {', '.join(unknown)}, only {', '.join(PARTS)}")
    answers = {part: PARTS[part](options.rounds) for part in options.parts or PARTS}
    print(json.dumps({**setting(rounds=options.rounds), **answers}, indent=2))


if __name__ == "__main__":
    main()
