"""Sets whose classes are folders of image files."""

import dataclasses
from pathlib import Path

from hypersphere.data._dataset import Dataset
from hypersphere.data._order import permutation
from hypersphere.data._records import Record, RecordSet
from hypersphere.data._whole import load_records

EXTENSIONS = frozenset(".png .jpg .jpeg .bmp .gif .webp .ppm .pgm .tif .tiff".split())

Classes = dict[str, list[Path]]


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
        """Its path."""
        return self.paths[index]


def load_folder(
    path: str, *, image_size: int, test_fraction: float, seed: int
) -> Dataset:
    """Decodes the images of both parts; gray if all of them are."""
    from hypersphere.data._images import is_gray  # reading the files needs no Pillow

    train, test = _parts(path, test_fraction, seed)
    opened = _record_set(path, train, test)
    paths = (
        file for part in (train, test) for files in part.values() for file in files
    )
    gray = all(is_gray(file, who=opened.name) for file in paths)
    return load_records(opened, gray=gray, image_size=image_size)


def open_folder(path: str, *, test_fraction: float, seed: int) -> RecordSet:
    """Lists the files of both parts."""
    return _record_set(path, *_parts(path, test_fraction, seed))


def _parts(path: str, test_fraction: float, seed: int) -> tuple[Classes, Classes]:
    """Lists `PATH/train` and its test part, or divides `PATH/CLASS/*` by the seed."""
    who = f"folder:{path}"
    root = Path(path).expanduser()
    if not root.is_dir():
        raise FileNotFoundError(
            f"`{who}` needs a folder with one subfolder per class, got {root}, which "
            f"{'is a file' if root.exists() else 'does not exist'}."
        )
    if (root / "train").is_dir():
        train = _scan(root / "train", who)
        test = _scan(_test_folder(root, who), who)
        _check_same_classes(train, test, who)
        return train, test
    return _divide(_scan(root, who), test_fraction, seed)


def _scan(folder: Path, who: str) -> Classes:
    """Image files of each class, both in the order of their names."""
    classes = {
        child.name: [
            file for file in _children(child) if file.suffix.lower() in EXTENSIONS
        ]
        for child in _children(folder)
        if child.is_dir()
    }
    empty = [name for name, files in classes.items() if not files]
    if not classes or empty:
        raise ValueError(
            f"`{who}` needs image files ({', '.join(sorted(EXTENSIONS))}) in one "
            f"subfolder per class, got "
            + (f"none in {folder / empty[0]}." if empty else f"no class in {folder}.")
        )
    return classes


def _children(folder: Path) -> list[Path]:
    children = (child for child in folder.iterdir() if not child.name.startswith("."))
    return sorted(children, key=lambda child: child.name)


def _test_folder(root: Path, who: str) -> Path:
    """The first folder of a usual name that has classes in it."""
    for name in ("test", "validation", "val"):
        folder = root / name
        if folder.is_dir() and any(child.is_dir() for child in _children(folder)):
            return folder
    raise FileNotFoundError(
        f"`{who}` needs a folder `test`, `validation` or `val` with one subfolder per "
        f"class beside `train`, got none in {root}. To have a test part drawn, put the "
        "class folders directly into one folder and load that."
    )


def _check_same_classes(train: Classes, test: Classes, who: str) -> None:
    unknown, untested = sorted(test.keys() - train), sorted(train.keys() - test)
    if unknown or untested:
        raise ValueError(
            f"`{who}` needs the same classes to train and to test, got "
            f"{unknown or 'none'} only in the test part and {untested or 'none'} only "
            "in the training part."
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
