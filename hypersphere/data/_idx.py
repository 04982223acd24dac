"""MNIST-format files."""

import gzip
import math
import struct
import zlib
from pathlib import Path

import numpy as np

from hypersphere.data._dataset import Dataset, ImageSet
from hypersphere.data._memory import check_memory


def load_idx(path: str) -> Dataset:
    """Reads the four files of an MNIST-like set, plain or gzipped."""
    who = f"idx:{path}"
    root = Path(path).expanduser()
    train, test = (_read_part(root, prefix, who) for prefix in ("train", "t10k"))
    num_classes = int(train.labels.max(initial=0)) + 1
    return Dataset(who, train, test, tuple(str(label) for label in range(num_classes)))


def _read_part(root: Path, prefix: str, who: str) -> ImageSet:
    images = _read(_find(root, f"{prefix}-images", 3, who), 3, who)
    labels = _read(_find(root, f"{prefix}-labels", 1, who), 1, who)
    return ImageSet(images[..., np.newaxis], labels.astype(np.int32))


def _find(root: Path, stem: str, ndim: int, who: str) -> Path:
    names = [
        f"{stem}{mark}idx{ndim}-ubyte{ending}"
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
    opener = gzip.open if path.suffix == ".gz" else open
    try:
        with opener(path, "rb") as file:
            shape = _shape(file.read(4 * (1 + ndim)), ndim, path, who)
            check_memory(who, shape[0], shape[1:])
            content = file.read()
    except (EOFError, zlib.error, gzip.BadGzipFile) as error:
        raise ValueError(
            f"`{who}` needs whole files, got {path}, which cannot be unpacked "
            f"({error}). Fetch it again."
        ) from error
    if len(content) != math.prod(shape):
        raise ValueError(
            f"`{who}` needs whole files, got {len(content)} bytes of data in {path}, "
            f"whose header promises {math.prod(shape)}. Fetch it again."
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
