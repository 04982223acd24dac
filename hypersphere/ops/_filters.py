"""Filters as a product takes them: of length one."""

from collections.abc import Sequence
from typing import Any, NamedTuple

import jax.numpy as jnp
from jaxtyping import Array

from hypersphere._dtypes import widened
from hypersphere._quantized import as_array, is_quantized
from hypersphere.ops._angles import l2_norm, unit


class Filters(NamedTuple):
    """What a product multiplies with.

    Attributes:
        values: Filters of length one, or quantized ones, which cannot be divided.
        lengths: Which these still have, with axes of length one in place of those of a
            filter; None for one.
    """

    values: Any
    lengths: Array | None

    def divided(self, dots: Array, axes: Sequence[int]) -> Array:
        """Dot products of filters of length one.

        Args:
            dots: What the product has answered.
            axes: Of the kernel, the axis of filters for each axis of `dots`; -1 for
                none.
        """
        if self.lengths is None:
            return dots
        used = [axis for axis in axes if axis >= 0]
        others = [a for a in range(self.lengths.ndim) if a not in used]
        lengths = jnp.transpose(jnp.squeeze(self.lengths, others), _order(used))
        beside = [place for place, axis in enumerate(axes) if axis < 0]
        return (dots / jnp.expand_dims(lengths, beside)).astype(dots.dtype)


def unit_filters(
    kernel: Any, *, axis: Sequence[int], eps: float, dtype: Any
) -> Filters:
    """The filters of a kernel, whose entries are along some axes, in a dtype."""
    if not is_quantized(kernel):
        return Filters(unit(kernel.astype(dtype), axis=axis, eps=eps), None)
    wide = widened(as_array(kernel))
    return Filters(kernel, l2_norm(wide, axis=axis, eps=eps, keepdims=True))


def _order(axes: Sequence[int]) -> list[int]:
    """Where axes are among themselves when sorted."""
    return [sorted(axes).index(axis) for axis in axes]
