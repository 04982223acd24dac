"""What every source returns: a training and a test part, checked once."""

import dataclasses
from collections.abc import Mapping
from typing import Any, NamedTuple

import jax
import numpy as np


class ImageSet(NamedTuple):
    """Images and their labels.

    Attributes:
        images: uint8 of shape (n, height, width, channels), C-contiguous, in
            `[0, 255]`. One channel is gray, three are red, green and blue. Or other
            examples, float32 or int32 of shape (n, ...), which models get as they are.
        labels: int32 of shape (n,), the index of each image's class. In a set without
            classes any array of n entries, or a dictionary or tuple of such arrays.
    """

    images: np.ndarray
    labels: Any


@dataclasses.dataclass(frozen=True, eq=False)
class Dataset:
    """A set in memory: what to train on, what to test on, what it is called.

    Attributes:
        name: The string the set was loaded with.
        train: Images to train on, at least one.
        test: Images to test on, at least one, of the same height, width and channels.
        class_names: Name of each class; label `k` means `class_names[k]`. Empty where
            the labels are something else, such as numbers that are to be predicted.
        contents: What tells the parts from others, as `contents` makes it; empty for
            what that finds in the arrays.
        validation: Images that choices are made on, such as which checkpoint is the
            best; None without such a part.

    Raises:
        ValueError: If a part is empty or of a wrong dtype or rank, if it has more or
            fewer labels than images, if a label is negative or at least the number of
            classes, or if the two parts differ in what an example is.

    Example:
        >>> import numpy as np
        >>> from hypersphere import data
        >>> images = np.zeros((2, 4, 5, 3), np.uint8)
        >>> part = data.ImageSet(images, np.array([0, 1], np.int32))
        >>> dataset = data.Dataset("tiny", part, part, ("cat", "dog"))
        >>> dataset.num_classes, dataset.image_shape
        (2, (4, 5, 3))
        >>> part = data.ImageSet(images, np.array([0.1, 0.7], np.float32))
        >>> data.Dataset("angles", part, part).num_classes
        0
    """

    name: str
    train: ImageSet
    test: ImageSet
    class_names: tuple[str, ...] = ()
    contents: Mapping[str, str] = dataclasses.field(default_factory=dict)
    validation: ImageSet | None = None

    def __post_init__(self):
        """Checks the parts and that they fit together."""
        for name, part in parts_of(self).items():
            where = f"{self.name}, {name}"
            _check_images(part.images, where)
            if self.class_names:
                _check_classes(part.labels, where)
            _check_count(part, where)
            if self.class_names:
                _check_range(part.labels, where, self.num_classes)
            if self.train.images.shape[1:] != part.images.shape[1:]:
                raise ValueError(
                    f"`Dataset` ({self.name}) needs training and {name} images of one "
                    f"shape, got `train.images.shape={self.train.images.shape}` and "
                    f"`{name}.images.shape={part.images.shape}`."
                )
            here, there = (_kinds(each) for each in (self.train, part))
            if here != there:
                raise ValueError(
                    f"`Dataset` ({self.name}) needs training and {name} examples of "
                    f"one kind, got {here} and {there}."
                )

    @property
    def num_classes(self) -> int:
        """Number of classes; labels lie in `[0, num_classes)`; 0 without classes."""
        return len(self.class_names)

    @property
    def image_shape(self) -> tuple[int, ...]:
        """Height, width and channels of an image; the shape of another example."""
        return self.train.images.shape[1:]


def parts_of(given: Any) -> dict[str, Any]:
    """The parts that a `Dataset` or `RecordSet` has, by name."""
    found = {name: getattr(given, name) for name in ("train", "test", "validation")}
    return {name: part for name, part in found.items() if part is not None}


def _kinds(part: ImageSet) -> Any:
    """The dtype of an example, and what is to be said of it."""
    kind = lambda array: f"{array.dtype}{list(array.shape[1:])}"  # noqa: E731
    return part.images.dtype.name, jax.tree.map(kind, part.labels)


def _check_images(images: np.ndarray, where: str) -> None:
    is_image = images.dtype == np.uint8 and images.ndim == 4
    is_other = images.dtype in (np.float32, np.int32) and images.ndim > 0
    if not is_image and not is_other:
        raise ValueError(
            f"`Dataset` ({where}) needs uint8 `images` of shape (n, height, width, "
            "channels), or float32 or int32 ones of shape (n, ...) that are taken as "
            f"they are, got {images.dtype} of shape {images.shape}."
        )


_LABELS = ("int32", "float32", "bool", "uint8")


def _check_count(part: ImageSet, where: str) -> None:
    images, labels = len(part.images), jax.tree.leaves(part.labels)
    shapes = [np.shape(label) for label in labels]
    if bad := [label for label in labels if not isinstance(label, np.ndarray)]:
        raise ValueError(
            f"`Dataset` ({where}) needs `labels` that are NumPy arrays, or a "
            f"dictionary or tuple of some, got {type(bad[0]).__name__}."
        )
    if wide := [label.dtype for label in labels if label.dtype.name not in _LABELS]:
        raise ValueError(
            f"`Dataset` ({where}) needs `labels` of {', '.join(_LABELS)}, got "
            f"{wide[0]}, which JAX would cut off or does not know. Convert them."
        )
    if not images or not shapes or any(shape[:1] != (images,) for shape in shapes):
        counts = " and ".join(str(*shape[:1]) for shape in shapes) or "no"
        raise ValueError(
            f"`Dataset` ({where}) needs at least one image and as many labels as "
            f"images, got {images} images and {counts} labels."
        )


def _check_classes(labels: Any, where: str) -> None:
    is_array = isinstance(labels, np.ndarray)
    if not is_array or labels.dtype != np.int32 or labels.ndim != 1:
        got = f"{labels.dtype} of shape {labels.shape}" if is_array else repr(labels)
        raise ValueError(
            f"`Dataset` ({where}) needs int32 `labels` of shape (n,), got {got}. "
            "Labels that are no classes need a set without `class_names`."
        )


def _check_range(labels: np.ndarray, where: str, num_classes: int) -> None:
    bad = np.flatnonzero((labels < 0) | (labels >= num_classes))
    if bad.size:
        raise ValueError(
            f"`Dataset` ({where}) needs `0 <= label < {num_classes}`, the number of "
            f"classes, got `labels[{bad[0]}]={labels[bad[0]]}` ({bad.size} such "
            "labels in all)."
        )
