"""Image files opened with care: known formats, a limit on pixels, the right way up."""

import functools
from io import BytesIO
from pathlib import Path
from typing import NamedTuple

import numpy as np
from PIL import Image

from hypersphere.data._memory import MAX_PIXELS

_ORIENTATION = 0x0112  # EXIF's tag
_BACK = {6: 8, 8: 6}  # what undoes a turn; each other one undoes itself
# Others run programs (EPS: Ghostscript), or are no images that training knows.
_FORMATS = "AVIF BMP GIF JPEG JPEG2000 MPO PNG PPM TIFF WEBP".split()


class Decoding(NamedTuple):
    """How image files are read.

    Attributes:
        orient: Whether they are turned the way that their EXIF data tell.
        max_pixels: Pixels that one may have at most.
    """

    orient: bool = True
    max_pixels: int = MAX_PIXELS


def open_image(file: Path | BytesIO, how: Decoding) -> Image.Image:
    """Reads the header of an image, in some 20 microseconds.

    Args:
        file: Where it is.
        how: Of which the limit counts here.

    Returns:
        The image, not decoded yet.

    Raises:
        ValueError: If it has too many pixels.
        OSError: If it is of no known format.
    """
    image = Image.open(file, formats=_known_formats())
    pixels = image.width * image.height
    if pixels > how.max_pixels:
        size = f"{image.width} x {image.height}"
        image.close()
        raise ValueError(
            f"it has {size} pixels, more than the {how.max_pixels:,} that are allowed "
            "(`max_pixels`)"
        )
    return image


@functools.cache
def _known_formats() -> list[str]:
    """Those that this Pillow has been built with."""
    Image.init()
    return [name for name in _FORMATS if name in Image.OPEN]


def orientation_of(image: Image.Image, how: Decoding) -> int:
    """How a decoded image is to be turned, from 1 (not at all) to 8, as EXIF counts.

    A TIFF is decoded here: Pillow turns it as it does so, and it has another size then.
    """
    found = image.getexif().get(_ORIENTATION, 1)
    found = found if found in range(1, 9) else 1
    if image.format == "TIFF":
        image.load()
        return 1 if how.orient else _BACK.get(found, found)
    return found if how.orient else 1


def turned_image(image: Image.Image, orientation: int) -> Image.Image:
    """A decoded image the right way up."""
    if orientation == 1:
        return image
    return Image.fromarray(np.ascontiguousarray(turned(np.asarray(image), orientation)))


def turned(pixels: np.ndarray, orientation: int) -> np.ndarray:
    """A view of an image the right way up.

    Args:
        pixels: (height, width, ...).
        orientation: As EXIF counts.

    Returns:
        Of 5 to 8, with height and width exchanged.

    Example:
        >>> import numpy as np
        >>> from hypersphere.data import _open_image
        >>> pixels = np.array([[[1], [2]]])  # 1 left of 2
        >>> _open_image.turned(pixels, 6)[..., 0].tolist()  # a quarter, clockwise
        [[1], [2]]
    """
    if orientation >= 5:
        pixels = pixels.swapaxes(0, 1)
    if orientation in (3, 4, 7, 8):
        pixels = pixels[::-1]
    if orientation in (2, 3, 6, 7):
        pixels = pixels[:, ::-1]
    return pixels
