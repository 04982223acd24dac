"""A validation part: training images that are held back, for choices to be made on."""

import dataclasses
from typing import Any, TypeVar

import jax
import numpy as np

from hypersphere.data._dataset import Dataset
from hypersphere.data._records import RecordSet, name_of

Set = TypeVar("Set", bound=Dataset | RecordSet)

_STREAM, _FEWER = 5, 6  # of random numbers, apart from what the seed decides elsewhere


def with_validation(given: Set, fraction: float, *, seed: int) -> Set:
    """A set of whose training part some is held back, for choices to be made on.

    Args:
        given: The set, without a validation part.
        fraction: Share of the training part that becomes the validation part, in
            (0, 1), drawn without regard to classes; at least one example stays in each.
        seed: Of the draw, at least 0.

    Returns:
        The set with less to train on and with `validation`, each in its old order.

    Raises:
        ValueError: If the share is out of range, there is one example alone to train
            on, or the set has a validation part.

    Example:
        >>> import numpy as np
        >>> from hypersphere import data
        >>> images = np.zeros((10, 4, 4, 1), np.uint8)
        >>> part = data.ImageSet(images, np.zeros(10, np.int32))
        >>> dataset = data.Dataset("zeros", part, part, ("zero",))
        >>> found = data.with_validation(dataset, 0.2, seed=0)
        >>> len(found.train.images), len(found.validation.images)
        (8, 2)
    """
    is_loaded = isinstance(given, Dataset)
    count = len(given.train.images if is_loaded else given.train)
    if given.validation is not None:
        raise ValueError(
            f"`with_validation` needs a set without a validation part; {given.name} "
            "has one. Use that, and leave the share at 0."
        )
    if not 0 < fraction < 1 or count < 2:
        raise ValueError(
            "`with_validation` needs `0 < fraction < 1` and at least two examples to "
            f"train on, got `fraction={fraction!r}` and {count}."
        )
    held = min(max(round(fraction * count), 1), count - 1)
    order = np.random.default_rng([seed, _STREAM]).permutation(count)
    parts = {"validation": np.sort(order[:held]), "train": np.sort(order[held:])}
    some = {name: _some(given.train, where) for name, where in parts.items()}
    if is_loaded:
        some["contents"] = {}  # those of the arrays
    return dataclasses.replace(given, **some)


def with_fewer(given: Set, count: int, *, seed: int) -> Set:
    """A set of which fewer examples are trained on.

    Args:
        given: The set.
        count: Of training examples, from 1 to those there are, drawn without regard to
            classes.
        seed: Of the draw, at least 0.

    Returns:
        The set with less to train on, in the old order.

    Raises:
        ValueError: If there are not so many.

    Example:
        >>> from hypersphere import data
        >>> digits = data.load("mnist5k")
        >>> len(data.with_fewer(digits, 100, seed=0).train.images)
        100
    """
    is_loaded = isinstance(given, Dataset)
    there = len(given.train.images if is_loaded else given.train)
    if not 1 <= count <= there:
        raise ValueError(
            f"`with_fewer` needs `1 <= count <= {there}`, the examples that "
            f"{given.name} has to train on, got `count={count!r}`."
        )
    drawn = np.random.default_rng([seed, _FEWER]).permutation(there)[:count]
    changed: dict[str, Any] = {"train": _some(given.train, np.sort(drawn))}
    if is_loaded:
        changed["contents"] = {}  # those of the arrays
    return dataclasses.replace(given, **changed)


def _some(part: Any, where: np.ndarray) -> Any:
    if not hasattr(part, "images"):
        return _Some(part, where)
    return part._replace(
        images=part.images[where], labels=jax.tree.map(lambda x: x[where], part.labels)
    )


@dataclasses.dataclass(frozen=True)
class _Some:
    """Records of others, in an order."""

    records: Any
    where: np.ndarray

    def __len__(self) -> int:
        return len(self.where)

    def __getitem__(self, index: int) -> Any:
        return self.records[int(self.where[index])]

    def name(self, index: int) -> str:
        return name_of(self.records, int(self.where[index]))
