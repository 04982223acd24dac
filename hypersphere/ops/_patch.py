"""Patch norms, and the geometry that they share with the convolution."""

from collections.abc import Sequence
from typing import Any, TypeAlias

import jax.numpy as jnp
import numpy as np
from jax import lax
from jaxtyping import Array, Float

from hypersphere._checks import check_floating, check_kernel_size, check_positive
from hypersphere.ops._angles import length, scaled
from hypersphere.ops._sums import FEWEST, sum_squares

Padding: TypeAlias = str | Sequence[tuple[int, int]]


def patch_norm(
    x: Float[Array, "batch *spatial in_features"],
    kernel_size: Sequence[int],
    *,
    strides: int | Sequence[int] = 1,
    padding: Padding = "SAME",
    kernel_dilation: int | Sequence[int] = 1,
    feature_group_count: int = 1,
    eps: float = 1e-2,
) -> Float[Array, "batch *out_spatial groups"]:
    """The length of each patch that a convolution sees: `sqrt(sum(x**2) + eps**2)`.

    Squares are summed over the channels of a group first, then over the window.

    Args:
        x: Channels-last input with one to three spatial axes.
        kernel_size: The window, one entry per spatial axis.
        strides: Steps of the window, in pixels.
        padding: "SAME", "VALID", "SAME_LOWER", or a (low, high) pair per spatial axis;
            it adds zeros.
        kernel_dilation: 1 + pixels skipped between entries of the window.
        feature_group_count: Groups that the features fall into.
        eps: The smallest length that counts, in the units of the input; positive.

    Returns:
        Lengths in the units of `x`, at least `eps`; float32 for half-precision input,
        whose squares would overflow, else the dtype of `x`.

    Raises:
        TypeError: If `x` is not real floating point or `kernel_size` is an int.
        ValueError: If shapes do not fit, or `eps` is not positive and finite.

    Example:
        >>> import jax.numpy as jnp
        >>> from hypersphere import ops
        >>> norm = ops.patch_norm(jnp.ones((1, 4, 4, 1)), (3, 3), eps=1e-4)
        >>> print(norm[0, :, :, 0].round(2))
        [[2.   2.45 2.45 2.  ]
         [2.45 3.   3.   2.45]
         [2.45 3.   3.   2.45]
         [2.   2.45 2.45 2.  ]]

    References:
        Liu et al., Deep Hyperspherical Learning, NIPS 2017.
        https://arxiv.org/abs/1711.03189
    """
    check_positive("patch_norm", eps=eps)
    check_floating("patch_norm", x=x)
    window = check_kernel_size("patch_norm", kernel_size)
    rank = x.ndim - 2
    if len(window) != rank or x.shape[-1] % feature_group_count:
        raise ValueError(
            "`patch_norm` needs `len(kernel_size) == x.ndim - 2` and features that "
            "`feature_group_count` divides, got "
            f"`x.shape={x.shape}`, `kernel_size={window}` and "
            f"`feature_group_count={feature_group_count}`."
        )
    dilation = per_axis(kernel_dilation, rank, "kernel_dilation")
    steps = per_axis(strides, rank, "strides")
    geometry = dict(
        window_strides=steps,
        padding=explicit_padding(padding, x.shape[1:-1], window, steps, None, dilation),
        lhs_dilation=(1,) * rank,
        rhs_dilation=dilation,
    )
    numbers = channels_last(x.ndim)
    squares = box_sum(x, window, numbers, feature_group_count, geometry, eps)
    return length(squares, eps=eps)


def box_sum(
    lhs: Array,
    window: tuple[int, ...],
    numbers: lax.ConvDimensionNumbers,
    groups: int,
    geometry: dict[str, Any],
    eps: float,
    *,
    is_stored: bool = False,
) -> Array:
    """Sums of squares, scaled, in the output's layout, one channel per group.

    In bfloat16 and one group a TPU's matrix unit adds them up, unless the input is
    stored anyway: then XLA adds plain squares up where it writes that.
    """
    channel = numbers.lhs_spec[1]
    per_group = lhs.shape[channel] // groups
    grouped = (*lhs.shape[:channel], groups, per_group, *lhs.shape[channel + 1 :])
    squares = jnp.square(scaled(lhs, eps=eps))
    by_product = groups == 1 and lhs.dtype == jnp.bfloat16 and per_group >= FEWEST
    if by_product and not is_stored:
        squares = sum_squares(squares, channel)
    else:
        squares = jnp.sum(squares.reshape(grouped), axis=channel + 1)

    def over_lhs(values: Sequence[Any], other: Any) -> tuple[Any, ...]:
        full = [other] * lhs.ndim
        for axis, value in zip(numbers.lhs_spec[2:], values, strict=True):
            full[axis] = value
        return tuple(full)

    sums = lax.reduce_window(
        squares,
        np.zeros((), squares.dtype),
        lax.add,
        window_dimensions=over_lhs(window, 1),
        window_strides=over_lhs(geometry["window_strides"], 1),
        padding=over_lhs(geometry["padding"], (0, 0)),
        base_dilation=over_lhs(geometry["lhs_dilation"], 1),
        window_dilation=over_lhs(geometry["rhs_dilation"], 1),
    )
    to_output = [0] * lhs.ndim
    for source, target in zip(numbers.lhs_spec, numbers.out_spec, strict=True):
        to_output[target] = source
    return lax.transpose(sums, to_output)


def take(shape: Sequence[int], axes: Sequence[int]) -> tuple[int, ...]:
    return tuple(shape[axis] for axis in axes)


def channels_last(ndim: int) -> lax.ConvDimensionNumbers:
    spatial = tuple(range(1, ndim - 1))
    layout = (0, ndim - 1, *spatial)
    kernel = (ndim - 1, ndim - 2, *range(ndim - 2))
    return lax.ConvDimensionNumbers(layout, kernel, layout)


def per_axis(value: int | Sequence[int], rank: int, name: str) -> tuple[int, ...]:
    full = (value,) * rank if isinstance(value, int | np.integer) else tuple(value)
    if len(full) != rank or min(full, default=1) < 1:
        raise ValueError(
            f"The convolution needs `{name}` as one int or {rank} ints, at least 1, "
            f"got `{name}={value!r}`."
        )
    return full


def explicit_padding(
    padding: Padding,
    spatial: tuple[int, ...],
    window: tuple[int, ...],
    strides: Sequence[int],
    input_dilation: Sequence[int] | None,
    kernel_dilation: Sequence[int] | None,
) -> tuple[tuple[int, int], ...]:
    """The padding as pairs, so that the dot product and the norm share it."""
    ones = (1,) * len(window)
    if isinstance(padding, str):
        dilated = [
            (n - 1) * d + 1
            for n, d in zip(spatial, input_dilation or ones, strict=True)
        ]
        reach = [
            (k - 1) * d + 1
            for k, d in zip(window, kernel_dilation or ones, strict=True)
        ]
        pairs = lax.padtype_to_pads(dilated, reach, strides, padding)
    else:
        pairs = padding
    return tuple((int(low), int(high)) for low, high in pairs)
