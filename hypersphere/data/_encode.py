"""Images of any source as the records of a prepared set."""

import dataclasses
import os
from io import BytesIO
from typing import NamedTuple

from PIL import Image

from hypersphere.data._dataset import ImageSet
from hypersphere.data._images import _in_mode, may_be_gray
from hypersphere.data._memory import MAX_PIXELS
from hypersphere.data._open import open_records
from hypersphere.data._open_image import (
    Decoding,
    open_image,
    orientation_of,
    turned_image,
)
from hypersphere.data._records import Record, Records, RecordSet
from hypersphere.data._sources import Reading, find

Shape = tuple[int | None, int | None, int]


@dataclasses.dataclass(frozen=True, kw_only=True)
class Options:
    """What decides on the content of a prepared set.

    Attributes:
        max_side: Pixels of the shorter side above which an image is made smaller, as a
            JPEG; at least 1, or 0 to store every file as it is.
        quality: Quality of those JPEGs, in `[1, 100]`.
        shards: Files of the training part, at least 1, or 0 for one per 10,000 images.
            Files of the test part hold as many images.
        test_fraction: Share of each class that becomes the test part of a folder that
            has none, in `(0, 1)`.
        seed: Seed of that draw and of the order of training images, in `[0, 2**64)`.
        orient: Whether an image that is made smaller is turned as its EXIF data tell;
            a file that is stored as it is keeps them.
        max_pixels: Pixels above which an image that may have to be made smaller counts
            as unreadable, at least 1.

    Raises:
        ValueError: If one of them is out of range.

    Example:
        >>> Options(max_side=256).quality
        90
    """

    max_side: int = 0
    quality: int = 90
    shards: int = 0
    test_fraction: float = 0.2
    seed: int = 0
    orient: bool = True
    max_pixels: int = MAX_PIXELS

    @property
    def how(self) -> Decoding:
        """How image files are read."""
        return Decoding(self.orient, self.max_pixels)

    def __post_init__(self):
        """Checks every value."""
        conditions = {
            "max_side": ("0 <= max_side", self.max_side >= 0),
            "quality": ("1 <= quality <= 100", 1 <= self.quality <= 100),
            "shards": ("0 <= shards", self.shards >= 0),
            "test_fraction": ("0 < test_fraction < 1", 0 < self.test_fraction < 1),
            "seed": ("0 <= seed < 2**64", 0 <= self.seed < 2**64),
            "max_pixels": ("max_pixels >= 1", self.max_pixels >= 1),
        }
        for name, (condition, holds) in conditions.items():
            if not holds:
                value = getattr(self, name)
                raise ValueError(
                    f"`prepare` needs `{condition}`, got `{name}={value}`."
                )


class Encoded(NamedTuple):
    """An image's name and its serialized example, or None if it is unreadable."""

    name: str
    example: bytes | None


@dataclasses.dataclass(frozen=True, eq=False)
class PixelRecords:
    """Decoded images as PNG files."""

    images: ImageSet
    split: str

    def __len__(self) -> int:
        return len(self.images.labels)

    def __getitem__(self, index: int) -> Record:
        """Encodes an image."""
        pixels = self.images.images[index]
        file = BytesIO()
        gray = pixels.shape[-1] == 1
        Image.fromarray(pixels[..., 0] if gray else pixels).save(file, "PNG")
        return Record(file.getvalue(), int(self.images.labels[index]))

    def name(self, index: int) -> str:
        """A file name that tells the image's position in its source."""
        return f"{self.split}_{index:05d}.png"


def open_source(source: str, options: Options) -> tuple[RecordSet, Shape]:
    """The images, and their height, width (None if they vary) and channels."""
    row, path = find(source, "prepare", lambda row: row.is_prepared)
    if row.open is not None:
        opened = open_records(
            source, test_fraction=options.test_fraction, seed=options.seed
        )
        return opened, (None, None, 1 if _is_gray(opened) else 3)
    dataset = row.load(path, Reading(seed=options.seed))
    train = PixelRecords(dataset.train, "train")
    test = PixelRecords(dataset.test, "test")
    height, width, channels = dataset.image_shape
    shape = (None, None, channels) if options.max_side else (height, width, channels)
    return RecordSet(source, train, test, dataset.class_names), shape


def _is_gray(opened: RecordSet) -> bool:
    """Whether no image has colors; a set with colors shows it in its first images."""
    contents = (
        records[index].content
        for records in (opened.train, opened.test)
        for index in range(len(records))
    )
    return all(may_be_gray(BytesIO(content)) for content in contents)


def encode(records: Records, index: int, *, options: Options, gray: bool) -> Encoded:
    """Reads an image, makes it smaller where that is asked for, and serializes it."""
    content, label = records[index]
    name = records.name(index)
    if options.max_side:
        try:
            content = _smaller(content, options, "L" if gray else "RGB")
        except Exception:  # decoders raise OSError, SyntaxError, zlib.error, ...
            return Encoded(name, None)
    return Encoded(name, _example(content, label, name.rpartition("/")[2]))


def _example(content: bytes, label: int, file_name: str) -> bytes:
    """TensorFlow's message for an image, by the copy of it in TensorFlow Datasets."""
    from tensorflow_datasets.proto import tf_example_pb2

    example = tf_example_pb2.Example()  # pyrefly: ignore[missing-attribute]
    feature = example.features.feature
    feature["image"].bytes_list.value.append(content)
    feature["label"].int64_list.value.append(label)
    feature["file_name"].bytes_list.value.append(os.fsencode(file_name))
    return example.SerializeToString(deterministic=True)


def _smaller(content: bytes, options: Options, mode: str) -> bytes:
    """The file itself, or a JPEG whose shorter side has `max_side` pixels."""
    with open_image(BytesIO(content), options.how) as image:
        orientation = orientation_of(image, options.how)
        shorter = min(image.size)
        if shorter <= options.max_side:
            return content
        width, height = (round(s * options.max_side / shorter) for s in image.size)
        image.load()
        resized = _in_mode(image, mode).resize(
            (width, height), Image.Resampling.BICUBIC
        )
    resized = turned_image(resized, orientation)  # which the new file does not tell
    file = BytesIO()
    resized.save(file, "JPEG", quality=options.quality)
    return file.getvalue()
