"""MNIST-format files: those of MNIST, and of EMNIST."""

import gzip
import math
import re
import struct
import zlib
from pathlib import Path

import numpy as np

from hypersphere.data._dataset import Dataset, ImageSet
from hypersphere.data._memory import check_memory
from hypersphere.data._tar_index import unpacked_by


def load_idx(path: str) -> Dataset:
    """Reads the four files of an MNIST-like set, plain or gzipped."""
    who = f"idx:{path}"
    root = Path(path).expanduser()
    before = _prefix(root, who)
    train, test = (
        _read_part(root, [before + name for name in names], who)
        for names in (("train",), ("t10k", "test"))
    )
    first, names = _classes(train, root, before)
    train, test = (part._replace(labels=part.labels - first) for part in (train, test))
    return Dataset(who, train, test, names)


def _prefix(root: Path, who: str) -> str:
    """What names of EMNIST's files begin with, such as `emnist-letters-`."""
    found = {
        match["prefix"]
        for path in (root.iterdir() if root.is_dir() else ())
        if (match := re.match(r"(?P<prefix>emnist-\w+-)train-images", path.name))
    }
    if len(found) > 1:
        raise ValueError(
            f"`{who}` needs one set, got {', '.join(sorted(found))} in {root}. Put "
            "each into a folder of its own."
        )
    return found.pop() if found else ""


def _classes(train: ImageSet, root: Path, before: str) -> tuple[int, tuple[str, ...]]:
    """The first label, and the names: characters where a mapping has them, or numbers.

    EMNIST's letters count from one. Elsewhere a label of zero may just be missing.
    """
    first = int("letters" in before and int(train.labels.min(initial=1)) > 0)
    labels = range(first, int(train.labels.max(initial=0)) + 1)
    characters = {}
    mapping = root / f"{before}mapping.txt"
    if before and mapping.is_file():
        rows = (line.split() for line in mapping.read_text("ascii").splitlines())
        characters = {int(label): chr(int(code)) for label, code, *_ in rows}
    return first, tuple(characters.get(label, str(label)) for label in labels)


def _read_part(root: Path, prefixes: list[str], who: str) -> ImageSet:
    images = _read(_find(root, prefixes, "images", 3, who), 3, who)
    labels = _read(_find(root, prefixes, "labels", 1, who), 1, who)
    return ImageSet(images[..., np.newaxis], labels.astype(np.int32))


def _find(root: Path, prefixes: list[str], kind: str, ndim: int, who: str) -> Path:
    names = [
        f"{prefix}-{kind}{mark}idx{ndim}-ubyte{ending}"
        for prefix in prefixes
        for mark in "-."
        for ending in ("", ".gz")
    ]
    for name in names:
        if (root / name).is_file():
            return root / name
    raise FileNotFoundError(
        f"`{who}` needs one of the files {', '.join(names)}, got none in {root}."
    )


def _read(path: Path, ndim: int, who: str) -> np.ndarray:
    """Reads an array of bytes; the header is a magic number and the shape."""
    program = unpacked_by(path)  # by its content: an ending need not say what it is
    if program not in ("", "gunzip"):
        raise ValueError(
            f"`{who}` needs files as they are or gzipped, got {path}. Unpack it with "
            f"`{program}`."
        )
    opener = gzip.open if program else open
    try:
        with opener(path, "rb") as file:
            shape = _shape(file.read(4 * (1 + ndim)), ndim, path, who)
            check_memory(who, shape[0], shape[1:])
            content = file.read(math.prod(shape) + 1)  # a byte too many is enough
    except (EOFError, zlib.error, gzip.BadGzipFile) as error:
        raise ValueError(
            f"`{who}` needs whole files, got {path}, which cannot be unpacked "
            f"({error}). Fetch it again."
        ) from error
    if len(content) != math.prod(shape):
        more = len(content) > math.prod(shape)
        raise ValueError(
            f"`{who}` needs whole files, got {'at least ' * more}{len(content)} bytes "
            f"of data in {path}, whose header promises {math.prod(shape)}. Fetch it "
            "again."
        )
    return np.frombuffer(content, np.uint8).reshape(shape)


def _shape(header: bytes, ndim: int, path: Path, who: str) -> tuple[int, ...]:
    """The shape in a header, whose numbers are big-endian and 4 bytes each."""
    magic, *shape = struct.unpack(f">{1 + ndim}I", header.ljust(4 * (1 + ndim), b"\0"))
    if magic != 0x800 + ndim:
        raise ValueError(
            f"`{who}` needs an IDX file of unsigned bytes with {ndim} axes (magic "
            f"number {0x800 + ndim}), got the magic number {magic} in {path}."
        )
    return tuple(shape)
