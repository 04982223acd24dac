"""Pooling over pixels."""

import jax.numpy as jnp
from flax import nnx
from jax import lax
from jaxtyping import Array

from hypersphere._dtypes import widened


def halve(x: Array) -> Array:
    """The maxima of 2x2 pixels; a last odd row or column stands for itself.

    On a TPU `nnx.max_pool` costs a third of what other forms do; on a CPU its gradient
    takes longer than the convolutions of a narrow network, and a GPU moves more. The
    other form compares pixels with pixels: XLA may compute one twice and round it in
    two ways, so that none equals a maximum from elsewhere and the slope is lost.
    """
    _, height, width, _ = x.shape
    odd = ((0, 0), (0, height % 2), (0, width % 2), (0, 0))
    padded = jnp.pad(x, odd, constant_values=-jnp.inf) if height % 2 or width % 2 else x

    def by_window(padded: Array) -> Array:
        return nnx.max_pool(padded, (2, 2), (2, 2))

    return lax.platform_dependent(padded, tpu=by_window, default=_largest_of_four)


def _largest_of_four(x: Array) -> Array:
    def corner(row: int, column: int) -> Array:
        return lax.slice(x, (0, row, column, 0), x.shape, (1, 2, 2, 1))

    upper = jnp.maximum(corner(0, 0), corner(0, 1))
    return jnp.maximum(upper, jnp.maximum(corner(1, 0), corner(1, 1)))


def max_pool_3x3(x: Array, *, strides: int = 2) -> Array:
    """The maxima of windows 3x3, those of the border smaller."""
    return nnx.max_pool(x, (3, 3), (strides, strides), "SAME")


def mean_of_pixels(x: Array) -> Array:
    """The mean over height and width, at least float32."""
    return jnp.mean(widened(x), axis=(1, 2))
