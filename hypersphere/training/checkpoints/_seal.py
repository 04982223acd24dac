"""Seals: a file that says what all the other files of a folder must be."""

import json
import zlib
from pathlib import Path
from typing import Any

from hypersphere._files import flush, write_atomically

SEAL = "seal.json"


def write_seal(folder: Path, content: dict[str, Any]) -> None:
    """Writes a seal, and returns when it and all files below the folder are on disk.

    The seal holds the CRC-32 of each file, and its own. Every change of one bit is thus
    noticed, and every other with a chance of all but `2**-32`.

    Args:
        folder: What is sealed.
        content: Anything else that goes into the seal, of the types that JSON has.

    Raises:
        OSError: If the disk is full or fails.

    Example:
        >>> import tempfile
        >>> from hypersphere.training.checkpoints import _seal
        >>> with tempfile.TemporaryDirectory() as name:
        ...     folder = Path(name)
        ...     _ = (folder / "data").write_bytes(b"1234")
        ...     _seal.write_seal(folder, {"step": 7})
        ...     seal = _seal.read_seal(folder)
        ...     _seal.check_files(folder, seal)
        >>> seal["step"]
        7
    """
    files = {
        path.relative_to(folder).as_posix(): _checksum(path)
        for path in sorted(folder.rglob("*"))
        if path.is_file() and path != folder / SEAL
    }
    (folder / SEAL).write_bytes(_sealed({**content, "files": files}))
    for path in (*folder.rglob("*"), folder):
        flush(path)


def replace_seal(folder: Path, seal: dict[str, Any]) -> None:
    """Writes another seal for the same files, whole or not at all.

    Args:
        folder: What is sealed.
        seal: As `read_seal` returns it, with what is new.

    Raises:
        OSError: If it cannot be written; the old one stays.
    """
    write_atomically(folder / SEAL, _sealed(seal))
    flush(folder)


def _sealed(content: dict[str, Any]) -> bytes:
    written = json.dumps(content).encode()
    return written + b"\n%08x\n" % zlib.crc32(written)


def read_seal(folder: Path) -> dict[str, Any]:
    """What `write_seal` was given, and the checksums of the files as `"files"`.

    Args:
        folder: What is sealed.

    Returns:
        The seal's content. The files are not looked at: see `check_files`.

    Raises:
        ValueError: If there is no seal, or if it has changed.
        OSError: If it cannot be read.
    """
    if not (folder / SEAL).is_file():
        raise ValueError(f"it has no {SEAL}")
    text = (folder / SEAL).read_bytes()
    written = text[:-10]
    if text[-10:] != b"\n%08x\n" % zlib.crc32(written):
        raise ValueError(f"its {SEAL} has changed since it was written")
    return json.loads(written)


def check_files(folder: Path, seal: dict[str, Any]) -> None:
    """Reads all files that were sealed. Others, added since, do not matter.

    Args:
        folder: What is sealed.
        seal: What `read_seal` returned.

    Raises:
        ValueError: If a file is missing or has changed.
        OSError: If a file cannot be read.
    """
    for name, checksum in seal["files"].items():
        if not (folder / name).is_file():
            raise ValueError(f"its file {name} is missing")
        if _checksum(folder / name) != checksum:
            raise ValueError(f"its file {name} has changed since it was written")


def _checksum(path: Path) -> int:
    checksum = 0
    with path.open("rb") as file:
        while piece := file.read(1 << 22):
            checksum = zlib.crc32(piece, checksum)
    return checksum
