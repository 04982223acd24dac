"""Sums over features, and their transpose, in the form that a TPU is fast at.

There the features lie across the lanes of a vector register, and adding up lanes is
slower than the convolution beside it. The matrix unit does it while it waits: as a
product with ones, hidden from XLA, which would turn it back into a sum. It multiplies
in bfloat16, so only layers that compute in it are summed so: their squares have 16
digits, which two products are exact for, and one is enough for a gradient.
"""

import functools

import jax
import jax.numpy as jnp
from jax import lax
from jaxtyping import Array

FEWEST = 8
"""Features that are summed so; fewer, as those of images, are cheaper added up."""
_EXACT = (lax.Precision.DEFAULT, lax.Precision.HIGH)  # of ones, and of squares
_ROWS = 8  # what a TPU multiplies at least; one row XLA takes for a sum


@functools.partial(jax.custom_jvp, nondiff_argnums=(1,))
def sum_squares(squares: Array, axis: int) -> Array:
    """The sum over an axis, which stays, of the squares of bfloat16 numbers."""

    def product(squares: Array) -> Array:
        numbers = (((1,), (axis,)), ((), ()))
        ones = _ones(squares.shape[axis])
        sums = lax.dot_general(ones, squares, numbers, precision=_EXACT)
        return jnp.expand_dims(sums[0], axis)

    plain = lambda squares: jnp.sum(squares, axis, keepdims=True)  # noqa: E731
    return lax.platform_dependent(squares, tpu=product, default=plain)


@sum_squares.defjvp
def _sum_squares_jvp(axis: int, primals: tuple[Array], tangents: tuple[Array]):
    # Its transpose is a broadcast.
    return sum_squares(*primals, axis), jnp.sum(tangents[0], axis, keepdims=True)


def spread(values: Array, axis: int, size: int) -> Array:
    """Repeats an axis of length one; written so that its transpose is a sum.

    On a TPU the values are rounded to bfloat16, and so is what its transpose adds up.
    """

    def product(values: Array) -> Array:
        first = jnp.squeeze(values, axis)[None]
        more = jnp.zeros((_ROWS - 1, *first.shape[1:]), first.dtype)
        rows = jnp.concatenate([first, more])
        full = lax.dot_general(rows, _ones(size), (((0,), (0,)), ((), ())))
        return jnp.moveaxis(full, -1, axis)

    shape = (*values.shape[:axis], size, *values.shape[axis + 1 :])
    plain = lambda values: jnp.broadcast_to(values, shape)  # noqa: E731
    return lax.platform_dependent(values, tpu=product, default=plain)


def _ones(size: int) -> Array:
    return lax.optimization_barrier(jnp.ones((_ROWS, size), jnp.float32))
