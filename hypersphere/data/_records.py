"""Sets that are read one image at a time: what every streaming source returns."""

import dataclasses
from typing import NamedTuple, Protocol, runtime_checkable


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


@dataclasses.dataclass(frozen=True, eq=False)
class RecordSet:
    """A classification set whose images stay encoded: the streaming `Dataset`.

    Attributes:
        name: The string the set was opened with.
        train: Images to train on.
        test: Images to test on.
        class_names: Name of each class; label `k` means `class_names[k]`.
    """

    name: str
    train: Records
    test: Records
    class_names: tuple[str, ...]

    @property
    def num_classes(self) -> int:
        """Number of classes; labels lie in `[0, num_classes)`."""
        return len(self.class_names)
