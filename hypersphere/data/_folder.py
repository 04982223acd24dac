"""Sets whose classes are folders of image files."""

from pathlib import Path

import numpy as np

from hypersphere.data._dataset import Dataset, ImageSet
from hypersphere.data._images import Encoded, decode_all, is_gray
from hypersphere.data._order import permutation

EXTENSIONS = frozenset(".png .jpg .jpeg .bmp .gif .webp .ppm .pgm .tif .tiff".split())

Classes = dict[str, list[Path]]


def load_folder(
    path: str, *, image_size: int, test_fraction: float, seed: int
) -> Dataset:
    """Reads `PATH/train` and its test part, or divides `PATH/CLASS/*` by the seed."""
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
    else:
        train, test = _divide(_scan(root, who), test_fraction, seed)
    return _decode(train, test, who, image_size)


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


def _decode(train: Classes, test: Classes, who: str, image_size: int) -> Dataset:
    parts = [_flatten(train), _flatten(test)]
    gray = all(is_gray(path, who=who) for paths, _ in parts for path in paths)
    images = decode_all(
        [_encoded(paths) for paths, _ in parts],
        who=who,
        gray=gray,
        image_size=image_size,
    )
    train_set, test_set = (
        ImageSet(pixels, labels)
        for pixels, (_, labels) in zip(images, parts, strict=True)
    )
    return Dataset(who, train_set, test_set, tuple(train))


def _flatten(classes: Classes) -> tuple[list[Path], np.ndarray]:
    paths = [path for files in classes.values() for path in files]
    counts = [len(files) for files in classes.values()]
    return paths, np.repeat(np.arange(len(counts), dtype=np.int32), counts)


def _encoded(paths: list[Path]) -> Encoded:
    return Encoded(
        count=len(paths),
        read=lambda block: paths[block.start : block.stop],
        name=lambda index: str(paths[index]),
    )
