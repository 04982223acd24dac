"""`train`: from a config and a folder to a trained model."""

import contextlib
import functools
import json
import os
from pathlib import Path
from typing import Any

import jax

from hypersphere._files import write_atomically
from hypersphere.training.checkpoints._checkpoint import Checkpoints
from hypersphere.training.compute._parts import (
    MakeParts,
    Parts,
    refuse_missing,
    refuse_others,
)
from hypersphere.training.compute._step import judged
from hypersphere.training.machine._distributed import is_first
from hypersphere.training.run._feed import OwnData
from hypersphere.training.run._finish import Result, finish
from hypersphere.training.run._load import restored
from hypersphere.training.run._logging import make_console, show_summary
from hypersphere.training.run._run import Run
from hypersphere.training.run._setup import prepare
from hypersphere.training.run._workdir import (
    alone_in,
    check_writable,
    refuse_another_config,
)
from hypersphere.training.settings._check import check
from hypersphere.training.settings._config import TrainConfig
from hypersphere.training.settings._text import to_json


def train(
    config: TrainConfig,
    workdir: str | os.PathLike[str],
    *,
    allow_changes: bool = False,
    parts: Parts | MakeParts | None = None,
    dataset: OwnData | None = None,
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
        parts: A model, a loss, an optimizer that are not the config's, or a function
            (config with durations in steps, `Images`) -> these. A resume needs them
            as well.
        dataset: A set in memory, or one of encoded images to be streamed, that takes
            the place of `config.data.source`; or a function (config) -> one.

    Returns:
        What `result.json` holds: `test_accuracy` in [0, 1], where there are scores of
        classes, and `test_loss` in nats of the last evaluation, `steps`, `seconds` of
        training with compilation and evaluations, `examples_per_second` without them,
        `goodput` (the share in [0, 1] of the time since the run was begun that went
        into steps which count),
        `parameters` and versions.

    Raises:
        ValueError: If the config is wrong, its data are broken, the parts do not fit,
            or `workdir` belongs to another config.
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
    check(config, own_model=parts is not None, own_data=dataset is not None)
    with contextlib.ExitStack() as stack:
        say = functools.partial(make_console().print, highlight=False, markup=False)
        own = {"parts": parts, "dataset": dataset}
        before = _own(folder)
        refuse_missing(before or {}, [k for k, v in own.items() if v is not None])
        setup = prepare(config, say, parts=parts, dataset=dataset)
        if before is not None and not allow_changes:
            refuse_others(before, setup.own)
        config = setup.config
        stack.callback(setup.feed.close)
        refuse_another_config(folder, config, allow_changes=allow_changes)
        if (folder / "result.json").is_file() and not allow_changes:
            return _finished(folder)
        check_writable(folder)
        stack.enter_context(alone_in(folder))
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
            functools.partial(_donor, config.init_from, parts)
            if config.init_from
            else None,
            setup.own,
        )
        if is_first():
            (folder / "result.json").unlink(missing_ok=True)  # of a shorter run
            write_atomically(folder / "config.json", to_json(config).encode())
        run.advance()
        return finish(config, folder, run, setup.feed, setup.program)


def _donor(workdir: str, parts: Parts | MakeParts | None) -> tuple[Any, Any]:
    """Parameters and running averages of another run, averaged if it has averages."""
    names = set((_own(Path(workdir)) or {}).get("given", ())) - {"dataset"}
    _, state, _ = restored(workdir, parts=parts if names else None)
    return jax.device_get(judged(state))


def _own(folder: Path) -> dict[str, Any] | None:
    """What a folder's run has of its own, as its newest checkpoint says, if any."""
    with contextlib.suppress(FileNotFoundError):
        with contextlib.closing(Checkpoints(folder, read_only=True)) as checkpoints:
            return checkpoints.meta().get("own", {})
    return None


def _finished(folder: Path) -> Result:
    result = json.loads((folder / "result.json").read_text(encoding="utf-8"))
    console = make_console()
    console.print(f"{folder} is finished; delete it to train anew.")
    show_summary(console, result, folder, sorted((folder / "plots").glob("*.png")))
    return result
