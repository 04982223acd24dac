"""The folder of a run: whether it can be used, and by whom."""

import contextlib
import fcntl
import json
import tempfile
from collections.abc import Collection, Iterator
from pathlib import Path
from typing import Any, NamedTuple

import numpy as np

from hypersphere.training.checkpoints._checkpoint import Checkpoints
from hypersphere.training.compute._parts import Images
from hypersphere.training.machine._distributed import (
    everyones,
    is_first,
    seen_by_all,
)
from hypersphere.training.settings._config import TrainConfig
from hypersphere.training.settings._text import (
    flat,
    from_json,
    kept_from_before,
    set_field,
    to_json,
)

_LOCK = ".lock"

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
    "head.chunk",
    "max_steps_per_call",
    "evaluators",
}


class BusyError(OSError):
    """Another process is training in the folder."""


def check_writable(folder: Path) -> None:
    """Makes the folder, or says why nothing can be written there."""
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
def alone_in(folder: Path) -> Iterator[None]:
    """Keeps a second run out of a folder; the lock ends with the process."""
    if not is_first():
        yield
        return
    with open(folder / _LOCK, "w") as lock:
        try:
            fcntl.flock(lock, fcntl.LOCK_EX | fcntl.LOCK_NB)
        except BlockingIOError as error:
            raise BusyError(
                f"Another process is training in {folder}. Wait for it, or choose "
                "another --workdir."
            ) from error
        except OSError:  # a file system without locks
            pass
        yield


class Stored(NamedTuple):
    """What a folder holds of a run.

    Attributes:
        config: The config it was begun with, meaning what it meant then; None if that
            is nowhere.
        own: What it has of its own, as its newest checkpoint says; None without one.
        images: What it is trained on, as its newest checkpoint says; None without one.
        note: What is unusual about its config, for a person; empty for nothing.
    """

    config: TrainConfig | None
    own: dict[str, Any] | None
    images: Images | None = None
    note: str = ""


def stored(folder: Path) -> Stored:
    """Reads the config of a folder's run, from its file or else its checkpoint.

    Args:
        folder: The run's folder, or one that is not there.

    Returns:
        What was found.

    Raises:
        ValueError: If the file cannot be read, and no checkpoint has a config.
    """
    file, meta, note = folder / "config.json", _meta(folder), ""
    own = None if meta is None else meta.get("own", {})
    images = None if meta is None else Images.of(meta["dataset"])
    sealed = (meta or {}).get("config")
    try:
        text = file.read_text(encoding="utf-8")
        return Stored(_as_then(text), own, images)
    except (FileNotFoundError, NotADirectoryError):
        if sealed is None:
            lost = f"{file} is missing: the config of today is taken for the run's."
            return Stored(None, own, images, "" if meta is None else lost)
        note = f"{file} is missing: the config in its newest checkpoint is taken."
    except ValueError as error:
        if sealed is None:
            raise ValueError(f"{file} cannot be read: {error}") from error
        note = f"{file} cannot be read: the config in its newest checkpoint is taken."
    text = json.dumps(sealed)
    return Stored(_as_then(text), own, images, note)


def _as_then(text: str) -> TrainConfig:
    config = from_json(text)
    for path, value in kept_from_before(text).items():
        set_field(config, path, value)
    return config


def _meta(folder: Path) -> dict[str, Any] | None:
    """What the newest checkpoint says of its run; None without one."""
    with contextlib.suppress(FileNotFoundError):
        with contextlib.closing(Checkpoints(folder, read_only=True)) as checkpoints:
            return checkpoints.meta()
    return None


def refuse_another_config(folder: Path, there: TrainConfig, here: TrainConfig) -> None:
    """Raises if the folder holds work of another config, which would be mixed up."""
    if found := differences(there, here):
        raise ValueError(
            f"{folder} belongs to another config: {'; '.join(found)}. Choose "
            "another --workdir, delete this one to start anew, or go on with "
            "--allow_changes."
        )


def check_shared(folder: Path) -> None:
    """Raises, in every process, unless all of them see the folder that one holds."""
    seen = seen_by_all(
        lambda: everyones(np.bool_((folder / _LOCK).is_file())), np.ndarray.all
    )
    if seen.all():
        return
    raise OSError(
        f"Process {int(seen.argmin())} does not see what process 0 writes to {folder}. "
        "Is that folder shared and mounted on all hosts? Nothing was changed."
    )


def differences(
    there: TrainConfig, here: TrainConfig, free: Collection[str] = FREE_TO_CHANGE
) -> list[str]:
    """What of two configs differs that changes what is learned, in words.

    Of two recipes that are not the same it tells the names, and the fields of both.

    Args:
        there: Of work that is there.
        here: Of what is asked for now.
        free: Fields that may differ.
    """
    free = set(free) - ({"eval_every"} if here.patience else set())
    if here.head.level == "sampled":
        free -= {"mesh.model"}  # each device draws classes of its own
    old, new = (flat(from_json(to_json(config))) for config in (there, here))
    return [
        f"config.{name} is {old[name]!r} there and {value!r} now"
        for name, value in new.items()
        if name in old and old[name] != value and name not in free
    ]
