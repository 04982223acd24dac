"""Which images an evaluation takes, and in which batches."""

import dataclasses
from typing import Any

import numpy as np

from hypersphere import data


@dataclasses.dataclass(frozen=True)
class Spaced:
    """Some of other records, evenly spaced: sets may be sorted by class."""

    records: Any
    size: int
    mixed_by: int = 0  # images per batch; 0 for the order of the set

    def __len__(self) -> int:
        return self.size

    def __getitem__(self, index: Any) -> Any:
        return self.records[self.index(index)]

    def name(self, index: int) -> str:
        return data.name_of(self.records, self.index(index))

    def index(self, index: Any) -> Any:
        """Where in the other records one of these is; of int or an array of them."""
        if self.mixed_by:
            index = mixed(index, size=self.size, batch_size=self.mixed_by)
        return spaced(index, size=self.size, total=len(self.records))


def mixed(index: Any, *, size: int, batch_size: int) -> Any:
    """The position that has place `index` when every batch has of all the set.

    Batch b of n is every n-th image from the b-th on: consecutive images of a sorted
    set would be of one class.
    """
    return index % batch_size * (size // batch_size) + index // batch_size


def check_mixed(name: str, size: int, batch_size: int, *, mixed: bool) -> None:
    """Raises where a batch would be filled up with images that do not count."""
    if mixed and size % batch_size:
        raise ValueError(
            f"`config.evaluators` has `{name}@batch` of {size:,} images in batches of "
            f"{batch_size}, the last of which is not full: its statistics would be "
            f"those of other images. Write `{name}@batch of "
            f"{size // batch_size * batch_size}`, or change `config.eval_batch_size`."
        )


def spaced(index: Any, *, size: int, total: int) -> Any:
    """Position among `total` of the one at `index` of `size` evenly spaced ones."""
    if isinstance(index, np.ndarray):
        index = index.astype(np.int64)
    return index * total // size
