"""`train`: from a config and a folder to a trained model, and back by `load`."""

import contextlib
import dataclasses
import functools
import json
import os
import warnings
from pathlib import Path
from typing import NamedTuple

import jax
import numpy as np
from flax import nnx

from hypersphere import data, viz
from hypersphere.training import _build, _step
from hypersphere.training._checkpoint import Checkpoints
from hypersphere.training._config import TrainConfig, check, flat, from_json, to_json
from hypersphere.training._logging import (
    make_console,
    show_summary,
    write_atomically,
)
from hypersphere.training._run import Result, Run

# What a resumed run may have different: none of it changes what is learned.
FREE_TO_CHANGE = {
    "data.data_dir",
    "eval_batch_size",
    "log_every",
    "eval_every",
    "checkpoint_every",
    "keep",
}


class Loaded(NamedTuple):
    """A trained model in evaluation mode, and the config it was trained with."""

    model: nnx.Module
    config: TrainConfig


def train(config: TrainConfig, workdir: str | os.PathLike[str]) -> Result:
    """Trains what a config describes, or goes on where a folder's run has stopped.

    Args:
        config: What to train.
        workdir: The run's folder; made if need be. Called again with the same config
            it resumes at the newest checkpoint, and a finished run is returned as it
            is. The folder gets `config.json`, `metrics.jsonl`, TensorBoard events,
            `checkpoints/`, `kernels.npz`, `features.npz`, `plots/*.png` and
            `result.json`.

    Returns:
        What `result.json` holds: `test_accuracy` in [0, 1] and `test_loss` in nats of
        the last evaluation, `steps`, `seconds` of training with compilation and
        evaluations, `examples_per_second` without them, `parameters` and versions.

    Raises:
        ValueError: If the config is wrong, its data are broken, or `workdir` belongs to
            another config.
        FileNotFoundError: If the data are not there.
        DivergedError: If a loss or a gradient is not finite. The last checkpoint is
            from before.
        OSError: If every checkpoint of the folder is damaged.

    Example:
        >>> import tempfile
        >>> from hypersphere import training
        >>> config = training.TrainConfig(steps=2, batch_size=8)
        >>> config.data.source = "synthetic:8x8x1,classes=2,examples=32"
        >>> config.model.depth, config.model.width = 3, 1 / 64
        >>> with tempfile.TemporaryDirectory() as folder:  # doctest: +SKIP
        ...     training.train(config, folder)["steps"]
        2
    """
    folder = Path(workdir)
    check(config)
    _refuse_another_config(folder, config)
    if config.compare:
        return _compare(config, folder)
    if (folder / "result.json").is_file():
        result = json.loads((folder / "result.json").read_text(encoding="utf-8"))
        console = make_console()
        console.print(f"{folder} is finished; delete it to train anew.")
        show_summary(console, result, folder, sorted((folder / "plots").glob("*.png")))
        return result
    schedule = _build.make_schedule(config.optim, config.steps)
    make_program = functools.partial(
        _step.make_program,
        loss=_build.make_loss(config.loss),
        optimizer=_build.make_optimizer(config.optim, schedule),
        config=config,
    )
    dataset = data.load(
        config.data.source,
        data_dir=config.data.data_dir,
        image_size=config.data.image_size,
        test_fraction=config.data.test_fraction,
        seed=config.seed,
    )
    data.check_batch_size(config.batch_size, len(dataset.train.labels))
    shape = {"image_shape": dataset.image_shape, "num_classes": dataset.num_classes}
    program = make_program(lambda: _build.make_model(config, **shape))
    write_atomically(folder / "config.json", to_json(config).encode())
    with contextlib.closing(Checkpoints(folder, keep=config.keep)) as checkpoints:
        run = Run(config, folder, dataset, program, checkpoints, schedule)
        run.advance()
        return run.finish()


def load(workdir: str | os.PathLike[str]) -> Loaded:
    """The trained model of a run's folder, from its newest checkpoint.

    Args:
        workdir: The folder that `train` was given.

    Returns:
        The model, in evaluation mode, and the config. The model takes float images as
        `data.normalize(images, mean=config.data.mean, std=config.data.std)` makes them.

    Raises:
        FileNotFoundError: If there is no run in the folder, or no checkpoint yet.
        OSError: If every checkpoint is damaged.

    Example:
        >>> from hypersphere import training
        >>> model, config = training.load("runs/quickstart")  # doctest: +SKIP
    """
    folder = Path(workdir)
    file = folder / "config.json"
    if not file.is_file():
        raise FileNotFoundError(
            f"`load` needs the folder of a run, got `workdir={str(workdir)!r}`, which "
            "has no config.json. It is what the run was given as --workdir."
        )
    config = from_json(file.read_text(encoding="utf-8"))
    if config.compare:
        raise ValueError(
            f"{folder} holds one run for each of {', '.join(config.compare)}: load one "
            f"of them, such as {folder / config.compare[0]}."
        )
    checkpoints = Checkpoints(folder, read_only=True)
    with contextlib.closing(checkpoints):
        shape = checkpoints.meta()["dataset"]
        program = _step.make_program(
            lambda: _build.make_model(
                config,
                image_shape=tuple(shape["image_shape"]),
                num_classes=shape["num_classes"],
            ),
            _build.make_loss(config.loss),
            _build.make_optimizer(
                config.optim, _build.make_schedule(config.optim, config.steps)
            ),
            config,
        )
        restored = checkpoints.restore(jax.eval_shape(program.init))
    assert restored is not None  # noqa: S101  `meta` has found a checkpoint
    state, _, complaints = restored
    for complaint in complaints:
        warnings.warn(
            f"In {folder} {complaint}; an older one was loaded.", stacklevel=2
        )
    return Loaded(program.model(state), config)


def _refuse_another_config(folder: Path, config: TrainConfig) -> None:
    """Raises if the folder holds work of another config, which would be mixed up."""
    file = folder / "config.json"
    if not file.is_file():
        return
    try:
        there = flat(from_json(file.read_text(encoding="utf-8")))
    except ValueError as error:
        raise ValueError(f"{file} cannot be read: {error}") from error
    differences = [
        f"config.{name} is {there[name]!r} there and {value!r} now"
        for name, value in flat(from_json(to_json(config))).items()
        if there[name] != value and name not in FREE_TO_CHANGE
    ]
    if differences:
        raise ValueError(
            f"{folder} belongs to another config: {'; '.join(differences)}. Choose "
            "another --workdir, or delete this one to start anew."
        )


def _compare(config: TrainConfig, folder: Path) -> Result:
    """Trains once with each loss, and draws the features side by side."""
    if config.model.feature_dim != 2:
        raise ValueError(
            "`config.compare` draws features in the plane and needs "
            f"`config.model.feature_dim=2`, got {config.model.feature_dim}."
        )
    singles = {}
    for name in config.compare:  # a mistake is found before the first run
        loss = dataclasses.replace(config.loss, name=name)
        _build.make_loss(loss)
        singles[name] = dataclasses.replace(config, compare=(), loss=loss)
        check(singles[name])
    runs = {}
    for name, single in singles.items():
        runs[name] = train(single, folder / name)
        write_atomically(folder / "config.json", to_json(config).encode())
    picture = folder / "plots" / "features.png"
    viz.draw_comparison({name: folder / name for name in runs}, picture)
    result = {
        "test_accuracy": float(np.mean([r["test_accuracy"] for r in runs.values()])),
        "steps": sum(r["steps"] for r in runs.values()),
        "seconds": sum(r["seconds"] for r in runs.values()),
        "examples_per_second": float(
            np.mean([r["examples_per_second"] for r in runs.values()])
        ),
        "parameters": sum(r["parameters"] for r in runs.values()),
        "runs": runs,
    }
    write_atomically(folder / "result.json", json.dumps(result, indent=2).encode())
    make_console().print(f"Side by side: {picture}")
    return result
