"""Ways to sum the squares of every patch, forward and gradient, as JSON.

python benchmarks/box_sum.py
python benchmarks/box_sum.py --batch=256 --rounds=100   # on a GPU
"""

import argparse
import json
from collections.abc import Callable

import jax
import jax.numpy as jnp
import numpy as np
from _measure import Candidate, compare, setting
from jax import lax


def reduce_window(x: jax.Array, size: int) -> jax.Array:
    """One windowed reduction: what the package does."""
    return lax.reduce_window(
        x, np.float32(0), lax.add, (1, size, size, 1), (1, 1, 1, 1), "SAME"
    )


def shifts(x: jax.Array, size: int) -> jax.Array:
    """Shifted copies added, along one axis and then the other."""
    for axis in (1, 2):
        pads = [(0, 0)] * 4
        pads[axis] = ((size - 1) // 2, size // 2)
        padded, length = jnp.pad(x, pads), x.shape[axis]
        parts = [
            lax.slice_in_dim(padded, i, i + length, axis=axis) for i in range(size)
        ]
        x = sum(parts[1:], parts[0])
    return x


def cumulative(x: jax.Array, size: int) -> jax.Array:
    """Differences of cumulative sums, which cancel."""
    for axis in (1, 2):
        pads = [(0, 0)] * 4
        pads[axis] = ((size - 1) // 2 + 1, size // 2)
        sums = jnp.cumsum(jnp.pad(x, pads), axis=axis)
        length = x.shape[axis]
        after = lax.slice_in_dim(sums, size, size + length, axis=axis)
        x = after - lax.slice_in_dim(sums, 0, length, axis=axis)
    return x


def convolution(x: jax.Array, size: int) -> jax.Array:
    """A convolution with ones."""
    ones = jnp.ones((size, size, 1, 1), x.dtype)
    numbers = ("NHWC", "HWIO", "NHWC")
    return lax.conv_general_dilated(x, ones, (1, 1), "SAME", dimension_numbers=numbers)


WAYS: tuple[Callable[[jax.Array, int], jax.Array], ...] = (
    reduce_window,
    shifts,
    cumulative,
    convolution,
)


def gradient(way: Callable[..., jax.Array], size: int) -> Callable[..., jax.Array]:
    """The gradient of a weighted sum of inverse lengths."""

    def total(x, weights):
        return jnp.vdot(lax.rsqrt(way(jnp.square(x), size) + 1e-4), weights)

    return jax.grad(total)


def main() -> None:
    """Prints one row per window and way."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--batch", type=int, default=16)
    parser.add_argument("--size", type=int, default=32)
    parser.add_argument("--rounds", type=int, default=100)
    options = parser.parse_args()
    generator = np.random.default_rng(0)
    shape = (options.batch, options.size, options.size, 1)
    x, weights = (
        jnp.asarray(generator.standard_normal(shape, np.float32)) for _ in range(2)
    )
    rows = []
    for window in (3, 7):
        compared = [
            Candidate(way.__name__, gradient(way, window), (x, weights)) for way in WAYS
        ]
        for row in compare(compared, rounds=options.rounds):
            rows.append({"window": window, **row})
    print(json.dumps({**setting(**vars(options)), "rows": rows}, indent=2))


if __name__ == "__main__":
    main()
