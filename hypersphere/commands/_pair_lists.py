"""Lists of pairs, in the forms that the field has."""

import csv
import io
import os
import pickle
from collections.abc import Callable
from pathlib import Path
from typing import Any, NamedTuple

import numpy as np


class Pairs(NamedTuple):
    """Which pairs are of the same, by names.

    Attributes:
        a: Names of shape (pairs,).
        b: Names of shape (pairs,).
        same: Booleans of shape (pairs,).
        folds: How many the list itself has; 0 where it has none.
    """

    a: list[str]
    b: list[str]
    same: np.ndarray
    folds: int


def read_pairs(file: str | os.PathLike[str]) -> Pairs:
    """Reads a list of pairs; its form is known by its first line.

    | form | lines |
    |---|---|
    | LFW's pairs.txt | `10 300`, then `NAME I J` (same) and `NAME1 I NAME2 J`; an image is `NAME/NAME_0001.jpg` |
    | VoxCeleb's trials | `1 PATH1 PATH2` or `0 PATH1 PATH2` |
    | CSV | `NAME1,NAME2,SAME`, SAME 0 or 1, with or without a heading |

    Args:
        file: The list.

    Returns:
        The pairs.

    Raises:
        FileNotFoundError: If there is no such file.
        ValueError: If a line is none of these; it tells which.

    Example:
        >>> import pathlib, tempfile
        >>> from hypersphere import commands
        >>> file = pathlib.Path(tempfile.mkdtemp(), "trials.txt")
        >>> _ = file.write_text("1 a/1.wav a/2.wav")
        >>> commands.read_pairs(file).a
        ['a/1.wav']
    """  # noqa: E501  a table's row
    path = Path(file).expanduser()
    if not path.is_file():
        raise FileNotFoundError(f"There is no list of pairs {path}.")
    lines = _text(path).splitlines()
    rows = [(n, line.strip()) for n, line in enumerate(lines, 1) if line.strip()]
    if not rows:
        raise ValueError(f"{path} is empty.")
    first = rows[0][1].split()
    is_lfw = 1 <= len(first) <= 2 and all(word.isdecimal() for word in first)
    if is_lfw:
        folds = int(first[0]) if len(first) == 2 else 1
        found = [_lfw(path, n, line) for n, line in rows[1:]]
    elif "," in rows[0][1]:
        heading = rows[0][1].rpartition(",")[2].strip() not in ("0", "1")
        folds, found = 0, [_csv(path, n, line) for n, line in rows[heading:]]
    else:
        folds, found = 0, [_trial(path, n, line) for n, line in rows]
    if not found:
        raise ValueError(f"{path} has no pair.")
    if is_lfw and len(first) == 2 and len(found) != 2 * folds * int(first[1]):
        raise ValueError(
            f"{path} promises {folds} folds of {first[1]} same and {first[1]} "
            f"different pairs, and has {len(found)} pairs."
        )
    a, b, same = zip(*found, strict=True)
    return Pairs(list(a), list(b), np.array(same, bool), folds if folds > 1 else 0)


def _lfw(path: Path, number: int, line: str) -> tuple[str, str, bool]:
    words = line.split("\t") if "\t" in line else line.split()
    is_whole = all(word.isdecimal() for word in (words[1:2] + words[-1:]))
    if len(words) not in (3, 4) or not is_whole:
        raise _bad(path, number, line, "NAME I J, or NAME1 I NAME2 J")
    name, first, *other = words[0], words[1], *words[2:]
    second_name = other[0] if len(words) == 4 else name
    return _image(name, first), _image(second_name, words[-1]), len(words) == 3


def _image(name: str, number: str) -> str:
    return f"{name}/{name}_{int(number):04}.jpg"


def _csv(path: Path, number: int, line: str) -> tuple[str, str, bool]:
    words = [word.strip() for word in next(csv.reader([line]))]
    if len(words) != 3 or words[2] not in ("0", "1"):
        raise _bad(path, number, line, "NAME1,NAME2,SAME with SAME 0 or 1")
    return words[0], words[1], words[2] == "1"


def _trial(path: Path, number: int, line: str) -> tuple[str, str, bool]:
    words = line.split()
    if len(words) != 3 or words[0] not in ("0", "1"):
        raise _bad(path, number, line, "`1 PATH1 PATH2` or `0 PATH1 PATH2`")
    return words[1], words[2], words[0] == "1"


def read_rows(
    file: str | os.PathLike[str],
    *,
    what: str,
    heading: str,
    needed: str,
    fits: Callable[[list[str]], bool],
) -> list[list[str]]:
    """The rows of a CSV file, without its heading.

    Args:
        file: The file.
        what: It holds, for messages.
        heading: The first word of a heading, which may be there.
        needed: What a row is, for messages.
        fits: Whether a row is that.

    Raises:
        FileNotFoundError: If there is no such file.
        ValueError: If a row does not fit, or there is none.
    """
    path = Path(file).expanduser()
    if not path.is_file():
        raise FileNotFoundError(f"There is no list of {what} {path}.")
    found = []
    for number, words in enumerate(csv.reader(_text(path).splitlines()), 1):
        if not words or (number == 1 and words[0].lower() == heading):
            continue
        if not fits(words):
            raise _bad(path, number, ",".join(words), needed)
        found.append(words)
    if not found:
        raise ValueError(f"{path} is empty: it needs rows of {needed}.")
    return found


def _text(path: Path) -> str:
    """Of a file that may begin with a mark of its byte order, as Excel's do."""
    try:
        return path.read_text(encoding="utf-8-sig")
    except UnicodeDecodeError as error:
        raise ValueError(f"{path} is no text in UTF-8 ({error}).") from error


def _bad(path: Path, number: int, line: str, needed: str) -> ValueError:
    return ValueError(f"{path}, line {number}: needs {needed}, got {line[:80]!r}.")


class _Restricted(pickle.Unpickler):
    """Of plain lists, bytes and numbers only: nothing of a pickle is run."""

    def find_class(self, module: str, name: str) -> Any:
        """Refuses everything that is not plain."""
        if (module, name) == ("_codecs", "encode"):  # bytes, from Python 2
            return lambda text, coding: text.encode(coding)
        raise pickle.UnpicklingError(
            f"it would load {module}.{name}, and only lists and bytes are read"
        )


def read_bin(file: str | os.PathLike[str]) -> tuple[list[bytes], np.ndarray]:
    """InsightFace's `.bin` of encoded images and labels of pairs; runs none of it.

    Args:
        file: The pickle.

    Returns:
        Two images for each pair, one after the other, and booleans of shape (pairs,).

    Raises:
        FileNotFoundError: If there is no such file.
        ValueError: If it holds anything but a list of bytes and one of booleans.

    Example:
        >>> import pathlib, pickle, tempfile
        >>> from hypersphere import commands
        >>> file = pathlib.Path(tempfile.mkdtemp(), "lfw.bin")
        >>> _ = file.write_bytes(pickle.dumps(([b"one", b"two"], [True])))
        >>> commands.read_bin(file)
        ([b'one', b'two'], array([ True]))
    """
    path = Path(file).expanduser()
    if not path.is_file():
        raise FileNotFoundError(f"There is no file {path}.")
    try:
        found = _Restricted(io.BytesIO(path.read_bytes()), encoding="bytes").load()
    except Exception as error:  # a pickle can fail in any way
        raise ValueError(f"{path} cannot be read ({error}).") from error
    pair = found if isinstance(found, tuple | list) and len(found) == 2 else ([], [])
    images, same = pair
    is_bytes = isinstance(images, list) and all(isinstance(x, bytes) for x in images)
    if not is_bytes or not len(images) or len(images) != 2 * len(same):
        raise ValueError(f"{path} needs a list of image files and one label for two.")
    return images, np.array([bool(x) for x in same])
