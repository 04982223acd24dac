"""Every source of images: what its name means, in one row."""

import dataclasses
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from typing import Any

from hypersphere.data._cifar import load_cifar
from hypersphere.data._dataset import Dataset
from hypersphere.data._idx import load_idx
from hypersphere.data._memory import MAX_PIXELS
from hypersphere.data._mnist5k import load_mnist5k
from hypersphere.data._records import RecordSet
from hypersphere.data._synthetic import load_synthetic


@dataclasses.dataclass(frozen=True, kw_only=True)
class Reading:
    """What readers are told besides where the images are.

    Attributes:
        data_dir: Where `tfds:` looks for prepared sets; empty for its own default.
        image_size: Pixels that images are resized to, square, on reading; 0 for not.
        test_fraction: Share of each class that becomes the test part of a folder that
            has none.
        seed: Seed of that draw, and of synthetic images.
        empty_classes: Whether a folder may have classes without an image in a part.
        max_bad: Share of the images of a part that may be left out because they are
            broken, where a set is loaded whole.
        orient: Whether images are turned the way that their EXIF data tell.
        max_pixels: Pixels that one may have at most.
    """

    data_dir: str = ""
    image_size: int = 0
    test_fraction: float = 0.2
    seed: int = 0
    empty_classes: bool = False
    max_bad: float = 0.0
    orient: bool = True
    max_pixels: int = MAX_PIXELS

    @property
    def decoding(self) -> dict[str, Any]:
        """What decoding a whole set takes of it."""
        names = ("image_size", "max_bad", "orient", "max_pixels")
        return {name: getattr(self, name) for name in names}


@dataclasses.dataclass(frozen=True)
class Source:
    """A source of images.

    Attributes:
        form: How it is written, such as `folder:PATH`.
        load: (what is behind the colon, reading) -> the whole set in memory.
        open: The same -> a set that is read image by image; None where it cannot be.
        is_prepared: Whether `prepare` makes a TensorFlow Datasets set of it.
    """

    form: str
    load: Callable[[str, Reading], Dataset]
    open: Any = None
    is_prepared: bool = False


# What the readers of some of them import is optional.


def _load_tfds(name: str, reading: Reading) -> Dataset:
    from hypersphere.data._tfds import load_tfds

    return load_tfds(name, data_dir=reading.data_dir, **reading.decoding)


def _open_tfds(name: str, reading: Reading) -> RecordSet:
    from hypersphere.data._tfds import open_tfds

    return open_tfds(name, data_dir=reading.data_dir)


def _load_folder(path: str, reading: Reading) -> Dataset:
    from hypersphere.data._folder import load_folder

    return load_folder(
        path,
        test_fraction=reading.test_fraction,
        seed=reading.seed,
        empty_classes=reading.empty_classes,
        **reading.decoding,
    )


def _open_folder(path: str, reading: Reading) -> RecordSet:
    from hypersphere.data._folder import open_folder

    return open_folder(
        path,
        test_fraction=reading.test_fraction,
        seed=reading.seed,
        empty_classes=reading.empty_classes,
    )


def _load_tar(path: str, reading: Reading) -> Dataset:
    from hypersphere.data._whole import load_records

    opened = _open_tar(path, reading)
    return load_records(opened, gray=False, **reading.decoding)


def _open_tar(path: str, reading: Reading) -> RecordSet:
    del reading
    from hypersphere.data._tar import open_tar

    return open_tar(path)


SOURCES = {
    "mnist5k": Source("mnist5k", lambda _, reading: load_mnist5k()),
    "tfds": Source("tfds:NAME", _load_tfds, _open_tfds),
    "folder": Source("folder:PATH", _load_folder, _open_folder, is_prepared=True),
    "tar": Source("tar:PATH", _load_tar, _open_tar, is_prepared=True),
    "idx": Source("idx:PATH", lambda path, _: load_idx(path), is_prepared=True),
    "cifar": Source("cifar:PATH", lambda path, _: load_cifar(path), is_prepared=True),
    "synthetic": Source(
        "synthetic:HxWxC,classes=K,examples=N",
        lambda spec, reading: load_synthetic(spec, seed=reading.seed),
    ),
}
"""By the word before the colon."""


def find(
    source: str, who: str, which: Callable[[Source], object] = bool, why: str = ""
) -> tuple[Source, str]:
    """The row of a source, and what is behind its colon.

    Args:
        source: As a user writes it.
        who: What needs it, for the message.
        which: Row -> whether it can be used.
        why: What those that can be are, for the message.

    Returns:
        The row and the rest of the text.

    Raises:
        ValueError: If there is no such source, or it cannot be used; it lists those.
    """
    kind, colon, rest = source.partition(":")
    row = SOURCES.get(kind)
    if (
        row is None
        or not which(row)
        or bool(rest) != (":" in row.form)
        or (bool(colon) != bool(rest))
    ):
        *most, last = (f"`{each.form}`" for each in SOURCES.values() if which(each))
        raise ValueError(
            f"`{who}` needs `source` to be one of {', '.join(most)} or {last}{why}, "
            f"got `source={source!r}`."
        )
    return row, rest


def is_source(text: str) -> bool:
    """Whether a text begins as a source does, and is not just a path.

    Args:
        text: As `load` takes it, or the path of a folder.

    Returns:
        Whether the word before the colon is in the table of sources.

    Example:
        >>> from hypersphere import data
        >>> data.is_source("folder:photos"), data.is_source("photos")
        (True, False)
    """
    return text.partition(":")[0] in SOURCES


def is_streamed(source: str) -> bool:
    """Whether a source can be read image by image.

    Args:
        source: As `open_records` takes it.

    Returns:
        Whether `open_records` does.

    Example:
        >>> from hypersphere import data
        >>> data.is_streamed("folder:photos"), data.is_streamed("mnist5k")
        (True, False)
    """
    row = SOURCES.get(source.partition(":")[0])
    return row is not None and row.open is not None


def streamed_forms() -> tuple[str, ...]:
    """How sources are written that can be read image by image.

    Returns:
        Their forms.

    Example:
        >>> from hypersphere import data
        >>> data.streamed_forms()
        ('tfds:NAME', 'folder:PATH', 'tar:PATH')
    """
    return tuple(row.form for row in SOURCES.values() if row.open is not None)


@contextmanager
def naming_what_is_missing(call: str) -> Iterator[None]:
    """Tells which extra brings a reader that is not installed.

    Args:
        call: What needs it.
    """
    try:
        yield
    except ModuleNotFoundError as error:
        if error.name not in ("PIL", "tensorflow_datasets"):
            raise
        raise ModuleNotFoundError(
            f"`{call}` needs the package `{error.name}`, which is not installed. "
            "`pip install 'hypersphere-jax[train]'` brings it.",
            name=error.name,
        ) from error


def check_reading(reading: Reading, who: str) -> None:
    """Raises if a number is out of range.

    Args:
        reading: The numbers.
        who: What was called with them, for the message.
    """
    conditions = {
        "image_size": (
            "image_size >= 0` pixels (0 keeps the size)",
            reading.image_size >= 0,
        ),
        "test_fraction": ("0 < test_fraction < 1`", 0 < reading.test_fraction < 1),
        "seed": ("0 <= seed < 2**64`", 0 <= reading.seed < 2**64),
        "max_bad": ("0 <= max_bad <= 1`", 0 <= reading.max_bad <= 1),
        "max_pixels": ("max_pixels >= 1`", reading.max_pixels >= 1),
    }
    for name, (condition, holds) in conditions.items():
        if not holds:
            value = getattr(reading, name)
            raise ValueError(f"`{who}` needs `{condition}, got `{name}={value!r}`.")
