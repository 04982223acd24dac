"""Which files are images, which folders are which part, and what is left out."""

import collections
import os
from collections.abc import Iterable
from pathlib import Path

from absl import logging

EXTENSIONS = frozenset(
    ".apng .avif .bmp .gif .jfif .jp2 .jpe .jpeg .jpg .pbm .pgm .png .pnm .ppm .tif "
    ".tiff .webp".split()
)
TRAIN_NAMES = ("train", "training")
TEST_NAMES = ("test", "testing", "validation", "valid", "val")

HEAD = 12  # bytes that `is_image` looks at
_SYSTEMS_OWN = frozenset(("__macosx", "thumbs.db", "desktop.ini"))
# What files begin with that are called images by no ending.
_BEGINNINGS = (
    b"\x89PNG\r\n\x1a\n",
    b"\xff\xd8\xff",
    b"GIF8",
    b"BM",
    b"II*\0",
    b"MM\0*",
)


def is_hidden(name: str) -> bool:
    """Whether a file or folder is one of a system's own, which nobody means.

    Args:
        name: Without the folders it is in.

    Returns:
        Whether it begins with a dot or is one that systems leave behind.
    """
    return name.startswith(".") or name.lower() in _SYSTEMS_OWN


def is_image(name: str, head: bytes) -> bool:
    """Whether a file is taken for an image: by its ending, or without one by content.

    Args:
        name: Its name, of which the ending counts in any case.
        head: Its first `HEAD` bytes; looked at only where the name has no ending.

    Returns:
        Whether it is.

    Example:
        >>> from hypersphere.data import _image_files
        >>> _image_files.is_image("a.JPG", b""), _image_files.is_image("a", b"GIF89a")
        (True, True)
        >>> _image_files.is_image("notes.txt", b"GIF89a")
        False
    """
    if ending := ending_of(name):
        return ending in EXTENSIONS
    is_webp = head[:4] == b"RIFF" and head[8:12] == b"WEBP"
    return is_webp or head.startswith(_BEGINNINGS)


def ending_of(name: str) -> str:
    """The ending of a file's name in lower case, with its dot; empty without one."""
    return os.path.splitext(name)[1].lower()


def named(root: Path, names: Iterable[str], ending: str = "") -> list[Path]:
    """What in a folder has one of some names, in the order of these.

    Args:
        root: The folder.
        names: In lower case; capitals do not matter.
        ending: What follows them, such as `.tar`.

    Returns:
        The paths.
    """
    wanted = [name + ending for name in names]
    found = {child.name.lower(): child for child in sorted(root.iterdir())}
    return [found[name] for name in wanted if name in found]


class LeftOut:
    """Counts what is no image, and tells it once.

    Attributes:
        has_labels: Whether there were files of labels, which are no images either.
    """

    def __init__(self) -> None:
        self.has_labels = False
        self._counts: collections.Counter[str] = collections.Counter()

    def note(self, name: str, kind: str = "") -> None:
        """Counts a file by its kind, or else by the ending of its name."""
        self._counts[kind or ending_of(name) or "without an ending"] += 1

    def tell(self, who: str) -> None:
        """Logs what was counted, if anything was.

        Args:
            who: The source that has such files.
        """
        if self._counts:
            told = ", ".join(f"{n:,} {kind}" for kind, n in self._counts.most_common())
            logging.warning("%s: files that are no images are left out: %s.", who, told)
