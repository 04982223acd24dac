"""Sets whose classes are folders of image files."""

import dataclasses
import os
from collections.abc import Iterator
from pathlib import Path
from typing import Any

from hypersphere.data import _image_files
from hypersphere.data._dataset import Dataset
from hypersphere.data._order import permutation
from hypersphere.data._records import Record, RecordSet, patiently
from hypersphere.data._whole import load_records

Classes = dict[str, list[Path]]
_SIZES = 10_000  # files whose sizes tell a set from others: asking for all takes long


@dataclasses.dataclass(frozen=True)
class FolderRecords:
    """Image files as they lie on the disk."""

    paths: list[str]
    labels: list[int]

    def __len__(self) -> int:
        """How many there are."""
        return len(self.paths)

    def __getitem__(self, index: int) -> Record:
        """The bytes of one file, and its label."""
        return Record(Path(self.paths[index]).read_bytes(), self.labels[index])

    def name(self, index: int) -> str:
        """Its path; what of it is no UTF-8 as question marks."""
        return os.fsencode(self.paths[index]).decode("utf-8", "replace")

    def listing(self) -> Iterator[bytes]:
        """The name and label of every file, and the size of 10,000, evenly spaced."""
        step = -(-len(self.paths) // _SIZES)
        for index, (path, label) in enumerate(
            zip(self.paths, self.labels, strict=True)
        ):
            size = "" if index % step else patiently(lambda p=path: os.stat(p).st_size)
            yield os.fsencode(os.path.basename(path)) + f"/{label}/{size}".encode()


def load_folder(
    path: str,
    *,
    test_fraction: float,
    seed: int,
    empty_classes: bool,
    **decoding: Any,
) -> Dataset:
    """Decodes the images of both parts; gray if all of them are."""
    from hypersphere.data._images import may_be_gray  # listing files needs no Pillow

    train, test = _parts(path, test_fraction, seed, empty_classes=empty_classes)
    opened = _record_set(path, train, test)
    paths = (
        file for part in (train, test) for files in part.values() for file in files
    )
    gray = all(map(may_be_gray, paths))
    return load_records(opened, gray=gray, **decoding)


def open_folder(
    path: str, *, test_fraction: float, seed: int, empty_classes: bool
) -> RecordSet:
    """Lists the files of both parts."""
    parts = _parts(path, test_fraction, seed, empty_classes=empty_classes)
    return _record_set(path, *parts)


def _parts(
    path: str, test_fraction: float, seed: int, *, empty_classes: bool
) -> tuple[Classes, Classes]:
    """Lists `PATH/train` and its test part, or divides `PATH/CLASS/*` by the seed."""
    who = f"folder:{path}"
    root = Path(path).expanduser()
    if not root.is_dir():
        raise FileNotFoundError(
            f"`{who}` needs a folder with one subfolder per class, got {root}, which "
            f"{'is a file' if root.exists() else 'does not exist'}."
        )
    left_out = _image_files.LeftOut()
    trains = [
        each
        for each in _image_files.named(root, _image_files.TRAIN_NAMES)
        if each.is_dir() and (each.name == "train" or _has_folders(each))
    ]
    if trains:
        train = _scan(trains[0], who, left_out)
        test = _scan(_test_folder(root, who), who, left_out)
        if empty_classes:
            every = sorted({*train, *test})
            train, test = (
                {k: each.get(k, []) for k in every} for each in (train, test)
            )
        _check_same_classes(train, test, who)
    else:
        train = _scan(root, who, left_out)
        test = {}
    if not empty_classes:
        _check_none_empty(train, who, root)
        _check_none_empty(test, who, root)
    left_out.tell(who)
    return (train, test) if trains else _divide(train, test_fraction, seed)


def _scan(folder: Path, who: str, left_out: _image_files.LeftOut) -> Classes:
    """Image files of each class, both in the order of their names.

    Files in subfolders of a class belong to it.
    """
    children = _children(folder)
    for child in children:
        if not child.is_dir():
            left_out.note(child.name)
    classes = {
        child.name: _files(child, left_out) for child in children if child.is_dir()
    }
    for name in classes:
        if os.fsencode(name).decode("utf-8", "replace") != name:
            raise ValueError(
                f"`{who}` needs folders of classes whose names are UTF-8, got "
                f"{os.fsencode(name)!r} in {folder}. Rename it."
            )
    if not classes:
        raise ValueError(
            f"`{who}` needs image files in one subfolder per class, got no class in "
            f"{folder}."
        )
    return classes


def _files(folder: Path, left_out: _image_files.LeftOut) -> list[Path]:
    """The image files in a folder and in those below it; regular ones alone."""
    found: list[Path] = []
    seen: set[str] = set()
    waiting = [folder]
    while waiting:
        folder = waiting.pop()
        if (real := os.path.realpath(folder)) in seen:  # a loop of links
            continue
        seen.add(real)
        folders = []
        with os.scandir(folder) as entries:
            children = sorted(entries, key=lambda entry: entry.name)
        for entry in children:
            path = Path(entry.path)
            if _image_files.is_hidden(entry.name):
                continue
            if entry.is_dir():
                folders.append(path)
            elif not entry.is_file():  # a pipe would wait for ever
                left_out.note(entry.name, "no regular file")
            elif _image_files.is_image(entry.name, _head(path)):
                found.append(path)
            else:
                left_out.note(entry.name)
        waiting += reversed(folders)
    return found


def _head(path: Path) -> bytes:
    """The first bytes of a file that has no ending; it is not opened otherwise."""
    if path.suffix:
        return b""
    with path.open("rb") as file:
        return file.read(_image_files.HEAD)


def _children(folder: Path) -> list[Path]:
    children = (
        child for child in folder.iterdir() if not _image_files.is_hidden(child.name)
    )
    return sorted(children, key=lambda child: child.name)


def _has_folders(folder: Path) -> bool:
    """Whether it can be a part; a class may be called like one."""
    return any(child.is_dir() for child in _children(folder))


def _test_folder(root: Path, who: str) -> Path:
    """The first folder of a usual name that has classes in it."""
    for folder in _image_files.named(root, _image_files.TEST_NAMES):
        if folder.is_dir() and _has_folders(folder):
            return folder
    raise FileNotFoundError(
        f"`{who}` needs a folder `test`, `testing`, `validation`, `valid` or `val` "
        f"with one subfolder per class beside `train`, got none in {root}. To have a "
        "test part drawn, put the class folders directly into one folder and load that."
    )


def _check_none_empty(classes: Classes, who: str, root: Path) -> None:
    empty = [name for name, files in classes.items() if not files]
    if empty:
        endings = ", ".join(sorted(_image_files.EXTENSIONS))
        raise ValueError(
            f"`{who}` needs image files ({endings}) in the folder of every class, got "
            f"none in {empty[0]} ({len(empty)} such in {root}). If that is meant, set "
            "`config.data.empty_classes=True`, or `empty_classes=True` of `load`."
        )


def _check_same_classes(train: Classes, test: Classes, who: str) -> None:
    unknown, untested = sorted(test.keys() - train), sorted(train.keys() - test)
    if unknown or untested:
        raise ValueError(
            f"`{who}` needs the same classes to train and to test, got "
            f"{unknown or 'none'} only in the test part and {untested or 'none'} only "
            "in the training part. If that is meant, set "
            "`config.data.empty_classes=True`, or `empty_classes=True` of `load`."
        )


def _divide(
    classes: Classes, test_fraction: float, seed: int
) -> tuple[Classes, Classes]:
    """Draws the test part class by class; at least one of two or more images."""
    train, test = {}, {}
    for stream, (name, files) in enumerate(classes.items()):
        count = len(files)
        wanted = max(1, round(count * test_fraction))
        order = permutation(count, seed=seed, stream=stream)
        drawn = set(order[: min(wanted, count - 1)].tolist())
        train[name] = [file for i, file in enumerate(files) if i not in drawn]
        test[name] = [file for i, file in enumerate(files) if i in drawn]
    return train, test


def _record_set(path: str, train: Classes, test: Classes) -> RecordSet:
    return RecordSet(f"folder:{path}", _records(train), _records(test), tuple(train))


def _records(classes: Classes) -> FolderRecords:
    paths = [str(path) for files in classes.values() for path in files]
    labels = [label for label, files in enumerate(classes.values()) for _ in files]
    return FolderRecords(paths, labels)
