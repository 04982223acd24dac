"""The folder of a run: whether it can be used, and by whom."""

import contextlib
import fcntl
import tempfile
from collections.abc import Collection, Iterator
from pathlib import Path

from hypersphere.training.machine._distributed import is_first
from hypersphere.training.settings._config import TrainConfig
from hypersphere.training.settings._text import flat, from_json, to_json

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
    with open(folder / ".lock", "w") as lock:
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


def refuse_another_config(
    folder: Path, config: TrainConfig, *, allow_changes: bool
) -> None:
    """Raises if the folder holds work of another config, which would be mixed up."""
    file = folder / "config.json"
    if not file.is_file() or allow_changes:
        return
    try:
        there = from_json(file.read_text(encoding="utf-8"))
    except ValueError as error:
        raise ValueError(f"{file} cannot be read: {error}") from error
    if found := differences(there, config):
        raise ValueError(
            f"{folder} belongs to another config: {'; '.join(found)}. Choose "
            "another --workdir, delete this one to start anew, or go on with "
            "--allow_changes."
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
