"""From one string to a data set in memory."""

import dataclasses

from hypersphere.data._dataset import Dataset, ImageSet
from hypersphere.data._memory import MAX_PIXELS, check_memory
from hypersphere.data._sources import (
    Reading,
    check_reading,
    find,
    naming_what_is_missing,
)


def load(
    source: str,
    *,
    data_dir: str = "",
    image_size: int = 0,
    test_fraction: float = 0.2,
    seed: int = 0,
    empty_classes: bool = False,
    max_bad: float = 0.0,
    orient: bool = True,
    max_pixels: int = MAX_PIXELS,
) -> Dataset:
    """Loads a whole image classification set into memory.

    | source | what |
    |---|---|
    | `mnist5k` | 5,000 MNIST digits that ship with the package |
    | `tfds:NAME` | a TensorFlow Datasets set prepared as array_record |
    | `cifar:PATH` | CIFAR-10 or CIFAR-100 in their binary versions |
    | `folder:PATH` | `PATH/train/CLASS/*` and `PATH/test/CLASS/*`, or `PATH/CLASS/*` |
    | `tar:PATH` | a folder of tar archives, ImageNet's as published among them |
    | `idx:PATH` | MNIST-format files, plain or gzipped |
    | `synthetic:HxWxC,classes=K,examples=N` | N generated, learnable images |

    A folder's parts may also be called `training`, and `testing`, `validation`, `valid`
    or `val`, with any capitals. Images in folders below a class belong to it; what is
    no image is left out, and a line says how much that is. A folder's images become
    gray if all of them are gray, and RGB otherwise; 16-bit gray keeps its upper 8 bits,
    transparent pixels are laid over white, and an image is turned the way that its EXIF
    data tell. The test part of `tfds:` is the first of `test` and `validation` with
    known labels.

    Args:
        source: Where the images come from, in one of the seven forms.
        data_dir: Where `tfds:` looks for prepared sets. Empty means
            `$TFDS_DATA_DIR`, or `~/tensorflow_datasets`. Other sources ignore it.
        image_size: Height and width in pixels to bring every image to: the shorter side
            is resized (bicubic, antialiased) and the center cut out. 0 keeps the size.
        test_fraction: Share of each class that becomes the test part where a folder has
            none, in `(0, 1)`. Other sources ignore it.
        seed: Seed of that draw and of the synthetic images, in `[0, 2**64)`.
        empty_classes: Whether a folder may have classes without an image in a part.
        max_bad: Share of the image files of a part that may be broken, in `[0, 1]`:
            they are left out, and a line names each.
        orient: Whether image files are turned the way that their EXIF data tell.
        max_pixels: Pixels that an image file may have at most, at least 1; one that
            promises more counts as broken.

    Returns:
        The images as uint8, the labels as int32, and the names of the classes.

    Raises:
        ValueError: If an argument is out of range, or an image, a label or a file is
            broken, or the decoded images would not fit in 8 GiB.
        FileNotFoundError: If the set is not there.
        ModuleNotFoundError: If the reader of this source is not installed.

    Example:
        >>> from hypersphere import data
        >>> digits = data.load("mnist5k")
        >>> digits.train.images.shape, digits.num_classes
        ((4000, 28, 28, 1), 10)
        >>> data.load("synthetic:8x8x3,classes=2,examples=50").test.images.shape
        (10, 8, 8, 3)
    """
    reading = Reading(
        data_dir=data_dir,
        image_size=image_size,
        test_fraction=test_fraction,
        seed=seed,
        empty_classes=empty_classes,
        max_bad=max_bad,
        orient=orient,
        max_pixels=max_pixels,
    )
    check_reading(reading, "load")
    row, rest = find(source, "load")
    with naming_what_is_missing(f"load({source!r})"):
        return _resized(row.load(rest, reading), image_size)


def _resized(dataset: Dataset, image_size: int) -> Dataset:
    """The same set with square images, or the set itself where nothing changes."""
    height, width, channels = dataset.image_shape
    if not image_size or height == width == image_size:
        return dataset
    count = len(dataset.train.labels) + len(dataset.test.labels)
    check_memory(dataset.name, count, (image_size, image_size, channels))
    from hypersphere.data._images import resize

    train, test = (
        ImageSet(resize(part.images, image_size), part.labels)
        for part in (dataset.train, dataset.test)
    )
    return dataclasses.replace(dataset, train=train, test=test)
