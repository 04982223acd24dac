"""`train`: from a config and a folder to a trained model, and back by `load`."""

import contextlib
import dataclasses
import fcntl
import functools
import json
import os
import tempfile
import warnings
from collections.abc import Iterator
from pathlib import Path
from typing import Any, NamedTuple

import jax
import numpy as np
from flax import nnx
from jax.sharding import Mesh

from hypersphere.training import _build, _mesh, _optim
from hypersphere.training._checkpoint import Checkpoints
from hypersphere.training._config import MeshConfig, TrainConfig
from hypersphere.training._config_text import flat, from_json, to_json
from hypersphere.training._distributed import is_first
from hypersphere.training._durations import parse_evaluator, resolve
from hypersphere.training._feed import Feed, Say, make_feed
from hypersphere.training._finish import Result, finish
from hypersphere.training._logging import make_console, show_summary, write_atomically
from hypersphere.training._program import Program
from hypersphere.training._run import Evaluator, Run
from hypersphere.training._step import Task
from hypersphere.training._validate import check, check_cadences

# What a resumed run may have different: none of it changes what is learned.
FREE_TO_CHANGE = {
    "data.data_dir",
    "data.threads",
    "data.workers",
    "data.max_bad",
    "eval_batch_size",
    "log_every",
    "eval_every",
    "checkpoint_every",
    "keep",
    "keep_best",
    "profile",
    "wandb",
    "mesh.data",
    "mesh.fsdp",
    "mesh.model",
    "mesh.rules",
    "guard.full_disk",
    "max_steps_per_call",
    "evaluators",
}


class Loaded(NamedTuple):
    """A trained model in evaluation mode, and the config it was trained with."""

    model: nnx.Module
    config: TrainConfig


def train(
    config: TrainConfig,
    workdir: str | os.PathLike[str],
    *,
    allow_changes: bool = False,
) -> Result:
    """Trains what a config describes, or goes on where a folder's run has stopped.

    Args:
        config: What to train.
        workdir: The run's folder; made if need be. Called again with the same config
            it resumes at the newest checkpoint, and a finished run is returned as it
            is. The folder gets `config.json`, `metrics.jsonl`, TensorBoard events,
            `checkpoints/`, `kernels.npz`, `features.npz`, `plots/*.png` and
            `result.json`. Several processes need a folder that all of them see.
        allow_changes: Whether the config may differ from the one that the folder was
            begun with. Fields that do not change what is learned may always.

    Returns:
        What `result.json` holds: `test_accuracy` in [0, 1] and `test_loss` in nats of
        the last evaluation, `steps`, `seconds` of training with compilation and
        evaluations, `examples_per_second` without them, `goodput` (the share in [0, 1]
        of the time since the run was begun that went into steps which count),
        `parameters` and versions.

    Raises:
        ValueError: If the config is wrong, its data are broken, or `workdir` belongs to
            another config.
        FileNotFoundError: If the data are not there.
        DivergedError: If a loss, a gradient or a parameter is not finite more often
            than `config.guard` allows, or the loss leaps. The newest checkpoint is from
            before.
        StoppedError: If SIGTERM, SIGUSR1 or Ctrl-C asked to stop. The state is saved.
        OSError: If the folder cannot be written, or all its checkpoints are damaged.

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
    if config.compare:
        return _compare(config, folder, allow_changes=allow_changes)
    with contextlib.ExitStack() as stack:
        say = functools.partial(make_console().print, highlight=False, markup=False)
        setup = prepare(config, say)
        config = setup.config
        stack.callback(setup.feed.close)
        _refuse_another_config(folder, config, allow_changes=allow_changes)
        if (folder / "result.json").is_file() and not allow_changes:
            return _finished(folder)
        _check_writable(folder)
        stack.enter_context(_alone_in(folder))
        checkpoints = stack.enter_context(
            Checkpoints(folder, keep=config.keep, keep_best=config.keep_best)
        )
        run = Run(
            config,
            folder,
            setup.feed,
            setup.evaluators,
            setup.program,
            checkpoints,
            functools.partial(_donor, config.init_from) if config.init_from else None,
        )
        if is_first():
            (folder / "result.json").unlink(missing_ok=True)  # of a shorter run
            write_atomically(folder / "config.json", to_json(config).encode())
        run.advance()
        return finish(config, folder, run, setup.feed, setup.program)


class Setup(NamedTuple):
    """What a run consists of before anything is compiled.

    Args:
        config: The config, its durations in steps.
        feed: The images.
        evaluators: What to evaluate on.
        program: The functions, not compiled yet.
    """

    config: TrainConfig
    feed: Feed
    evaluators: dict[str, Evaluator]
    program: Program


def prepare(config: TrainConfig, say: Say, *, mesh: Mesh | None = None) -> Setup:
    """Opens the data of a config and builds its program, on all devices or a mesh."""
    mesh = mesh or _mesh.make_mesh(config.mesh)
    _mesh.check_batch(mesh, config.batch_size, config.accumulate)
    feed = make_feed(config, mesh, say)
    config = resolve(config, feed.facts["train"])
    check_cadences(config)
    evaluators = _make_evaluators(config, mesh, feed, say)
    program = _make_program(config, mesh, feed.facts)
    return Setup(config, feed, evaluators, program)


def resolved(config: TrainConfig) -> TrainConfig:
    """A config as a run would store it, its durations in steps."""
    check(config)
    feed = make_feed(config, _mesh.make_mesh(config.mesh), print)
    with contextlib.closing(feed):
        return resolve(config, feed.facts["train"])


def _make_program(config: TrainConfig, mesh: Mesh, facts: dict[str, Any]) -> Program:
    def make_model() -> nnx.Module:
        return _build.make_model(
            config,
            image_shape=tuple(facts["image_shape"]),
            num_classes=facts["num_classes"],
        )

    abstract = nnx.eval_shape(make_model)
    task = Task(
        make_model=make_model,
        loss=_build.make_loss(config.loss),
        optimizer=_optim.make_optimizer(config.optim, config.steps, abstract),
        schedule=_optim.make_schedule(config.optim, config.steps),
        config=config,
        mesh=mesh,
    )
    return Program(task)


def _make_evaluators(
    config: TrainConfig, mesh: Mesh, feed: Feed, say: Say
) -> dict[str, Evaluator]:
    evaluators = {"test": Evaluator(feed.split("test"), config.eval_every)}
    for text in config.evaluators:
        name, every = parse_evaluator(text)
        if name == "train":
            split = feed.split("train", most=feed.facts["test"])
        else:
            other = make_feed(config, mesh, say, name)
            _check_same_kind(name, other.facts, feed.facts)
            split = other.split("test")
        evaluators[name] = Evaluator(split, int(every))
    return evaluators


def _check_same_kind(name: str, there: dict[str, Any], here: dict[str, Any]) -> None:
    """Raises unless a model for the images here can be judged on those there."""
    same_shape = there["image_shape"] == here["image_shape"]
    if there["num_classes"] > here["num_classes"] or not same_shape:
        raise ValueError(
            "`config.evaluators` needs images of the shape and of the classes that are "
            f"trained on, {here['image_shape']} and {here['num_classes']}, got "
            f"{there['image_shape']} and {there['num_classes']} in {name}."
        )


def _donor(workdir: str) -> tuple[Any, Any]:
    """Parameters and running averages of another run."""
    model = load(workdir).model
    params, stats = (nnx.state(model, kind) for kind in (nnx.Param, nnx.BatchStat))
    return jax.device_get((nnx.to_pure_dict(params), nnx.to_pure_dict(stats)))


def _check_writable(folder: Path) -> None:
    try:
        folder.mkdir(parents=True, exist_ok=True)
        with tempfile.TemporaryFile(dir=folder):
            pass
    except OSError as error:
        raise OSError(
            f"The run's folder {folder} cannot be written ({error.strerror}). Choose "
            "another --workdir, or make room or change its permissions."
        ) from error


@contextlib.contextmanager
def _alone_in(folder: Path) -> Iterator[None]:
    """Keeps a second run out of a folder; the lock ends with the process."""
    if not is_first():
        yield
        return
    with open(folder / ".lock", "w") as lock:
        try:
            fcntl.flock(lock, fcntl.LOCK_EX | fcntl.LOCK_NB)
        except BlockingIOError as error:
            raise OSError(
                f"Another process is training in {folder}. Wait for it, or choose "
                "another --workdir."
            ) from error
        except OSError:  # a file system without locks
            pass
        yield


def _finished(folder: Path) -> Result:
    result = json.loads((folder / "result.json").read_text(encoding="utf-8"))
    console = make_console()
    console.print(f"{folder} is finished; delete it to train anew.")
    show_summary(console, result, folder, sorted((folder / "plots").glob("*.png")))
    return result


def load(workdir: str | os.PathLike[str], *, best: bool = False) -> Loaded:
    """The trained model of a run's folder, from its newest checkpoint.

    Args:
        workdir: The folder that `train` was given.
        best: Whether to take the checkpoint of the best test accuracy instead, of those
            that `config.keep_best` has kept.

    Returns:
        The model, in evaluation mode, with the averaged weights where there are any,
        and the config. The model takes float images as
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
    mesh = _mesh.make_mesh(MeshConfig(), jax.local_devices()[:1])
    with contextlib.closing(Checkpoints(folder, read_only=True)) as checkpoints:
        program = _make_program(config, mesh, checkpoints.meta()["dataset"])
        step = checkpoints.best_step() if best else None
        restored = checkpoints.restore(program.template, step=step)
    if restored is None:
        raise FileNotFoundError(f"There is no whole checkpoint in {folder}.")
    for complaint in restored.complaints:
        warnings.warn(
            f"In {folder} {complaint}; an older one was loaded.", stacklevel=2
        )
    return Loaded(program.task.model(restored.state), config)


def _refuse_another_config(
    folder: Path, config: TrainConfig, *, allow_changes: bool
) -> None:
    """Raises if the folder holds work of another config, which would be mixed up."""
    file = folder / "config.json"
    if not file.is_file() or allow_changes:
        return
    try:
        there = flat(from_json(file.read_text(encoding="utf-8")))
    except ValueError as error:
        raise ValueError(f"{file} cannot be read: {error}") from error
    free = FREE_TO_CHANGE - ({"eval_every"} if config.patience else set())
    differences = [
        f"config.{name} is {there[name]!r} there and {value!r} now"
        for name, value in flat(from_json(to_json(config))).items()
        if there[name] != value and name not in free
    ]
    if differences:
        raise ValueError(
            f"{folder} belongs to another config: {'; '.join(differences)}. Choose "
            "another --workdir, delete this one to start anew, or go on with "
            "--allow_changes."
        )


def _compare(config: TrainConfig, folder: Path, *, allow_changes: bool) -> Result:
    """Trains once with each loss, and draws the features side by side."""
    _refuse_another_config(folder, config, allow_changes=allow_changes)
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
        runs[name] = train(single, folder / name, allow_changes=allow_changes)
        if is_first():
            write_atomically(folder / "config.json", to_json(config).encode())
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
    if is_first():
        from hypersphere import viz

        picture = folder / "plots" / "features.png"
        viz.draw_comparison({name: folder / name for name in runs}, picture)
        text = json.dumps(result, indent=2) + "\n"
        write_atomically(folder / "result.json", text.encode())
        make_console().print(f"Side by side: {picture}")
    return result
