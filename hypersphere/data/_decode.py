"""One encoded image to the pixels that are wanted of it: a random crop or the center.

JPEGs go through OpenCV where it is installed, and everything else through Pillow.
"""

import math
from io import BytesIO
from typing import Any

import numpy as np
from jaxtyping import UInt8
from PIL import Image

from hypersphere.data._images import _blame, _in_mode
from hypersphere.data._memory import MAX_PIXELS
from hypersphere.data._open_image import (
    Decoding,
    open_image,
    orientation_of,
    turned,
)


def _opencv() -> Any:
    """OpenCV, or None where it, or a system library of its, is missing or too old."""
    try:
        import cv2
    except ImportError:
        return None
    cv2.setNumThreads(0)  # the threads of the stream are enough
    return cv2 if hasattr(cv2, "IMREAD_COLOR_RGB") else None


cv2 = _opencv()

_ATTEMPTS = 10
_END_OF_JPEG = b"\xff\xd9"


def random_resized_crop(
    content: bytes,
    rng: np.random.Generator,
    *,
    image_size: int,
    scale: tuple[float, float] = (0.08, 1.0),
    ratio: tuple[float, float] = (3 / 4, 4 / 3),
    orient: bool = True,
    max_pixels: int = MAX_PIXELS,
) -> UInt8[np.ndarray, "image_size image_size 3"]:
    """A random part of an image, resized to a square: the crop of Inception's training.

    The part's area is uniform in `scale` and the logarithm of its width over its height
    uniform in that of `ratio`. Where ten draws do not fit inside the image, the
    largest centered part of an allowed ratio is taken. A part that is at least 2, 4 or
    8 times larger than the output is decoded at 1/2, 1/4 or 1/8 of its size where the
    file is a JPEG. The rest of the way is bilinear; OpenCV's interpolation averages
    over the pixels from a factor of 2 on, Pillow's already from 1 on.

    Args:
        content: A whole image file.
        rng: Where the part is drawn from; advanced by at least two numbers.
        image_size: Height and width of the result in pixels, at least 1.
        scale: Smallest and largest share of the image's area, in `(0, 1]`.
        ratio: Smallest and largest width over height, positive.
        orient: Whether the image is turned the way that its EXIF data tell.
        max_pixels: Pixels that it may have at most.

    Returns:
        Red, green and blue, uint8 of shape (image_size, image_size, 3). Gray images are
        repeated, transparent pixels are laid over white, and 16-bit gray keeps its
        upper 8 bits.

    Raises:
        ValueError: If an argument is out of range, or the image is too large, cut short
            or cannot be decoded.

    Example:
        >>> import io
        >>> import numpy as np
        >>> from PIL import Image
        >>> from hypersphere.data._decode import random_resized_crop
        >>> file = io.BytesIO()
        >>> Image.new("RGB", (60, 40), "red").save(file, "PNG")
        >>> rng = np.random.default_rng(0)
        >>> random_resized_crop(file.getvalue(), rng, image_size=16)[0, 0]
        array([255,   0,   0], dtype=uint8)
    """
    check_crop(image_size, scale, ratio)
    with (
        _blame("random_resized_crop", _describe(content)),
        open_image(BytesIO(content), how := Decoding(orient, max_pixels)) as image,
    ):
        orientation = orientation_of(image, how)
        width, height = image.size if orientation < 5 else image.size[::-1]
        left, top, columns, rows = _draw_box(width, height, rng, scale, ratio)
        pixels = _pixels(image, content, reduction=min(columns, rows) // image_size)
        pixels = turned(pixels, orientation)
        across = _scaled(left, columns, width, pixels.shape[1])
        down = _scaled(top, rows, height, pixels.shape[0])
    return _resize(pixels[down, across], image_size)


def central_crop(
    content: bytes,
    *,
    image_size: int,
    crop_fraction: float = 0.875,
    orient: bool = True,
    max_pixels: int = MAX_PIXELS,
) -> UInt8[np.ndarray, "image_size image_size 3"]:
    """The center of an image after its shorter side is resized: what is evaluated.

    The shorter side becomes `round(image_size / crop_fraction)` pixels, always with
    Pillow's antialiased bicubic interpolation, so that the result depends neither on
    the packages that are installed nor on the draw of anything.

    Args:
        content: A whole image file.
        image_size: Height and width of the result in pixels, at least 1.
        crop_fraction: Share of the shorter side that is kept, in `(0, 1]`.
        orient: Whether the image is turned the way that its EXIF data tell.
        max_pixels: Pixels that it may have at most.

    Returns:
        Red, green and blue, uint8 of shape (image_size, image_size, 3), of every kind
        of image as `random_resized_crop` has them.

    Raises:
        ValueError: If an argument is out of range, or the image is too large, cut short
            or cannot be decoded.

    Example:
        >>> import io
        >>> from PIL import Image
        >>> from hypersphere.data._decode import central_crop
        >>> file = io.BytesIO()
        >>> Image.new("L", (60, 40), 7).save(file, "PNG")
        >>> central_crop(file.getvalue(), image_size=16)[8, 8]
        array([7, 7, 7], dtype=uint8)
    """
    check_center(image_size, crop_fraction)
    with (
        _blame("central_crop", _describe(content)),
        open_image(BytesIO(content), how := Decoding(orient, max_pixels)) as image,
    ):
        orientation = orientation_of(image, how)  # which decoding may lose
        pixels = turned(_pixels(image, content), orientation)
    height, width, _ = pixels.shape
    shorter = round(image_size / crop_fraction)
    resized = [shorter * side // min(height, width) for side in (width, height)]
    # The center alone takes 0.6 of the time, and gives the same up to the rounding of
    # the passes along rows and along columns.
    box = [
        corner * side / new
        for corner, side, new in zip(
            _center(resized, image_size), (width, height) * 2, resized * 2, strict=True
        )
    ]
    size = (image_size, image_size)
    resized_image = Image.fromarray(np.ascontiguousarray(pixels)).resize(
        size, Image.Resampling.BICUBIC, (box[0], box[1], box[2], box[3])
    )
    return np.asarray(resized_image)


def check_crop(
    image_size: int, scale: tuple[float, float], ratio: tuple[float, float]
) -> None:
    """Raises unless `random_resized_crop` can take these."""
    _check_size("random_resized_crop", image_size)
    if not 0 < scale[0] <= scale[1] <= 1:
        raise ValueError(
            "`random_resized_crop` needs `0 < scale[0] <= scale[1] <= 1`, the smallest "
            f"and the largest share of the area, got `scale={scale}`."
        )
    if not 0 < ratio[0] <= ratio[1] < math.inf:
        raise ValueError(
            "`random_resized_crop` needs `0 < ratio[0] <= ratio[1]`, the smallest and "
            f"the largest width over height, got `ratio={ratio}`."
        )


def check_center(image_size: int, crop_fraction: float) -> None:
    """Raises unless `central_crop` can take these."""
    _check_size("central_crop", image_size)
    if not 0 < crop_fraction <= 1:
        raise ValueError(
            "`central_crop` needs `0 < crop_fraction <= 1`, the share of the shorter "
            f"side that is kept, got `crop_fraction={crop_fraction!r}`."
        )


def _check_size(who: str, image_size: int) -> None:
    if image_size < 1:
        raise ValueError(
            f"`{who}` needs `image_size >= 1` pixels, got `image_size={image_size}`."
        )


def _describe(content: bytes) -> str:
    return f"a file of {len(content):,} bytes"


def _draw_box(
    width: int,
    height: int,
    rng: np.random.Generator,
    scale: tuple[float, float],
    ratio: tuple[float, float],
) -> tuple[int, int, int, int]:
    """Left, top, width and height of the part, inside the image."""
    for _ in range(_ATTEMPTS):
        area = width * height * _uniform(rng, *scale)
        shape = math.exp(_uniform(rng, math.log(ratio[0]), math.log(ratio[1])))
        columns, rows = round(math.sqrt(area * shape)), round(math.sqrt(area / shape))
        if 0 < columns <= width and 0 < rows <= height:
            left = int(rng.random() * (width - columns + 1))
            top = int(rng.random() * (height - rows + 1))
            return left, top, columns, rows
    columns = min(width, max(1, round(height * ratio[1])))
    rows = min(height, max(1, round(width / ratio[0])))
    return (width - columns) // 2, (height - rows) // 2, columns, rows


def _uniform(rng: np.random.Generator, low: float, high: float) -> float:
    return low + (high - low) * rng.random()


def _pixels(image: Image.Image, content: bytes, reduction: int = 1) -> np.ndarray:
    """All pixels, uint8 RGB; a JPEG may come `reduction` times smaller, or less so."""
    factor = next(factor for factor in (8, 4, 2, 1) if factor <= max(reduction, 1))
    if cv2 is not None and _suits_opencv(image, content):
        return _pixels_by_opencv(content, factor)
    if factor > 1 and image.format == "JPEG":
        image.draft(None, (image.width // factor, image.height // factor))
    return np.asarray(_in_mode(image, "RGB"))


def _suits_opencv(image: Image.Image, content: bytes) -> bool:
    """Whether OpenCV reads this file as Pillow does.

    It turns other colors than these into other pixels, and some of its versions fill a
    file that is cut short with gray and say nothing; Pillow refuses it.
    """
    return (
        image.format == "JPEG"
        and image.mode in ("L", "RGB")
        and content.endswith(_END_OF_JPEG)
    )


def _pixels_by_opencv(content: bytes, factor: int) -> np.ndarray:
    reduced = {
        1: 0,
        2: cv2.IMREAD_REDUCED_GRAYSCALE_2,  # the bit for the size; RGB overrules gray
        4: cv2.IMREAD_REDUCED_GRAYSCALE_4,
        8: cv2.IMREAD_REDUCED_GRAYSCALE_8,
    }
    flags = cv2.IMREAD_COLOR_RGB | cv2.IMREAD_IGNORE_ORIENTATION | reduced[factor]
    pixels = cv2.imdecode(np.frombuffer(content, np.uint8), flags)
    if pixels is None:
        raise ValueError("OpenCV cannot read it")
    return pixels


def _scaled(start: int, count: int, size: int, new_size: int) -> slice:
    """Where a range of pixels lies once `size` of them have become `new_size`."""
    first = min(round(start * new_size / size), new_size - 1)
    last = round((start + count) * new_size / size)
    return slice(first, max(last, first + 1))


def _resize(pixels: np.ndarray, image_size: int) -> np.ndarray:
    size = (image_size, image_size)
    if cv2 is None:
        image = Image.fromarray(np.ascontiguousarray(pixels))
        return np.asarray(image.resize(size, Image.Resampling.BILINEAR))
    large = min(pixels.shape[:2]) >= 2 * image_size
    return cv2.resize(
        np.ascontiguousarray(pixels),
        size,
        interpolation=cv2.INTER_AREA if large else cv2.INTER_LINEAR,
    )


def _center(size: list[int], image_size: int) -> list[int]:
    """Left, top, right and bottom of a square in the middle."""
    corner = [round((side - image_size) / 2) for side in size]
    return [*corner, *(start + image_size for start in corner)]
