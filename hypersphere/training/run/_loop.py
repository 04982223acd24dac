"""`train`: from a config and a folder to a trained model."""

import contextlib
import functools
import json
import os
from collections.abc import Callable
from pathlib import Path
from typing import Any

import jax

from hypersphere._files import write_atomically
from hypersphere._select import matches
from hypersphere.training.checkpoints._checkpoint import Checkpoints
from hypersphere.training.checkpoints._graft import without_padding
from hypersphere.training.compute._head import of_params
from hypersphere.training.compute._parts import (
    Images,
    MakeParts,
    Parts,
    refuse_missing,
    refuse_others,
)
from hypersphere.training.machine._distributed import is_first
from hypersphere.training.run._feed import OwnData
from hypersphere.training.run._finish import Result, finish
from hypersphere.training.run._load import restored
from hypersphere.training.run._logging import make_console, show_summary
from hypersphere.training.run._run import Run
from hypersphere.training.run._setup import prepare
from hypersphere.training.run._workdir import (
    Stored,
    alone_in,
    check_shared,
    check_writable,
    refuse_another_config,
    stored,
)
from hypersphere.training.settings._check import check
from hypersphere.training.settings._config import TrainConfig
from hypersphere.training.settings._text import (
    SINCE,
    flat,
    set_field,
    to_json,
)


def train(
    config: TrainConfig,
    workdir: str | os.PathLike[str],
    *,
    allow_changes: bool = False,
    despite_damage: bool = False,
    parts: Parts | MakeParts | None = None,
    dataset: OwnData | None = None,
) -> Result:
    """Trains what a config describes, or goes on where a folder's run has stopped.

    Args:
        config: What to train.
        workdir: The run's folder; made if need be. Called again with the same config
            it resumes at the newest checkpoint, and a finished run is returned as it
            is. The folder gets `config.json`, `metrics.jsonl`, TensorBoard events,
            `checkpoints/`, `kernels.npz`, `softness.npz` where a sigmoid learns its
            own, `features.npz`, `plots/*.png` and `result.json`. Several processes
            need a folder that all of them see.
        allow_changes: Whether the config and the images may differ from those that the
            folder was begun with. Fields that do not change what is learned may always.
        despite_damage: Whether to begin at step 0 where all checkpoints are damaged.
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
    folder = Path(workdir).expanduser()
    config = check(config, own_model=parts is not None, own_data=dataset is not None)
    with contextlib.ExitStack() as stack:
        say = functools.partial(make_console().print, highlight=False, markup=False)
        own = {"parts": parts, "dataset": dataset}
        before = stored(folder)
        refuse_missing(before.own or {}, [k for k, v in own.items() if v is not None])
        _tell(before, config, say, keeps=not allow_changes)
        setup = prepare(config, say, parts=parts, dataset=dataset)
        if before.own is not None and not allow_changes:
            refuse_others(before.own, setup.own)
        config = setup.config
        stack.callback(setup.feed.close)
        if before.config is not None and not allow_changes:
            refuse_another_config(folder, before.config, config)
        if not allow_changes and (result := _finished(folder, say)) is not None:
            return result
        check_writable(folder)
        stack.enter_context(alone_in(folder))
        check_shared(folder)
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
            functools.partial(_donor, config, setup.feed.images, parts, say)
            if config.init_from
            else None,
            setup.own,
            allow_changes=allow_changes,
            despite_damage=despite_damage,
        )
        if is_first():
            (folder / "result.json").unlink(missing_ok=True)  # of a shorter run
            write_atomically(folder / "config.json", to_json(config).encode())
        run.advance()
        return finish(config, folder, run, setup.feed, setup.program)


def _tell(
    before: Stored, config: TrainConfig, say: Callable[[str], Any], *, keeps: bool
) -> None:
    """Says what is unusual about a run's config, and lets an old run be as it was."""
    if before.note:
        say(before.note)
    if before.config is None or not keeps:
        return
    there, here = flat(before.config), flat(config)
    for path in SINCE:
        if there.get(path) is False and here.get(path) is True:
            set_field(config, path, value=False)
            say(
                f"config.{path}=False, as this run was begun: True is the default of a "
                "later release. It holds in another folder, or with --allow_changes."
            )


def _donor(
    config: TrainConfig,
    images: Images,
    parts: Parts | MakeParts | None,
    say: Callable[[str], Any],
) -> tuple[Any, Any]:
    """Parameters and running averages of another run, averaged if it has averages.

    What is not the same there is told, for the arrays may fit all the same.
    """
    workdir = Path(config.init_from).expanduser()
    before = stored(workdir)
    names = set((before.own or {}).get("given", ())) - {"dataset"}
    program, state, there = restored(workdir, parts=parts if names else None)
    renamed = images.renamed_since(before.images or images)
    is_fresh = any(matches(each, ("head", "kernel")) for each in config.init_fresh)
    if renamed and not is_fresh:
        say(
            f"The head of {workdir}, from which this run starts, has classes of other "
            f"names: {'; '.join(renamed)}."
        )
    old, new = (flat(each.model, "model.") for each in (there, config))
    for name in sorted(old.keys() & new.keys()):
        if old[name] != new[name]:
            say(
                f"config.{name} is {old[name]!r} in {workdir}, from which this run "
                f"starts, and {new[name]!r} here."
            )
    params, stats = jax.device_get(program.task.judged(state))
    return without_padding(params, of_params(program.padded)), stats


def _finished(folder: Path, say: Callable[[str], Any]) -> Result | None:
    """Shows the result of a finished run; None where there is none that can be read."""
    file = folder / "result.json"
    if not file.is_file():
        return None
    try:
        result = json.loads(file.read_text(encoding="utf-8"))
        needed = {"steps", "seconds", "examples_per_second", "parameters"}
        if not isinstance(result, dict) or needed - set(result):
            raise ValueError("it is no result")
    except ValueError as error:
        say(f"{file} cannot be read ({error}): it is made again.")
        return None
    console = make_console()
    console.print(f"{folder} is finished; delete it to train anew.")
    show_summary(console, result, folder, sorted((folder / "plots").glob("*.png")))
    return result
