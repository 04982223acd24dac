"""Encoded images to arrays of pixels, with Pillow, on several threads."""

import contextlib
import functools
import os
import sys
import threading
from collections.abc import Callable, Iterator, Sequence
from concurrent.futures import ThreadPoolExecutor
from io import BytesIO
from pathlib import Path
from typing import NamedTuple

import numpy as np
from jaxtyping import UInt8
from PIL import Image, ImageOps

from hypersphere.data import _open_image
from hypersphere.data._memory import check_memory
from hypersphere.data._open_image import Decoding, open_image

_BLOCK = 256  # images a thread takes at a time
_THREADS = min(16, os.cpu_count() or 1)

File = Path | BytesIO
Images = UInt8[np.ndarray, "n _height _width channels"]


class Encoded(NamedTuple):
    """Images that are not decoded yet.

    Attributes:
        count: How many there are.
        read: Called with a range of indices, returns a file for each. Threads call it.
        name: Called with an index, says which image it is, for messages.
    """

    count: int
    read: Callable[[range], Sequence[File]]
    name: Callable[[int], str]


class BrokenImageError(ValueError):
    """An image file that cannot be decoded."""


class Decoded(NamedTuple):
    """Images, and which of those that were asked for they are.

    Attributes:
        images: uint8 (n, height, width, channels).
        kept: The index of each.
        left_out: Names of the others, with why they cannot be decoded.
    """

    images: np.ndarray
    kept: np.ndarray
    left_out: list[str]


def decode_all(
    parts: Sequence[Encoded],
    *,
    who: str,
    gray: bool,
    image_size: int,
    how: Decoding,
    max_bad: float,
) -> list[Decoded]:
    """Decodes every image of every part, the first of which is not empty.

    Args:
        parts: The images.
        who: What needs them, for messages.
        gray: Whether pixels have one channel.
        image_size: Side of the square that they are brought to; 0 for none.
        how: How files are read.
        max_bad: Share of each part that may be left out because it is broken.
    """
    decode = functools.partial(
        decode_one, who=who, gray=gray, image_size=image_size, how=how
    )
    first = parts[0]
    first_name, shape = _first_shape(first, decode, int(max_bad * first.count))
    check_memory(who, sum(part.count for part in parts), shape)

    def decode_checked(file: File, name: str) -> np.ndarray:
        pixels = decode(file, name=name)
        if pixels.shape != shape:
            raise ValueError(
                f"`{who}` needs images of one size, got {_size(shape)} (height x "
                f"width) in {first_name} and {_size(pixels.shape)} in {name}. Bring "
                "them to one size, for example with `data.image_size="
                f"{min(*shape[:2], *pixels.shape[:2])}`."
            )
        return pixels

    return [
        _decode_part(part, decode_checked, shape, int(max_bad * part.count))
        for part in parts
    ]


def _first_shape(
    part: Encoded, decode: Callable[..., np.ndarray], most: int
) -> tuple[str, tuple[int, ...]]:
    """The name and shape of the first image that is not broken."""
    for index in range(part.count):
        try:
            name = part.name(index)
            (file,) = part.read(range(index, index + 1))
            return name, decode(file, name=name).shape
        except BrokenImageError:
            if index >= min(most, part.count - 1):
                raise
    raise AssertionError("not reached")


def _decode_part(
    part: Encoded,
    decode: Callable[[File, str], np.ndarray],
    shape: tuple[int, ...],
    most: int,
) -> Decoded:
    images = np.empty((part.count, *shape), np.uint8)
    left_out: dict[int, str] = {}
    lock = threading.Lock()

    def fill(block: range) -> None:
        for index, file in zip(block, part.read(block), strict=True):
            try:
                images[index] = decode(file, part.name(index))
            except BrokenImageError as error:
                with lock:
                    left_out[index] = f"{part.name(index)} ({error.__cause__})"
                    if len(left_out) > most:
                        raise

    everything = range(part.count)
    blocks = [everything[i : i + _BLOCK] for i in range(0, part.count, _BLOCK)]
    with ThreadPoolExecutor(_THREADS) as pool:
        list(pool.map(fill, blocks))  # a list, so that a thread's error is raised here
    kept = np.setdiff1d(np.arange(part.count), list(left_out))
    told = [left_out[index] for index in sorted(left_out)]
    return Decoded(images[kept] if left_out else images, kept, told)


def may_be_gray(file: Path | BytesIO) -> bool:
    """Whether the header of an image promises no colors; one unreadable has none."""
    try:
        with open_image(file, Decoding(max_pixels=sys.maxsize)) as image:
            return Image.getmodebase(image.mode) == "L"
    except Exception:  # decoders raise OSError, SyntaxError, ...
        return True


def resize(images: Images, image_size: int) -> Images:
    """Each image's largest centered square, resized to `image_size` pixels a side."""
    count, _, _, channels = images.shape
    resized = np.empty((count, image_size, image_size, channels), np.uint8)
    for index in np.ndindex(count, channels):  # any number of channels, one at a time
        plane = Image.fromarray(images[index[0], :, :, index[1]])
        resized[index[0], :, :, index[1]] = np.asarray(_fit(plane, image_size))
    return resized


def decode_one(
    file: File, *, who: str, name: str, gray: bool, image_size: int, how: Decoding
) -> np.ndarray:
    """Reads one image completely; returns uint8 (height, width, 1 or 3)."""
    with _blame(who, name), open_image(file, how) as image:
        orientation = _open_image.orientation_of(image, how)
        image.load()
        image = _in_mode(image, "L" if gray else "RGB")
        image = _open_image.turned_image(image, orientation)
        if image_size:
            image = _fit(image, image_size)
        pixels = np.asarray(image)
    return pixels.reshape(*pixels.shape[:2], -1)


@contextlib.contextmanager
def _blame(who: str, name: str) -> Iterator[None]:
    """Adds the image's name to whatever its decoder raises."""
    try:
        yield
    except Exception as error:  # decoders raise OSError, SyntaxError, zlib.error, ...
        raise BrokenImageError(
            f"`{who}` needs whole, readable images, got {name}, which cannot be "
            f"decoded ({error}). Replace or remove it."
        ) from error


def _in_mode(image: Image.Image, mode: str) -> Image.Image:
    image = _opaque(image)
    return image if image.mode == mode else image.convert(mode)


def _opaque(image: Image.Image) -> Image.Image:
    """Prepares for `convert`, which clips 16-bit gray and drops transparency."""
    if image.mode[0] in "IF":
        values = np.asarray(image)
        if image.mode == "F" or values.min() < 0 or values.max() >= 2**16:
            raise ValueError("its pixels are neither 8- nor 16-bit integers")
        return Image.fromarray((values >> 8).astype(np.uint8))
    if image.has_transparency_data:
        image = image.convert("RGBA")
        white = Image.new("RGBA", image.size, "white")
        return Image.alpha_composite(white, image)
    return image


def _fit(image: Image.Image, image_size: int) -> Image.Image:
    return ImageOps.fit(image, (image_size, image_size), Image.Resampling.BICUBIC)


def _size(shape: tuple[int, ...]) -> str:
    return f"{shape[0]}x{shape[1]}"
