"""What every source returns: a training and a test part, checked once."""

import dataclasses
from typing import NamedTuple

import numpy as np
from jaxtyping import Int32, UInt8


class ImageSet(NamedTuple):
    """Images and their labels.

    Attributes:
        images: uint8 of shape (n, height, width, channels), C-contiguous, in
            `[0, 255]`. One channel is gray, three are red, green and blue.
        labels: int32 of shape (n,), the index of each image's class.
    """

    images: UInt8[np.ndarray, "n height width channels"]
    labels: Int32[np.ndarray, " n"]


@dataclasses.dataclass(frozen=True, eq=False)
class Dataset:
    """A classification set: what to train on, what to test on, what it is called.

    Attributes:
        name: The string the set was loaded with.
        train: Images to train on, at least one.
        test: Images to test on, at least one, of the same height, width and channels.
        class_names: Name of each class; label `k` means `class_names[k]`.

    Raises:
        ValueError: If a part is empty or of a wrong dtype or rank, if it has more or
            fewer labels than images, if a label is negative or at least the number of
            classes, or if the two parts differ in the shape of an image.

    Example:
        >>> import numpy as np
        >>> from hypersphere import data
        >>> images = np.zeros((2, 4, 5, 3), np.uint8)
        >>> part = data.ImageSet(images, np.array([0, 1], np.int32))
        >>> dataset = data.Dataset("tiny", part, part, ("cat", "dog"))
        >>> dataset.num_classes, dataset.image_shape
        (2, (4, 5, 3))
    """

    name: str
    train: ImageSet
    test: ImageSet
    class_names: tuple[str, ...]

    def __post_init__(self):
        """Checks both parts and that they fit together."""
        _check_part(self.train, f"{self.name}, train", self.num_classes)
        _check_part(self.test, f"{self.name}, test", self.num_classes)
        if self.train.images.shape[1:] != self.test.images.shape[1:]:
            raise ValueError(
                f"`Dataset` ({self.name}) needs training and test images of one "
                f"shape, got `train.images.shape={self.train.images.shape}` and "
                f"`test.images.shape={self.test.images.shape}`."
            )

    @property
    def num_classes(self) -> int:
        """Number of classes; labels lie in `[0, num_classes)`."""
        return len(self.class_names)

    @property
    def image_shape(self) -> tuple[int, int, int]:
        """Height, width and channels of an image."""
        _, height, width, channels = self.train.images.shape
        return height, width, channels


def _check_part(part: ImageSet, where: str, num_classes: int) -> None:
    """Raises unless images and labels are well formed and belong together."""
    images, labels = part
    if images.dtype != np.uint8 or images.ndim != 4:
        raise ValueError(
            f"`Dataset` ({where}) needs uint8 `images` of shape (n, height, width, "
            f"channels), got {images.dtype} of shape {images.shape}."
        )
    if labels.dtype != np.int32 or labels.ndim != 1:
        raise ValueError(
            f"`Dataset` ({where}) needs int32 `labels` of shape (n,), got "
            f"{labels.dtype} of shape {labels.shape}."
        )
    if not len(images) or len(images) != len(labels):
        raise ValueError(
            f"`Dataset` ({where}) needs at least one image and as many labels as "
            f"images, got {len(images)} images and {len(labels)} labels."
        )
    bad = np.flatnonzero((labels < 0) | (labels >= num_classes))
    if bad.size:
        raise ValueError(
            f"`Dataset` ({where}) needs `0 <= label < {num_classes}`, the number of "
            f"classes, got `labels[{bad[0]}]={labels[bad[0]]}` ({bad.size} such "
            "labels in all)."
        )
