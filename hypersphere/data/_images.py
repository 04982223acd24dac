"""Encoded images to arrays of pixels, with Pillow, on several threads."""

import contextlib
import functools
import os
from collections.abc import Callable, Iterator, Sequence
from concurrent.futures import ThreadPoolExecutor
from io import BytesIO
from pathlib import Path
from typing import NamedTuple

import numpy as np
from jaxtyping import UInt8
from PIL import Image, ImageOps

from hypersphere.data._memory import check_memory

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


def decode_all(
    parts: Sequence[Encoded], *, who: str, gray: bool, image_size: int
) -> list[Images]:
    """Decodes every image of every part, the first of which is not empty."""
    decode = functools.partial(_decode, who=who, gray=gray, image_size=image_size)
    first = parts[0]
    first_name = first.name(0)
    shape = decode(first.read(range(1))[0], name=first_name).shape
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

    return [_decode_part(part, decode_checked, shape) for part in parts]


def _decode_part(
    part: Encoded, decode: Callable[[File, str], np.ndarray], shape: tuple[int, ...]
) -> np.ndarray:
    images = np.empty((part.count, *shape), np.uint8)

    def fill(block: range) -> None:
        for index, file in zip(block, part.read(block), strict=True):
            images[index] = decode(file, part.name(index))

    everything = range(part.count)
    blocks = [everything[i : i + _BLOCK] for i in range(0, part.count, _BLOCK)]
    with ThreadPoolExecutor(_THREADS) as pool:
        list(pool.map(fill, blocks))  # a list, so that a thread's error is raised here
    return images


def is_gray(path: Path, *, who: str) -> bool:
    """Whether the header of an image file promises gray pixels."""
    with _blame(who, str(path)), Image.open(path) as image:
        return Image.getmodebase(image.mode) == "L"


def resize(images: Images, image_size: int) -> Images:
    """Each image's largest centered square, resized to `image_size` pixels a side."""
    count, _, _, channels = images.shape
    resized = np.empty((count, image_size, image_size, channels), np.uint8)
    for index in np.ndindex(count, channels):  # any number of channels, one at a time
        plane = Image.fromarray(images[index[0], :, :, index[1]])
        resized[index[0], :, :, index[1]] = np.asarray(_fit(plane, image_size))
    return resized


def _decode(
    file: File, *, who: str, name: str, gray: bool, image_size: int
) -> np.ndarray:
    """Reads one image completely; returns uint8 (height, width, 1 or 3)."""
    with _blame(who, name), Image.open(file) as image:
        image.load()
        image = _in_mode(image, "L" if gray else "RGB")
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
        raise ValueError(
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
