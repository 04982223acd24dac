"""The files of a prepared set: written one by one, and checked against a manifest."""

import contextlib
import fcntl
import hashlib
import json
import os
from collections.abc import Iterable
from pathlib import Path
from typing import Any

from array_record.python.array_record_module import ArrayRecordReader, ArrayRecordWriter

from hypersphere._files import flush

MANIFEST = "prepare.json"
_PARTIAL = "partial-"
_UNFINISHED = ".incomplete"  # what TensorFlow Datasets calls such folders, too

Facts = dict[str, Any]


class Unfinished:
    """The folder of a set until all of it is there, and the manifest of what is.

    Entering makes the folder and keeps other processes out; leaving removes it if
    nothing is in it.

    Args:
        final: What the folder is called in the end.

    Raises:
        FileExistsError: If the set is there already.
        OSError: If the folder cannot be written, or another process is writing it.
    """

    def __init__(self, final: Path):
        self.folder = final.with_name(final.name + _UNFINISHED)
        self.files: dict[str, Facts] = {}
        self.final = final
        self._command: Facts = {}

    def __enter__(self) -> "Unfinished":
        if self.final.exists():
            raise FileExistsError(
                f"`prepare` needs a set that is not there yet, got {self.final}. "
                "Delete it, or choose another `--name` or `--out`."
            )
        try:
            self.folder.mkdir(parents=True, exist_ok=True)
            self._lock = os.open(self.folder, os.O_RDONLY)
            fcntl.flock(self._lock, fcntl.LOCK_EX | fcntl.LOCK_NB)
        except BlockingIOError as error:
            os.close(self._lock)
            raise OSError(
                f"`prepare` needs {self.folder} for itself, got another process that "
                "is writing it. Wait for that one, or choose another `--name`."
            ) from error
        except OSError as error:
            raise OSError(
                f"`prepare` needs a folder it can write to, got {self.folder} "
                f"({error.strerror}). Choose another `--out`."
            ) from error
        return self

    def __exit__(self, *_: object) -> None:
        with contextlib.suppress(OSError):  # not empty, or finished
            self.folder.rmdir()
            self.folder.parent.rmdir()
        os.close(self._lock)

    def resume(self, command: Facts) -> None:
        """Takes over the files of an earlier start that are whole.

        Args:
            command: Everything that decides on the content, as JSON can hold it.

        Raises:
            ValueError: If another command began the folder.
        """
        self._command = command
        if (self.folder / MANIFEST).exists():
            text = (self.folder / MANIFEST).read_text(encoding="utf-8")
            manifest = json.loads(text)
            self._check_same(manifest["command"])
            for name, facts in manifest["files"].items():
                if "records" in facts and not find_damage(self.folder / name, facts):
                    self.files[name] = facts
        self._write_manifest()

    def _check_same(self, begun: Facts) -> None:
        changed = [
            f"`{key}={value}` instead of `{begun.get(key)}`"
            for key, value in self._command.items()
            if begun.get(key) != value
        ]
        if changed:
            raise ValueError(
                f"`prepare` needs the command that began {self.folder}, got "
                f"{' and '.join(changed)}. Repeat that command, or delete the folder, "
                "or choose another `--name`."
            )

    def write_shard(self, name: str, examples: Iterable[bytes]) -> Facts:
        """Writes an array_record file; it gets its name when all of it is on disk."""
        partial = self.folder / f"{_PARTIAL}{name}"
        facts = _write(partial, examples)
        flush(partial)
        os.replace(partial, self.folder / name)
        return facts

    def note(self, name: str, facts: Facts) -> None:
        """Adds a file to the manifest, which from then on takes it as whole."""
        self.files[name] = facts
        self._write_manifest()

    def _write_manifest(self) -> None:
        files = dict(sorted(self.files.items()))  # in one order, however it came about
        manifest = {"command": self._command, "files": files}
        partial = self.folder / f"{_PARTIAL}{MANIFEST}"
        partial.write_text(json.dumps(manifest, indent=1), encoding="utf-8")
        flush(partial)
        os.replace(partial, self.folder / MANIFEST)
        flush(self.folder)

    def finish(self) -> None:
        """Adds the files around the shards, and gives the folder its name."""
        for path in sorted(self.folder.iterdir()):
            if path.name.startswith(_PARTIAL):
                path.unlink()
            elif path.name not in self.files and path.name != MANIFEST:
                flush(path)
                self.note(path.name, _facts(path))
        os.replace(self.folder, self.final)
        flush(self.final.parent)


def check_set(path: str) -> tuple[Path, dict[str, Facts], list[str]]:
    """Compares a prepared set with its manifest.

    Args:
        path: The set's folder, or the one with its only version.

    Returns:
        The folder of the version, the manifest's entry of each file, and a sentence
        about each file that is missing or differs; none if the set is whole.

    Raises:
        FileNotFoundError: If there is no finished set with a manifest.

    Example:
        >>> check_set("/nowhere")  # doctest: +ELLIPSIS
        Traceback (most recent call last):
        FileNotFoundError: `check` needs a set that `prepare` has finished, ...
    """
    root = Path(path).expanduser()
    found = [root / MANIFEST, *sorted(root.glob(f"*/{MANIFEST}"))]
    finished = [
        file.parent
        for file in found
        if file.is_file() and not file.parent.name.endswith(_UNFINISHED)
    ]
    if len(finished) != 1:
        unfinished = any(_UNFINISHED in str(file) for file in found[1:])
        raise FileNotFoundError(
            f"`check` needs a set that `prepare` has finished, got {root}, where "
            + ("one is unfinished" if unfinished else f"{len(finished)} are")
            + ". Name DATA_DIR/NAME; the command that began a set finishes it."
        )
    (folder,) = finished
    files = json.loads((folder / MANIFEST).read_text(encoding="utf-8"))["files"]
    damages = (find_damage(folder / name, facts) for name, facts in files.items())
    return folder, files, [damage for damage in damages if damage]


def find_damage(path: Path, facts: Facts) -> str:
    """Says how a file differs from its entry in the manifest; empty if it does not."""
    if not path.is_file():
        return f"{path} is missing."
    size = path.stat().st_size
    if size != facts["bytes"]:
        return f"{path} has {size:,} bytes instead of {facts['bytes']:,}."
    if _sha256(path) != facts["sha256"]:
        return f"{path} has changed: its SHA-256 is no longer {facts['sha256']}."
    return ""


def _write(path: Path, examples: Iterable[bytes]) -> Facts:
    records = content = 0
    try:
        # One record per group, so that each is read without its neighbours.
        writer = ArrayRecordWriter(str(path), "group_size:1")
        for example in examples:
            writer.write(example)
            records += 1
            content += len(example)
        writer.close()
        written = _count(path)
    except RuntimeError as error:  # all that array_record raises
        raise OSError(
            f"`prepare` could not write {path} ({error}). Make room, and give the same "
            "command again: it goes on where it stopped."
        ) from error
    if written != records:
        raise OSError(
            f"`prepare` wrote {records} records to {path}, got {written} back."
        )
    return {"records": records, "content_bytes": content, **_facts(path)}


def _count(path: Path) -> int:
    reader = ArrayRecordReader(str(path))
    try:
        return reader.num_records()
    finally:
        reader.close()


def _facts(path: Path) -> Facts:
    return {"bytes": path.stat().st_size, "sha256": _sha256(path)}


def _sha256(path: Path) -> str:
    with open(path, "rb") as file:
        return hashlib.file_digest(file, "sha256").hexdigest()
