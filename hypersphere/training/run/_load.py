"""`load`: from a run's folder to its trained model."""

import contextlib
import os
import warnings
from pathlib import Path
from typing import Any, NamedTuple

import jax
from flax import nnx

from hypersphere import nn
from hypersphere.training.checkpoints._checkpoint import Checkpoints
from hypersphere.training.compute._parts import (
    Images,
    MakeParts,
    Parts,
    made,
    refuse_missing,
)
from hypersphere.training.compute._program import Program
from hypersphere.training.compute._step import TrainState
from hypersphere.training.machine import _mesh
from hypersphere.training.run._setup import make_program
from hypersphere.training.run._workdir import stored
from hypersphere.training.settings._config import MeshConfig, TrainConfig


class Loaded(NamedTuple):
    """A trained model in evaluation mode, and the config it was trained with."""

    model: nnx.Module
    config: TrainConfig


def load(
    workdir: str | os.PathLike[str],
    *,
    best: bool = False,
    parts: Parts | MakeParts | None = None,
) -> Loaded:
    """The trained model of a run's folder, from its newest checkpoint.

    Args:
        workdir: The folder that `train` was given.
        best: Whether to take the checkpoint of the best test accuracy instead, of those
            that `config.keep_best` has kept.
        parts: What `train` was given as `parts`.

    Returns:
        The model, in evaluation mode, with the averaged weights where there are any,
        and the config. The model takes float images as
        `data.normalize(images, mean=config.data.mean, std=config.data.std)` makes them.

    Raises:
        FileNotFoundError: If there is no run in the folder, or no checkpoint yet.
        OSError: If every checkpoint is damaged.
        ValueError: If the run has parts of its own, and none are given.

    Example:
        >>> from hypersphere import training
        >>> model, config = training.load("runs/quickstart")  # doctest: +SKIP
    """
    program, state, config = restored(workdir, best=best, parts=parts)
    model = program.task.model(state)
    _drop_padding(getattr(model, "head", None))
    return Loaded(model, config)


def _drop_padding(head: Any) -> None:
    """Leaves out the columns that filled a head up to a number of devices."""
    if isinstance(head, nn.AngularHead) and head.shards > 1:
        head.kernel = nnx.Param(head.class_centres)
        head.shards = 1


def restored(
    workdir: str | os.PathLike[str],
    *,
    best: bool = False,
    parts: Parts | MakeParts | None = None,
) -> tuple[Program, TrainState, TrainConfig]:
    """What a run computes and its state, on one device; as `load` otherwise."""
    folder = Path(workdir).expanduser()
    config = stored(folder).config
    if config is None:
        raise FileNotFoundError(
            f"`load` needs the folder of a run, got `workdir={str(workdir)!r}`, which "
            "has no config.json. It is what the run was given as --workdir."
        )
    mesh = _mesh.make_mesh(MeshConfig(), jax.local_devices()[:1])
    with contextlib.closing(Checkpoints(folder, read_only=True)) as checkpoints:
        meta = checkpoints.meta()
        given = ["dataset", *([] if parts is None else ["parts"])]  # no data needed
        refuse_missing(meta.get("own", {}), given)
        images = Images.of(meta["dataset"])
        program = make_program(config, mesh, images, made(parts, config, images))
        step = checkpoints.best_step() if best else None
        found = checkpoints.restore(program.template, step=step, padded=program.padded)
    if found is None:
        raise FileNotFoundError(f"There is no whole checkpoint in {folder}.")
    for complaint in found.complaints:
        warnings.warn(
            f"In {folder} {complaint}; an older one was loaded.", stacklevel=3
        )
    return program, found.state, config
