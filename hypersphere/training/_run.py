"""One run: its loop over steps, and the files it leaves at the end."""

import io
import json
import math
import platform
import time
from pathlib import Path
from typing import Any

import flax
import jax
import jax.numpy as jnp
import numpy as np
import optax
from flax import nnx

from hypersphere import __version__, data, viz
from hypersphere.training._checkpoint import Checkpoints
from hypersphere.training._config import TrainConfig
from hypersphere.training._logging import (
    Reporter,
    make_console,
    show_summary,
    write_atomically,
)
from hypersphere.training._step import Program, evaluate_all, features_of

Result = dict[str, Any]

_REMEDY = "Lower `config.optim.learning_rate` in a new --workdir, or look at the data."


class DivergedError(FloatingPointError):
    """Training stopped because a loss or gradient was not finite."""


class Run:
    """A run from its newest checkpoint, or its beginning, to its end.

    Args:
        config: What to train.
        folder: Where its files go.
        dataset: The images.
        program: The compiled functions.
        checkpoints: Where states are kept.
        schedule: The learning rate of each step, to be logged.
    """

    def __init__(
        self,
        config: TrainConfig,
        folder: Path,
        dataset: data.Dataset,
        program: Program,
        checkpoints: Checkpoints,
        schedule: optax.Schedule,
    ):
        self._config, self._folder, self._dataset = config, folder, dataset
        self._program, self._checkpoints, self._schedule = (
            program,
            checkpoints,
            schedule,
        )
        self._images, self._test = jax.device_put((dataset.train, dataset.test))
        self._clock = time.perf_counter()
        self._seconds_before = 0.0
        self._first_window = (0, 0.0)  # examples and seconds, with compilation
        self._examples, self._busy = 0, 0.0  # all others
        self._last_test: dict[str, float] = {}
        self._state = self._begin()

    def advance(self) -> None:
        """Trains to the last step, logging, evaluating and saving on the way."""
        config, start = self._config, int(self._state.step)
        if start >= config.steps:
            return
        chunk = _steps_per_call(config, start)
        with Reporter(
            self._folder, name=self._folder.name, start=start, steps=config.steps
        ) as reporter:
            window: list[Any] = []
            step, mark = start, time.perf_counter()
            while step < config.steps:
                count = min(chunk, config.steps - step)
                window.append(self._train(step, count))
                step += count
                due = {
                    name
                    for name in ("log_every", "eval_every", "checkpoint_every")
                    if step % getattr(config, name) == 0 or step == config.steps
                }
                if not due:
                    continue
                values = self._collect(window, step, mark)
                reporter.trained(step, self._seconds(), values)
                if "eval_every" in due:
                    self._last_test = self._evaluate()
                    reporter.evaluated(step, self._seconds(), self._last_test)
                if "checkpoint_every" in due:
                    self._save(step)
                window, mark = [], time.perf_counter()
            self._checkpoints.wait()

    def finish(self) -> Result:
        """Writes the arrays, pictures and result of a trained model."""
        config, state = self._config, self._state
        test = self._last_test or self._evaluate()
        model = self._program.model(state)
        features = features_of(self._program, state, self._test, config.eval_batch_size)
        arrays = {
            "features": np.asarray(features),
            "labels": self._dataset.test.labels,
            "class_names": np.array(self._dataset.class_names),
            "centres": np.asarray(model.head.kernel[...]),
        }
        _write_arrays(self._folder / "features.npz", arrays)
        _write_arrays(self._folder / "kernels.npz", _kernels(model))
        examples, busy = self._timed()
        result = {
            "test_accuracy": test["accuracy"],
            "test_loss": test["loss"],
            "steps": config.steps,
            "seconds": round(self._seconds(), 2),
            "examples_per_second": round(examples / busy, 1),
            "parameters": sum(leaf.size for leaf in jax.tree.leaves(state.params)),
            "seed": config.seed,
            "device": jax.devices()[0].device_kind,
            "versions": {
                "hypersphere": __version__,
                "jax": jax.__version__,
                "flax": flax.__version__,
                "python": platform.python_version(),
            },
        }
        text = json.dumps(result, indent=2) + "\n"
        write_atomically(self._folder / "result.json", text.encode())
        console = make_console()
        try:
            pictures = viz.draw(self._folder)
        except (ValueError, OSError) as error:
            pictures = []
            console.print(f"No pictures: {error} Once it is mended, they are drawn by")
            console.print(f"python -m hypersphere.viz {self._folder}")
        show_summary(console, result, self._folder, pictures)
        return result

    def _begin(self) -> Any:
        restored = self._checkpoints.restore(jax.eval_shape(self._program.init))
        if restored is None:
            return self._program.init()
        state, meta, complaints = restored
        if meta["dataset"] != self._dataset_facts():
            raise ValueError(
                f"The data have changed since {self._folder} was begun: "
                f"{meta['dataset']} then, {self._dataset_facts()} now. Put them back, "
                "or choose another --workdir."
            )
        self._seconds_before = meta["seconds"]
        self._examples, self._busy = meta["examples"], meta["busy"]
        console = make_console()
        for complaint in complaints:
            console.print(f"Set aside: {complaint}.")
        console.print(f"Resuming {self._folder} at step {int(state.step):,}.")
        return state

    def _train(self, step: int, count: int) -> Any:
        config, size = self._config, len(self._dataset.train.labels)
        indices = [
            data.batch_indices(
                step + i, size=size, batch_size=config.batch_size, seed=config.seed
            )
            for i in range(count)
        ]
        self._state, metrics = self._program.train(
            self._state, *self._images, np.stack(indices)
        )
        return metrics

    def _collect(self, window: list[Any], step: int, mark: float) -> dict[str, float]:
        """Means over the window since a mark, which must be finite."""
        fetched = jax.device_get(window)  # waits for the device
        seconds = time.perf_counter() - mark
        joined = {
            name: np.concatenate([part[name] for part in fetched])
            for name in fetched[0]
        }
        count = len(joined["loss"])
        for name in ("loss", "grad_norm"):
            wrong = np.flatnonzero(~np.isfinite(joined[name]))
            if len(wrong):
                first = step - count + int(wrong[0]) + 1
                saved = self._checkpoints.steps()
                last = f"step {saved[-1]:,}" if saved else "none yet"
                raise DivergedError(
                    f"The {name.replace('_', ' ')} was not finite at step {first:,} "
                    f"(in steps {step - count + 1:,} to {step:,}). The last good "
                    f"checkpoint is kept: {last}. {_REMEDY}"
                )
        examples = count * self._config.batch_size
        if self._first_window[0] == 0:
            self._first_window = (examples, seconds)
        else:
            self._examples += examples
            self._busy += seconds
        means = {name: float(np.mean(values)) for name, values in joined.items()}
        return means | {
            "learning_rate": float(jnp.asarray(self._schedule(step - 1))),
            "examples_per_second": round(examples / seconds, 1),
        }

    def _evaluate(self) -> dict[str, float]:
        size = self._config.eval_batch_size
        return evaluate_all(self._program, self._state, self._test, size)

    def _save(self, step: int) -> None:
        examples, busy = self._timed()
        meta = {
            "seconds": self._seconds(),
            "examples": examples,
            "busy": busy,
            "dataset": self._dataset_facts(),
        }
        try:
            self._checkpoints.save(step, self._state, meta)
        except FloatingPointError as error:
            raise DivergedError(f"{error} {_REMEDY}") from error

    def _dataset_facts(self) -> dict[str, Any]:
        return {
            "name": self._dataset.name,
            "image_shape": list(self._dataset.image_shape),
            "num_classes": self._dataset.num_classes,
            "train": len(self._dataset.train.labels),
            "test": len(self._dataset.test.labels),
        }

    def _timed(self) -> tuple[int, float]:
        """Examples and seconds, without the compiling window if there are others."""
        if self._examples:
            return self._examples, self._busy
        return self._first_window

    def _seconds(self) -> float:
        return self._seconds_before + time.perf_counter() - self._clock


def _write_arrays(path: Path, arrays: dict[str, np.ndarray]) -> None:
    buffer = io.BytesIO()
    savez: Any = np.savez  # its annotation takes an array for a flag
    savez(buffer, **arrays)
    write_atomically(path, buffer.getvalue())


def _kernels(model: nnx.Module) -> dict[str, np.ndarray]:
    """The kernels of all convolutions, in the order in which they are applied."""
    found = {
        path: np.asarray(module.kernel[...])
        for path, module in nnx.iter_modules(model)
        if isinstance(module, nnx.Conv)
    }
    in_order = sorted(found, key=lambda path: (-len(path), path))  # stages come first
    return {".".join(map(str, path)): found[path] for path in in_order}


def _steps_per_call(config: TrainConfig, start: int) -> int:
    """One on a CPU; else the most that every cadence is a multiple of."""
    if jax.default_backend() == "cpu":
        return 1
    whole = math.gcd(
        config.log_every, config.eval_every, config.checkpoint_every, start
    )
    most = min(whole, config.max_steps_per_call)
    return max(n for n in range(1, most + 1) if whole % n == 0)
