"""Which image is decoded for which row of which batch, and how."""

import dataclasses
import functools
import threading
from collections.abc import Callable, Sequence
from typing import Any, NamedTuple

import numpy as np

from hypersphere.data._order import batch_indices, philox
from hypersphere.data._records import (
    ReadError,
    Record,
    Records,
    name_of,
    patiently,
)

Decode = Callable[[Any, np.random.Generator | None], tuple[np.ndarray, Any]]
"""(a record, what to draw from in training) -> an example, and what is said of it."""

_TRIES = 100  # images that may be broken before the whole set is called so
_CROPS = 2**63  # above the numbers of epochs, whose orders use the same seed

_order = threading.Lock()


class Example(NamedTuple):
    """One row of a batch."""

    image: np.ndarray
    label: Any
    weight: float
    skipped: int


@dataclasses.dataclass(frozen=True)
class Slots:
    """The rows of every batch that are those of one process."""

    who: str
    batch_size: int
    index: int
    count: int

    def __post_init__(self):
        if not 0 <= self.index < self.count:
            raise ValueError(
                f"`{self.who}` needs `0 <= share[0] < share[1]`, which process this is "
                f"and how many there are, got `share={(self.index, self.count)}`."
            )
        if self.batch_size < 1 or self.batch_size % self.count:
            raise ValueError(
                f"`{self.who}` needs a `batch_size` that the {self.count} processes of "
                f"`share` can divide evenly, got `batch_size={self.batch_size}`."
            )

    @property
    def rows(self) -> int:
        return self.batch_size // self.count

    def position(self, element: int) -> int:
        """Where an element of this process stands in the sequence of all examples."""
        step, row = divmod(element, self.rows)
        return step * self.batch_size + self.index * self.rows + row


@dataclasses.dataclass(frozen=True)
class Training:
    """An example for every position, drawn from the seed and the position."""

    records: Records | Sequence[Any]
    batch_size: int
    seed: int
    decode: Decode

    def __call__(self, position: int) -> Example:
        rng = np.random.Generator(philox(self.seed, _CROPS + position))
        wanted = index = self._index(position)
        reason = None
        for _ in range(_TRIES):
            try:
                image, label = _decoded(self.records, index, self.decode, rng)
                skipped = -1 if index == wanted else wanted
                return Example(image, label, 1.0, skipped)
            except BrokenError as error:
                reason = error
                index = int(rng.random() * len(self.records))
        raise ValueError(
            f"Training needs readable images, got {_TRIES} in a row that are not, the "
            f"first of them {name_of(self.records, wanted)}. Check the set."
        ) from reason

    def _index(self, position: int) -> int:
        step, slot = divmod(position, self.batch_size)
        with _order:  # one thread draws the order of a new epoch, the others wait
            indices = batch_indices(
                step,
                size=len(self.records),
                batch_size=self.batch_size,
                seed=self.seed,
            )
        return int(indices[slot])


@dataclasses.dataclass(frozen=True)
class Evaluation:
    """The example at every position, and nothing behind the last."""

    records: Records | Sequence[Any]
    decode: Decode
    nothing: tuple[np.ndarray, Any]

    def __call__(self, position: int) -> Example:
        if position >= len(self.records):
            return Example(*self.nothing, 0.0, -1)
        try:
            found = _decoded(self.records, position, self.decode, None)
            return Example(*found, 1.0, -1)
        except BrokenError:
            return Example(*self.nothing, 0.0, position)


class BrokenError(Exception):
    """An example that was read, and cannot be decoded."""


def _decoded(
    records: Any, index: int, decode: Decode, rng: np.random.Generator | None
) -> tuple[np.ndarray, Any]:
    """An example; a `BrokenError` if it is one that cannot be decoded.

    A read that fails is tried again, with what was drawn since put back.
    """
    drawn = {} if rng is None else rng.bit_generator.state

    def again() -> tuple[np.ndarray, Any]:
        if rng is not None:
            rng.bit_generator.state = drawn
        return decode(record, rng)

    try:
        record = patiently(lambda: records[index])
        return patiently(again)
    except ReadError:
        raise
    except (ValueError, OSError) as error:
        raise BrokenError(name_of(records, index)) from error


def first_example(records: Any, decode: Decode) -> tuple[np.ndarray, Any]:
    """The first record that can be read, as an evaluation decodes it.

    Args:
        records: At least one.
        decode: As in `RecordSet`.

    Returns:
        The example, and what is said of it.

    Raises:
        ValueError: If none of the first hundred can be read.
    """
    reason = None
    for index in range(min(len(records), _TRIES)):
        try:
            return _decoded(records, index, decode, None)
        except BrokenError as error:
            reason = reason or error.__cause__
    raise ValueError(
        f"None of the first records can be read, {name_of(records, 0)} because of: "
        f"{reason}"
    ) from reason


def cropping(image_size: int, scale: tuple[float, float], **how: Any) -> Decode:
    """What makes a random crop of an image file. It pickles."""
    from hypersphere.data._decode import check_crop

    check_crop(image_size, scale, (1.0, 1.0))
    return functools.partial(_random_crop, image_size=image_size, scale=scale, **how)


def _random_crop(record: Record, rng: Any, **how: Any) -> tuple[np.ndarray, Any]:
    from hypersphere.data._decode import random_resized_crop

    content, label = record
    return random_resized_crop(content, rng, **how), np.int32(label)


def centring(image_size: int, crop_fraction: float, **how: Any) -> Decode:
    """What makes a central crop of an image file. It pickles."""
    from hypersphere.data._decode import check_center

    check_center(image_size, crop_fraction)
    return functools.partial(
        _central_crop, image_size=image_size, crop_fraction=crop_fraction, **how
    )


def _central_crop(record: Record, rng: Any, **how: Any) -> tuple[np.ndarray, Any]:
    del rng
    from hypersphere.data._decode import central_crop

    content, label = record
    return central_crop(content, **how), np.int32(label)
