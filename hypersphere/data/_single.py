"""Image files that belong to no set."""

import os
from collections.abc import Iterator, Sequence
from io import BytesIO
from pathlib import Path

import numpy as np
from jaxtyping import UInt8
from PIL import Image, ImageOps

from hypersphere.data._decode import central_crop
from hypersphere.data._image_files import is_hidden, is_image
from hypersphere.data._images import decode_one
from hypersphere.data._memory import MAX_PIXELS
from hypersphere.data._open_image import Decoding


def image_files(paths: Sequence[str | Path]) -> list[tuple[str, Path]]:
    """Image files by name: those given, and all below the folders given, sorted.

    Args:
        paths: Files and folders. What is no image in a folder is passed over, and so is
            what is hidden.

    Returns:
        Names and where they are. In a single folder a name is relative to it; of
        several paths names begin with the path as it was given, so that they differ.

    Raises:
        FileNotFoundError: If there is no such path, it is empty, or there is no image
            in a folder.

    Example:
        >>> import pathlib, tempfile
        >>> from hypersphere import data
        >>> folder = pathlib.Path(tempfile.mkdtemp())
        >>> _ = (folder / "7.png").write_bytes(b"an image, perhaps")
        >>> data.image_files([folder])[0][0]
        '7.png'
    """
    found: list[tuple[str, Path]] = []
    for given in paths:
        if not str(given):
            raise FileNotFoundError("There is no image of an empty name.")
        path = Path(given).expanduser()
        if path.is_dir():
            inside = sorted(_below(path))
            if not inside:
                raise FileNotFoundError(f"There is no image in the folder {path}.")
            root = "" if len(paths) == 1 else f"{given}/"
            found += [
                (f"{root}{file.relative_to(path).as_posix()}", file) for file in inside
            ]
        elif path.is_file():
            found.append((str(given), path))
        else:
            raise FileNotFoundError(f"There is no image and no folder {path}.")
    return found


def _below(root: Path) -> Iterator[Path]:
    """Image files in a folder and in those below, links to folders followed once."""
    seen = set()
    for folder, names, files in os.walk(root, followlinks=True):
        here = os.path.realpath(folder)
        names[:] = [name for name in names if not is_hidden(name)]
        if here in seen:
            names.clear()
            continue
        seen.add(here)
        for name in files:
            file = Path(folder, name)
            if not is_hidden(name) and file.is_file():
                with file.open("rb") as opened:
                    if is_image(name, opened.read(64)):
                        yield file


def read_image(
    file: Path | BytesIO,
    image_shape: tuple[int, ...],
    *,
    crop_fraction: float | None = None,
    orient: bool = True,
    max_pixels: int = MAX_PIXELS,
) -> UInt8[np.ndarray, "_height _width _channels"]:
    """One image file as it would be in a set of images of this shape.

    Args:
        file: Where it is, or its content.
        image_shape: Height, width and channels, 1 or 3.
        crop_fraction: Share of the shorter side that is kept of a square image, as
            `eval_stream` does; None for the largest centered part of these proportions,
            as `load` does.
        orient: Whether the image is turned the way that its EXIF data tell.
        max_pixels: Pixels that it may have at most.

    Returns:
        uint8 of that shape.

    Raises:
        ValueError: If it cannot be decoded, or has too many pixels.
        OSError: If it cannot be read.

    Example:
        >>> import io
        >>> from PIL import Image
        >>> from hypersphere import data
        >>> file = io.BytesIO()
        >>> Image.new("RGB", (60, 40), (9, 9, 9)).save(file, "PNG")
        >>> data.read_image(file, (16, 16, 1)).max()
        np.uint8(9)
    """
    height, width, channels = image_shape
    if crop_fraction is not None:
        content = file.getvalue() if isinstance(file, BytesIO) else file.read_bytes()
        return central_crop(
            content,
            image_size=height,
            crop_fraction=crop_fraction,
            orient=orient,
            max_pixels=max_pixels,
        )
    pixels = decode_one(
        file,
        who="read_image",
        name=str(file) if isinstance(file, Path) else "an image",
        gray=channels == 1,
        image_size=0,
        how=Decoding(orient, max_pixels),
    )
    planes = [
        ImageOps.fit(Image.fromarray(plane), (width, height), Image.Resampling.BICUBIC)
        for plane in np.moveaxis(pixels, -1, 0)
    ]
    return np.stack([np.asarray(plane) for plane in planes], axis=-1)
