"""CIFAR-10 and CIFAR-100 in their binary versions."""

import tarfile
import zlib
from collections.abc import Callable
from pathlib import Path
from typing import NamedTuple

import numpy as np

from hypersphere.data._dataset import Dataset, ImageSet
from hypersphere.data._tar_index import unpacked_by

_LARGEST = 2**28  # bytes of a file, several times what is published
_PIXELS = 3 * 32 * 32  # bytes of an image: all red, then all green, then all blue

Read = Callable[[str], bytes]


class _Version(NamedTuple):
    """Names of the published files, and the bytes of labels before each image."""

    folder: str
    archive: str
    train: tuple[str, ...]
    test: str
    class_names: str
    label_bytes: int  # the last one counts; CIFAR-100 puts the coarse label before it


_VERSIONS = (
    _Version(
        folder="cifar-10-batches-bin",
        archive="cifar-10-binary.tar.gz",
        train=tuple(f"data_batch_{number}.bin" for number in range(1, 6)),
        test="test_batch.bin",
        class_names="batches.meta.txt",
        label_bytes=1,
    ),
    _Version(
        folder="cifar-100-binary",
        archive="cifar-100-binary.tar.gz",
        train=("train.bin",),
        test="test.bin",
        class_names="fine_label_names.txt",
        label_bytes=2,
    ),
)


def load_cifar(path: str) -> Dataset:
    """Reads the binary version of CIFAR-10, or of CIFAR-100 with its fine labels.

    Args:
        path: The unpacked folder (`cifar-10-batches-bin` or `cifar-100-binary`), the
            published archive (`cifar-10-binary.tar.gz` or `cifar-100-binary.tar.gz`),
            or a folder that holds one of these four. `~` is the home folder.

    Returns:
        Images of 32x32x3, and the names of the classes from the set's own text file.

    Raises:
        FileNotFoundError: If neither set is there, or one of its files is not.
        ValueError: If both sets are there, or a file is damaged.

    Example:
        >>> load_cifar("/nowhere")  # doctest: +ELLIPSIS
        Traceback (most recent call last):
        FileNotFoundError: `cifar:/nowhere` needs one of cifar-10-batches-bin, ...
    """
    who = f"cifar:{path}"
    version, place = _find(Path(path).expanduser(), who)
    read = (
        _archive_reader(version, place, who)
        if place.is_file()
        else _folder_reader(place, who)
    )
    names = _text(read(version.class_names), place / version.class_names, who)
    return Dataset(
        who,
        _read_part(version.train, version.label_bytes, place, read, who),
        _read_part((version.test,), version.label_bytes, place, read, who),
        tuple(name.strip() for name in names.split("\n") if name.strip()),
    )


def _find(root: Path, who: str) -> tuple[_Version, Path]:
    """Which set there is, and its folder or archive; a folder comes first."""
    found = {
        version: place
        for version in reversed(_VERSIONS)
        for place in (root / version.archive, root / version.folder, root)
        if _holds(place, version)
    }
    if len(found) == 1:
        return found.popitem()
    if found:
        raise ValueError(
            f"`{who}` needs one set, got both CIFAR-10 and CIFAR-100 in {root}. Name "
            f"one: {' or '.join(f'`cifar:{place}`' for place in found.values())}."
        )
    names = ", ".join(f"{version.folder}, {version.archive}" for version in _VERSIONS)
    raise FileNotFoundError(
        f"`{who}` needs one of {names} (the binary versions, not the Python ones), got "
        f"none in {root}."
    )


def _holds(place: Path, version: _Version) -> bool:
    """Whether a path is that set: its archive, or the folder with its test images."""
    if place.is_dir():
        return (place / version.test).is_file()
    return place.is_file() and place.name == version.archive


def _text(content: bytes, path: Path, who: str) -> str:
    try:
        return content.decode()
    except UnicodeDecodeError as error:
        raise ValueError(
            f"`{who}` needs names of classes in UTF-8, got {path} ({error}). Fetch it "
            "again."
        ) from error


def _folder_reader(folder: Path, who: str) -> Read:
    def read(name: str) -> bytes:
        if not (folder / name).is_file():
            raise _missing(name, folder, who)
        size = min((folder / name).stat().st_size, _LARGEST)
        with open(folder / name, "rb") as file:
            return file.read(size)

    return read


def _archive_reader(version: _Version, archive: Path, who: str) -> Read:
    """Unpacks what is needed into memory: files cannot be read on their own."""
    if (program := unpacked_by(archive)) != "gunzip":
        raise ValueError(
            f"`{who}` needs a tar.gz, got {archive}, which is "
            + (f"unpacked with `{program}`" if program else "none: it may be damaged")
            + ". Unpack it into a folder and name that, or fetch it again."
        )
    needed = {*version.train, version.test, version.class_names}
    contents = {}
    try:
        with tarfile.open(archive, "r:gz") as tar:
            for member in tar:
                name = member.name.rpartition("/")[2]
                if member.size < 0:  # it would be met again and again
                    raise tarfile.ReadError("a size below zero")
                if name in needed and member.isreg():
                    file = tar.extractfile(member)
                    size = min(member.size, _LARGEST)
                    contents[name] = b"" if file is None else file.read(size)
    except (tarfile.TarError, EOFError, OSError, zlib.error) as error:
        raise ValueError(
            f"`{who}` needs a whole archive, got {archive}, which cannot be unpacked "
            f"({error}). Fetch it again."
        ) from error

    def read(name: str) -> bytes:
        if name not in contents:
            raise _missing(name, archive, who)
        return contents[name]

    return read


def _missing(name: str, place: Path, who: str) -> FileNotFoundError:
    return FileNotFoundError(f"`{who}` needs the file {name}, got none in {place}.")


def _read_part(
    names: tuple[str, ...], label_bytes: int, place: Path, read: Read, who: str
) -> ImageSet:
    rows = np.concatenate(
        [_rows(read(name), label_bytes, place / name, who) for name in names]
    )
    planes = rows[:, label_bytes:].reshape(-1, 3, 32, 32)
    images = np.ascontiguousarray(planes.transpose(0, 2, 3, 1))
    return ImageSet(images, rows[:, label_bytes - 1].astype(np.int32))


def _rows(content: bytes, label_bytes: int, path: Path, who: str) -> np.ndarray:
    """The labels and pixels of each image, one image a row."""
    width = label_bytes + _PIXELS
    count, rest = divmod(len(content), width)
    if rest or not count:
        raise ValueError(
            f"`{who}` needs whole files of {width} bytes per image, got "
            f"{len(content):,} bytes in {path}; {count + 1:,} images would take "
            f"{(count + 1) * width:,}. Fetch it again."
        )
    return np.frombuffer(content, np.uint8).reshape(count, width)
