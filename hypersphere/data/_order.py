"""Which examples make up a batch, as a pure function of the step."""

import functools
from collections.abc import Iterator

import numpy as np
from jaxtyping import Float32, Int32


def batch_indices(
    step: int, *, size: int, batch_size: int, seed: int
) -> Int32[np.ndarray, " batch"]:
    """Indices of the examples in the batch of one training step.

    Every epoch is a fresh permutation of all examples. The permutations follow each
    other without end, and step k takes elements `[k * batch_size, (k + 1) *
    batch_size)` of that sequence. So no example is ever dropped, and a batch may
    straddle two epochs. The result depends on the arguments alone, on any platform.

    Args:
        step: Number of the step, from 0.
        size: Number of examples in the set.
        batch_size: Number of examples in a batch, at most `size`.
        seed: Seed of the order, in `[0, 2**64)`.

    Returns:
        Positions in the set, int32 of shape (batch_size,), in `[0, size)`.

    Raises:
        ValueError: If `step` or `seed` is out of range, or `batch_size` does not fit.

    Example:
        >>> from hypersphere import data
        >>> steps = [
        ...     data.batch_indices(k, size=6, batch_size=3, seed=0) for k in range(2)
        ... ]
        >>> sorted(int(i) for batch in steps for i in batch)
        [0, 1, 2, 3, 4, 5]
    """
    check_batch_size(batch_size, size)
    if step < 0 or not 0 <= seed < 2**64:
        raise ValueError(
            "`batch_indices` needs `step >= 0` and `0 <= seed < 2**64`, got "
            f"`step={step}` and `seed={seed}`."
        )
    epoch, start = divmod(step * batch_size, size)
    head = _epoch_order(size, seed, epoch)[start : start + batch_size]
    missing = batch_size - len(head)
    tail = _epoch_order(size, seed, epoch + 1)[:missing] if missing else head[:0]
    return np.concatenate([head, tail])


def check_batch_size(batch_size: int, size: int) -> None:
    """Raises unless a batch can be filled without repeating an example in an epoch.

    Args:
        batch_size: Number of examples in a batch.
        size: Number of examples in the set.

    Raises:
        ValueError: Unless `1 <= batch_size <= size`.

    Example:
        >>> from hypersphere import data
        >>> data.check_batch_size(128, 4000)
    """
    if not 1 <= batch_size <= size:
        raise ValueError(
            "A batch needs `1 <= batch_size <= size`, got "
            f"`batch_size={batch_size}` for a set of `size={size}` examples. Use a "
            "smaller batch or more examples."
        )


def eval_batches(
    size: int, batch_size: int
) -> Iterator[tuple[Int32[np.ndarray, " batch"], Float32[np.ndarray, " batch"]]]:
    """Batches of one shape in which every example counts exactly once.

    The last batch is filled up with example 0 at weight 0.

    Args:
        size: Number of examples in the set, at least 1.
        batch_size: Number of examples in a batch, at least 1; may be above `size`.

    Returns:
        An iterator over pairs: positions in the set, int32 of shape (batch_size,), and
        their weights, float32 of shape (batch_size,), 1 or 0.

    Raises:
        ValueError: If `size` or `batch_size` is below 1.

    Example:
        >>> from hypersphere import data
        >>> for indices, weights in data.eval_batches(5, 3):
        ...     print(indices, weights)
        [0 1 2] [1. 1. 1.]
        [3 4 0] [1. 1. 0.]
    """
    if size < 1 or batch_size < 1:
        raise ValueError(
            "`eval_batches` needs `size >= 1` and `batch_size >= 1`, got "
            f"`size={size}` and `batch_size={batch_size}`."
        )
    starts = range(0, size, batch_size)
    return (_eval_batch(start, size, batch_size) for start in starts)


def _eval_batch(
    start: int, size: int, batch_size: int
) -> tuple[np.ndarray, np.ndarray]:
    indices = np.arange(start, start + batch_size, dtype=np.int32)
    real = indices < size
    return indices * real, real.astype(np.float32)


def permutation(size: int, *, seed: int, stream: int) -> Int32[np.ndarray, " size"]:
    """A random order of `range(size)`; every `stream` of a seed has its own."""
    # Sorting raw bits: NumPy promises that Philox's bits never change, but not that
    # `Generator.permutation` turns them into the same order in every version.
    bits = philox(seed, stream).random_raw(size)
    return np.argsort(bits, kind="stable").astype(np.int32)


def philox(seed: int, stream: int) -> np.random.Philox:
    """Random bits that depend on `seed` and `stream`, each in `[0, 2**64)`."""
    return np.random.Philox(key=np.array([seed, stream], np.uint64))


@functools.lru_cache(maxsize=2)
def _epoch_order(size: int, seed: int, epoch: int) -> np.ndarray:
    order = permutation(size, seed=seed, stream=epoch)
    order.flags.writeable = False  # the cache hands out the same array again
    return order
