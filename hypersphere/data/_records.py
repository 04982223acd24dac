"""Sets that are read one image at a time: what every streaming source returns."""

import dataclasses
import time
from collections.abc import Callable
from typing import Any, NamedTuple, Protocol, TypeVar, runtime_checkable

T = TypeVar("T")
_WAITS = (0.1, 1.0, 5.0)  # seconds before it is tried again


class ReadError(OSError):
    """A file could not be read, again and again: nothing is said of its content."""


class Record(NamedTuple):
    """One image as it is stored, and its label.

    Attributes:
        content: A whole encoded image file: JPEG, PNG or another.
        label: Index of its class, at least 0.
    """

    content: bytes
    label: int


@runtime_checkable
class Records(Protocol):
    """Encoded images at random access. Pickles, so that worker processes can have it.

    Threads call both methods at once.
    """

    def __len__(self) -> int:
        """How many there are."""
        ...

    def __getitem__(self, index: int) -> Record:
        """The record at an index in `[0, len(self))`."""
        ...

    def name(self, index: int) -> str:
        """Which image that is, for messages: a path, or a position in a split."""
        ...


def name_of(records: Any, index: int) -> str:
    """What messages call a record; its position where the records tell no names.

    Args:
        records: `Records`, or any sequence.
        index: Of the record.

    Returns:
        The name.

    Example:
        >>> from hypersphere import data
        >>> data.name_of([1, 2], 1)
        'example 1'
    """
    name: Any = getattr(records, "name", "example {:,}".format)
    return str(name(index))


def patiently(read: Callable[[], T]) -> T:
    """What a read gives, tried again where the system says that it failed.

    A disk of the network may be gone for a moment. An error of a decoder, which has no
    number of the system's, is raised as it is.

    Args:
        read: () -> anything.

    Returns:
        What it gives.

    Raises:
        ReadError: If it fails four times, within six seconds.
    """
    for wait in (*_WAITS, None):
        try:
            return read()
        except OSError as error:
            if error.errno is None:
                raise
            if wait is None:
                raise ReadError(
                    error.errno,
                    f"It cannot be read ({error.strerror}), tried "
                    f"{len(_WAITS) + 1} times. Mend it, and start again: a run goes on "
                    "at its newest checkpoint",
                    error.filename,
                ) from error
            time.sleep(wait)
    raise AssertionError("not reached")


@dataclasses.dataclass(frozen=True, eq=False)
class RecordSet:
    """A set whose images stay encoded until they are needed: the streaming `Dataset`.

    Attributes:
        name: The string the set was opened with.
        train: Images to train on; with a `decode`, anything of a length that has items.
        test: Images to test on.
        class_names: Name of each class; label `k` means `class_names[k]`. Empty where
            the labels are something else, as only a `decode` gives them.
        decode: (an item of `train` or `test`, a NumPy generator in training and None in
            evaluation) -> an example and what is said of it: arrays as those of
            `Dataset` without their first axis, all of one shape. Threads call it at
            once; what is random must come from the generator, so that a batch depends
            on its step alone. It raises `ValueError` or `OSError` for an item that
            is broken; after an `OSError` of the system's, such as of a disk that is
            gone for a moment, it is called again. None decodes image files.
        validation: Images that choices are made on; None without such a part.

    Example:
        >>> import numpy as np
        >>> from hypersphere import data
        >>> def decode(item, rng):
        ...     noise = 0.0 if rng is None else rng.normal()
        ...     return np.float32([item + noise]), np.float32(2 * item)
        >>> numbers = data.RecordSet("doubles", range(90), range(9), decode=decode)
        >>> numbers.num_classes
        0
    """

    name: str
    train: Any
    test: Any
    class_names: tuple[str, ...] = ()
    decode: Callable[[Any, Any], tuple[Any, Any]] | None = None
    validation: Any = None

    @property
    def num_classes(self) -> int:
        """Number of classes; labels lie in `[0, num_classes)`."""
        return len(self.class_names)
