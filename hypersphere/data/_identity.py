"""What a set is, in a form that can be kept and compared: its contents, its classes."""

import dataclasses
import difflib
import functools
import hashlib
from collections.abc import Iterator, Sequence
from typing import Any, TypeVar

import jax
import numpy as np

from hypersphere.data._dataset import Dataset, parts_of
from hypersphere.data._records import Record, RecordSet, patiently

_READ = 64  # records of a set on disk whose contents are looked at

Set = TypeVar("Set", bound=Dataset | RecordSet)


def contents(given: Dataset | RecordSet) -> dict[str, str]:
    """What tells the parts of a set from others that may have its name and its size.

    Args:
        given: In memory, all arrays count. On disk, the names and labels of all
            images, the sizes of 10,000 files or all places in archives, and the bytes
            of 64 images, evenly spaced; with a `decode` of its own, nothing is known.

    Returns:
        For each part 32 hexadecimal digits, which differ where the contents do, but for
        a chance of `2**-128`; empty where nothing is known.

    Example:
        >>> import numpy as np
        >>> from hypersphere import data
        >>> images = np.zeros((2, 4, 4, 1), np.uint8)
        >>> part = data.ImageSet(images, np.array([0, 1], np.int32))
        >>> other = data.ImageSet(255 - images, part.labels)
        >>> found = data.contents(data.Dataset("dots", part, other, ("a", "b")))
        >>> len(found["train"]), found["train"] == found["test"]
        (32, False)
    """
    if isinstance(given, Dataset):
        if given.contents:
            return dict(given.contents)
        pieces = {
            name: map(_of_array, jax.tree.leaves(tuple(part)))
            for name, part in parts_of(given).items()
        }
    elif given.decode is not None:
        return {}
    else:
        pieces = {name: _of_records(part) for name, part in parts_of(given).items()}
    return {part: _digest(each) for part, each in pieces.items()}


def with_classes(given: Set, class_names: Sequence[str]) -> tuple[Set, str]:
    """A set whose labels mean classes of another one, found by their names.

    Args:
        given: The set.
        class_names: What label 0, 1, ... is to mean.

    Returns:
        The set, and a line on what was not done by names; empty if all was. Where the
        classes of one of both have no names but their numbers, the number counts.

    Raises:
        ValueError: If it has a class that is not among these.

    Example:
        >>> import numpy as np
        >>> from hypersphere import data
        >>> images = np.zeros((2, 4, 4, 1), np.uint8)
        >>> part = data.ImageSet(images, np.array([0, 1], np.int32))
        >>> some = data.Dataset("pets", part, part, ("cat", "dog"))
        >>> ours, told = data.with_classes(some, ("bird", "cat", "dog"))
        >>> print(ours.train.labels, bool(told))
        [1 2] False
    """
    there, here = given.class_names, tuple(class_names)
    if there == here or not there or not here:
        return given, ""
    told = ""
    unnamed = [names == tuple(map(str, range(len(names)))) for names in (there, here)]
    by_name = set(there) <= set(here)
    if not by_name and unnamed[0] != unnamed[1] and len(there) <= len(here):
        told = (
            f"The classes of {given.name} are taken by their numbers: "
            f"{'it' if unnamed[0] else 'what is trained on'} has no names of classes."
        )
        labels = np.arange(len(there), dtype=np.int32)
    else:
        number = {name: index for index, name in enumerate(here)}
        if unknown := [name for name in there if name not in number]:
            raise ValueError(_unknown(given.name, unknown, here))
        labels = np.array([number[name] for name in there], np.int32)
    parts = {name: _relabelled(part, labels) for name, part in parts_of(given).items()}
    return dataclasses.replace(given, **parts, class_names=here), told


def _unknown(name: str, unknown: list[str], here: tuple[str, ...]) -> str:
    close = difflib.get_close_matches(unknown[0], here, n=1)
    hint = f" Is it {close[0]!r}?" if close else ""
    return (
        f"{name} has {len(unknown)} classes that are not trained on, the first of them "
        f"{unknown[0]!r}.{hint} There {'are' if len(here) > 1 else 'is'} "
        f"{', '.join(map(repr, here[:8]))}{', ...' if len(here) > 8 else ''}. Leave "
        "them out of that set, or call them what they are called here."
    )


@dataclasses.dataclass(frozen=True)
class _Relabelled:
    """Records whose labels are others."""

    records: Any
    labels: np.ndarray

    def __len__(self) -> int:
        return len(self.records)

    def __getitem__(self, index: int) -> Record:
        content, label = self.records[index]
        return Record(content, int(self.labels[label]))

    def name(self, index: int) -> str:
        return self.records.name(index)


def _relabelled(part: Any, labels: np.ndarray) -> Any:
    if hasattr(part, "images"):
        return part._replace(labels=labels[part.labels])
    return _Relabelled(part, labels)


def _of_array(array: np.ndarray) -> bytes:
    head = f"{array.dtype}{array.shape}".encode()
    return head + hashlib.blake2b(np.ascontiguousarray(array), digest_size=16).digest()


def _of_records(records: Any) -> Iterator[bytes]:
    yield str(len(records)).encode()
    if hasattr(records, "listing"):
        yield from records.listing()
    count = len(records)
    for index in sorted({i * count // _READ for i in range(_READ) if count}):
        try:
            content, label = patiently(functools.partial(records.__getitem__, index))
            yield content + f"/{label}".encode()
        except ValueError:  # a broken one, which may be passed over
            yield b"broken"


def _digest(pieces: Iterator[bytes]) -> str:
    digest = hashlib.blake2b(digest_size=16)
    for piece in pieces:
        digest.update(piece + len(piece).to_bytes(8, "little"))
    return digest.hexdigest()
