"""What a run consists of: its data, its program, and what it is evaluated on."""

import contextlib
import zlib
from pathlib import Path
from typing import Any, NamedTuple

import jax
from flax import nnx
from jax.sharding import Mesh

import hypersphere
from hypersphere.training.compute import _build
from hypersphere.training.compute._check_parts import check_parts
from hypersphere.training.compute._moments import CALIBRATED
from hypersphere.training.compute._parts import (
    Images,
    MakeParts,
    Parts,
    made,
    told,
)
from hypersphere.training.compute._penalty import check_penalty
from hypersphere.training.compute._program import Program
from hypersphere.training.compute._step import Task
from hypersphere.training.machine import _mesh
from hypersphere.training.machine._distributed import refuse_different
from hypersphere.training.run._cadence import Evaluator
from hypersphere.training.run._feed import (
    Feed,
    OwnData,
    Say,
    Split,
    eval_size,
    make_feed,
)
from hypersphere.training.settings._check import check, check_cadences
from hypersphere.training.settings._config import TrainConfig
from hypersphere.training.settings._durations import resolve
from hypersphere.training.settings._evaluation import PARTS, Evaluation
from hypersphere.training.settings._text import flat, from_json, to_json


class Setup(NamedTuple):
    """What a run consists of before anything is compiled.

    Args:
        config: The config, its durations in steps.
        feed: The images.
        evaluators: What to evaluate on.
        program: The functions, not compiled yet.
        own: What a checkpoint says of the parts that are not the config's.
    """

    config: TrainConfig
    feed: Feed
    evaluators: dict[str, Evaluator]
    program: Program
    own: dict[str, Any]


def prepare(
    config: TrainConfig,
    say: Say,
    *,
    mesh: Mesh | None = None,
    parts: Parts | MakeParts | None = None,
    dataset: OwnData | None = None,
) -> Setup:
    """Opens the data of a config and builds its program, on all devices or a mesh."""
    if jax.process_count() > 1:
        refuse_different(_agreed(config))
    mesh = mesh or _mesh.make_mesh(config.mesh)
    _mesh.check_batch(mesh, config.batch_size, config.accumulate)
    feed = make_feed(config, mesh, say, dataset=dataset)
    refuse_different({f"data: {k}": v for k, v in feed.images.facts().items()})
    config = resolve(config, feed.images.train)
    check_cadences(config)
    evaluators = _make_evaluators(config, mesh, feed, say)
    own = made(parts, config, feed.images)
    program = make_program(config, mesh, feed.images, own, feed.labels)
    _check_calibrated(evaluators, program)
    given = (*own.given, *(["dataset"] if dataset is not None else []))
    if given:
        say(f"Not as the config says, but its own: {', '.join(given)}.")
    if config.head.level != "full":
        say(
            f"No accuracy of training batches at config.head.level={config.head.level}:"
            " it would cost as much as the loss."
        )
    return Setup(config, feed, evaluators, program, told(parts, given))


# Where the files are and how they are read may be another thing on each host.
_OF_EACH_HOST = {"data.data_dir", "data.threads", "data.workers", "data.max_bad"}


def _agreed(config: TrainConfig) -> dict[str, Any]:
    """What all processes of a run need to have in common."""
    fields = flat(from_json(to_json(config)))
    told = {f"config.{k}": v for k, v in fields.items() if k not in _OF_EACH_HOST}
    return told | {"the version of jax": jax.__version__, "the code": _code()}


def _code() -> str:
    """A checksum of this package's files."""
    files = sorted(Path(hypersphere.__file__).parent.rglob("*.py"))
    return f"{zlib.crc32(b''.join(file.read_bytes() for file in files)):08x}"


def resolved(config: TrainConfig, dataset: OwnData | None = None) -> TrainConfig:
    """A config as a run would store it, its durations in steps."""
    config = check(config, own_model=True, own_data=dataset is not None)
    feed = make_feed(config, _mesh.make_mesh(config.mesh), print, dataset=dataset)
    with contextlib.closing(feed):
        return resolve(config, feed.images.train)


def make_program(
    config: TrainConfig,
    mesh: Mesh,
    images: Images,
    own: Parts | None = None,
    labels: Any = None,
) -> Program:
    """The functions of a run, of its config's parts and of those of its own.

    Those of its own are checked where it is known what the `labels` are.
    """
    parts = _build.complete(own or Parts(), config, images)
    is_usual = images.num_classes and images.dtype == "uint8"
    if config.optim.penalties or (own is not None and own.make_model is not None):
        check_penalty(nnx.eval_shape(parts.make_model), config.optim)
    if labels is not None and (not is_usual or (own and own.given)):
        check_parts(parts, images, labels, config.batch_size)
    return Program(Task(parts, config, mesh))


def _make_evaluators(
    config: TrainConfig, mesh: Mesh, feed: Feed, say: Say
) -> dict[str, Evaluator]:
    usual = ["test"] + ["validation"] * bool(feed.images.validation)
    every = config.eval_every
    evaluators = {name: Evaluator(feed.split(name), every) for name in usual}
    for entry in config.evaluators:
        mixed = entry.statistics == "batch"
        if entry.source in PARTS:
            if entry.source == "validation":
                _check_validation(entry, feed.images)
            most = entry.most or (feed.images.test if entry.source == "train" else None)
            split = feed.split(entry.source, most=most, mixed=mixed)
        else:
            other = make_feed(
                config, mesh, say, entry.source, class_names=feed.class_names
            )
            _check_same_kind(entry.source, other.images, feed.images)
            split = other.split("test", most=entry.most or None, mixed=mixed)
        calibration = None
        if entry.statistics == "recalibrated":
            calibration = _calibration(config, feed)
        evaluators[entry.name] = Evaluator(
            split, int(entry.every), entry.statistics, calibration
        )
    return evaluators


def _calibration(config: TrainConfig, feed: Feed) -> Split:
    """Training images in full batches, each of which has of all the set."""
    most = min(CALIBRATED, feed.images.train)
    batch_size = eval_size(feed, most)
    return feed.split("train", most=most // batch_size * batch_size, mixed=True)


def _check_calibrated(evaluators: dict[str, Evaluator], program: Program) -> None:
    """Raises where statistics are asked for that the model does not have."""
    found = [name for name, each in evaluators.items() if each.calibration]
    if found and not program.task.has_batch_norm:
        raise ValueError(
            f"`config.evaluators` has '{found[0]}', which needs batch normalization "
            "(`nnx.BatchNorm`), and the model has none. Leave `@recalibrated` out."
        )


def _check_validation(entry: Evaluation, images: Images) -> None:
    if not images.validation:
        raise ValueError(
            f"`config.evaluators` has '{entry}', and there are no validation images. "
            "Hold some back: `config.data.validation_fraction=0.1`."
        )


def _check_same_kind(name: str, there: Images, here: Images) -> None:
    """Raises unless a model for the images here can be judged on those there."""
    same_shape = there.image_shape == here.image_shape and there.dtype == here.dtype
    if bool(there.num_classes) != bool(here.num_classes) or not same_shape:
        raise ValueError(
            "`config.evaluators` needs images of the shape and of the classes that are "
            f"trained on, {list(here.image_shape)} and {here.num_classes}, got "
            f"{list(there.image_shape)} and {there.num_classes} in {name}."
        )
