"""Decoupled convolutions, h(|x|) g(theta): what every convolution here is made of."""

import math
from collections.abc import Callable, Sequence
from typing import Any

import jax
import jax.numpy as jnp
from jax import lax
from jaxtyping import Array, Float

from hypersphere._checks import check_floating, check_positive
from hypersphere._dtypes import widened
from hypersphere._quantized import as_array
from hypersphere.ops._angles import l2_norm, scaled
from hypersphere.ops._answer import (
    Magnitude,
    ResponseFunction,
    answer,
    dot_dtype,
    product_arguments,
)
from hypersphere.ops._filters import unit_filters
from hypersphere.ops._lanes import batch_across
from hypersphere.ops._patch import (
    Padding,
    box_sum,
    channels_last,
    explicit_padding,
    per_axis,
    take,
)
from hypersphere.ops._similarity import Cosine


def decoupled_conv(
    x: Float[Array, "batch *spatial in_features"],
    kernel: Float[Array, "*window group_features out_features"],
    *,
    magnitude: Magnitude,
    similarity: ResponseFunction = Cosine(),
    radius: float | Float[Array, ""] | Float[Array, " out_features"] = 1.0,
    weighted: bool = False,
    strides: int | Sequence[int] = 1,
    padding: Padding = "SAME",
    input_dilation: int | Sequence[int] = 1,
    kernel_dilation: int | Sequence[int] = 1,
    feature_group_count: int = 1,
    eps: float = 1e-2,
    precision: lax.PrecisionLike = None,
    preferred_element_type: jax.typing.DTypeLike | None = None,
) -> Float[Array, "batch *out_spatial out_features"]:
    """Convolution whose answer's size and angle are chosen apart: h(|x|) g(theta).

    For a patch x and a filter w at the angle theta,

        F = h(sqrt(|x|^2 + eps^2)) g(theta),

    and with `weighted`, that times sqrt(|w|^2 + eps^2). With `magnitudes.Sphere()` it
    is `sphere_conv`; with `magnitudes.Linear()`, `Cosine()` and `weighted` it is the
    plain convolution.

    Args:
        x: Channels-last input with one to three spatial axes.
        kernel: One filter per out feature; `group_features` is
            `in_features / feature_group_count`.
        magnitude: The function h of a patch's length: one of `ops.magnitudes`, or your
            own, called as `magnitude(norm, radius=radius)`.
        similarity: The function g from cosines in [-1, 1] to responses.
        radius: Where a magnitude bends, in the units of the patches' length, positive:
            one number, or one per filter.
        weighted: Whether a filter's length multiplies its answers.
        strides: Steps of the window, in pixels.
        padding: "SAME", "VALID", "SAME_LOWER", or a (low, high) pair per spatial axis.
            It adds zeros.
        input_dilation: 1 + zeros put between pixels of the input.
        kernel_dilation: 1 + zeros put between entries of the kernel.
        feature_group_count: Groups that the features fall into.
        eps: The smallest length that counts, in the units of the input; positive.
        precision: As in `jax.lax.conv_general_dilated`.
        preferred_element_type: The dtype of the result, by default that of `x`.

    Returns:
        Answers, in the units that the magnitude gives them.

    Raises:
        TypeError: If an array is not real floating point.
        ValueError: If shapes do not fit, or `eps` is not positive and finite.

    Example:
        >>> import jax
        >>> from hypersphere import ops
        >>> x = jax.random.normal(jax.random.key(0), (1, 8, 8, 3))
        >>> kernel = jax.random.normal(jax.random.key(1), (3, 3, 3, 16))
        >>> tanh = ops.magnitudes.Tanh()
        >>> ops.decoupled_conv(x, kernel, magnitude=tanh, radius=5.0).shape
        (1, 8, 8, 16)

    References:
        Liu et al., Decoupled Networks, CVPR 2018. https://arxiv.org/abs/1804.08071
    """
    rank = x.ndim - 2
    _check_conv_shapes(x, kernel, feature_group_count)
    return decoupled_conv_general_dilated(
        x,
        kernel,
        per_axis(strides, rank, "strides"),
        padding,
        lhs_dilation=per_axis(input_dilation, rank, "input_dilation"),
        rhs_dilation=per_axis(kernel_dilation, rank, "kernel_dilation"),
        dimension_numbers=channels_last(x.ndim),
        feature_group_count=feature_group_count,
        precision=precision,
        preferred_element_type=preferred_element_type,
        magnitude=magnitude,
        similarity=similarity,
        radius=radius,
        weighted=weighted,
        eps=eps,
    )


def decoupled_conv_general_dilated(
    lhs: Float[Array, "..."],
    rhs: Float[Array, "..."],
    window_strides: Sequence[int],
    padding: Padding,
    lhs_dilation: Sequence[int] | None = None,
    rhs_dilation: Sequence[int] | None = None,
    dimension_numbers: Any = None,
    feature_group_count: int = 1,
    batch_group_count: int = 1,
    precision: lax.PrecisionLike = None,
    preferred_element_type: jax.typing.DTypeLike | None = None,
    out_sharding: Any = None,
    *,
    magnitude: Magnitude,
    similarity: ResponseFunction = Cosine(),
    radius: float | Float[Array, ""] | Float[Array, " out_features"] = 1.0,
    weighted: bool = False,
    eps: float = 1e-2,
    mask: Array | None = None,
    is_input_stored: bool = False,
    conv_general_dilated: Callable[..., Array] = lax.conv_general_dilated,
) -> Float[Array, "..."]:
    """`jax.lax.conv_general_dilated` in decoupled form: `decoupled_conv` in full.

    Args:
        lhs: Input, laid out as `dimension_numbers` says.
        rhs: Kernel, laid out as `dimension_numbers` says.
        window_strides: Steps of the window, in pixels, one per spatial axis.
        padding: "SAME", "VALID", "SAME_LOWER", or a (low, high) pair per spatial axis.
        lhs_dilation: 1 + zeros put between pixels, one per spatial axis.
        rhs_dilation: 1 + zeros put between kernel entries, one per spatial axis.
        dimension_numbers: As in `lax.conv_general_dilated`; by default channels first.
        feature_group_count: Groups that the features fall into.
        batch_group_count: Groups that the batch falls into.
        precision: As in `lax.conv_general_dilated`.
        preferred_element_type: The dtype of the result, by default that of the input.
        out_sharding: As in `lax.conv_general_dilated`.
        magnitude: The function h of a patch's length.
        similarity: The function g from cosines in [-1, 1] to responses.
        radius: Where a magnitude bends: one number, or one per filter.
        weighted: Whether a filter's length multiplies its answers.
        eps: The smallest length that counts, in the units of the input; positive.
        mask: Zeros and ones in the shape of `rhs`, which must be masked already: the
            patch norm then counts, for each filter, only what its mask lets through,
            at the cost of a second convolution.
        is_input_stored: Whether `lhs` is written to memory in any case, as where a
            residual unit begins, and not where it comes straight from a normalization.
            In bfloat16 on a TPU its squares are then added up in another way: the
            answer is the same but for rounding, the cost is not.
        conv_general_dilated: What computes the dot products.

    Returns:
        Answers, in the layout that `dimension_numbers` gives the output.

    Raises:
        TypeError: If an array is not real floating point.
        ValueError: If shapes do not fit, or `eps` is not positive and finite.

    Example:
        >>> import jax.numpy as jnp
        >>> from hypersphere import ops
        >>> x, kernel = jnp.ones((1, 3, 8)), jnp.ones((4, 3, 5))  # channels first
        >>> ball = ops.magnitudes.Ball()
        >>> ops.decoupled_conv_general_dilated(
        ...     x, kernel, (1,), "VALID", magnitude=ball
        ... ).shape
        (1, 4, 4)

    References:
        Liu et al., Decoupled Networks, CVPR 2018. https://arxiv.org/abs/1804.08071
    """
    check_positive("decoupled_conv_general_dilated", eps=eps)
    check_floating("decoupled_conv_general_dilated", lhs=lhs, rhs=rhs)
    numbers = lax.conv_dimension_numbers(lhs.shape, rhs.shape, dimension_numbers)
    window = take(rhs.shape, numbers.rhs_spec[2:])
    geometry = dict(
        window_strides=tuple(window_strides),
        padding=explicit_padding(
            padding,
            take(lhs.shape, numbers.lhs_spec[2:]),
            window,
            window_strides,
            lhs_dilation,
            rhs_dilation,
        ),
        lhs_dilation=tuple(lhs_dilation or (1,) * len(window)),
        rhs_dilation=tuple(rhs_dilation or (1,) * len(window)),
    )
    convolve = {
        **geometry,
        "dimension_numbers": numbers,
        "feature_group_count": feature_group_count,
        "batch_group_count": batch_group_count,
    }
    channel = numbers.out_spec[1]
    filter_axes = tuple(a for a in range(rhs.ndim) if a != numbers.rhs_spec[0])
    dtype = dot_dtype(lhs.dtype)
    filters = unit_filters(rhs, axis=filter_axes, eps=eps, dtype=dtype)
    dots = conv_general_dilated(
        lhs.astype(dtype),
        filters.values,
        precision=precision,
        **convolve,
        **product_arguments(dtype, preferred_element_type, out_sharding),
    )
    along = [numbers.rhs_spec[0] if a == channel else -1 for a in range(dots.ndim)]
    batch = numbers.out_spec[0]
    dots = batch_across(filters.divided(dots, along), batch, channel, math.prod(window))
    if mask is None and batch_group_count == 1:
        squares = box_sum(
            lhs,
            window,
            numbers,
            feature_group_count,
            geometry,
            eps,
            is_stored=is_input_stored,
        )
        squares = _spread_groups(squares, channel, dots.shape)
    else:
        weights = jnp.ones_like(rhs) if mask is None else jnp.asarray(mask)
        squares = _masked_sum(lhs, weights, convolve, eps)
    weight: Any = None
    if weighted:
        weight = l2_norm(widened(as_array(rhs)), axis=filter_axes, eps=eps)
    return answer(
        dots,
        squares,
        similarity=similarity,
        magnitude=magnitude,
        radius=_per_filter(radius, dots.ndim, channel),
        weight=_per_filter(weight, dots.ndim, channel),
        eps=eps,
        dtype=preferred_element_type or lhs.dtype,
    )


def _per_filter(values: Any, ndim: int, channel: int) -> Any:
    """A number, or None, as it is; one per filter laid along the filters' axis."""
    if values is None or jnp.ndim(values) == 0:
        return values
    return jnp.reshape(values, (1,) * channel + (-1,) + (1,) * (ndim - channel - 1))


def _masked_sum(
    lhs: Array, weights: Array, convolve: dict[str, Any], eps: float
) -> Array:
    """Sums of squares, scaled, through one mask per filter: a convolution of them."""
    squares = jnp.square(scaled(lhs, eps=eps))
    sums = lax.conv_general_dilated(
        squares,
        weights.astype(squares.dtype),
        precision=lax.Precision.HIGHEST,
        **convolve,
    )
    return jnp.maximum(sums, 0)  # a transformed convolution may round below


def _spread_groups(squares: Array, axis: int, shape: tuple[int, ...]) -> Array:
    """One channel per group becomes one per filter, or stays one to be broadcast."""
    groups = squares.shape[axis]
    return squares if groups == 1 else jnp.repeat(squares, shape[axis] // groups, axis)


def _check_conv_shapes(x: Array, kernel: Array, groups: int) -> None:
    fits = (
        x.ndim >= 3
        and kernel.ndim == x.ndim
        and groups >= 1
        and kernel.shape[-2] * groups == x.shape[-1]
        and kernel.shape[-1] % groups == 0
    )
    if not fits:
        raise ValueError(
            "The convolution needs `x` (batch, *spatial, in_features) and `kernel` "
            "(*window, in_features / feature_group_count, out_features), with groups "
            f"that divide both feature counts, got `x.shape={x.shape}`, "
            f"`kernel.shape={kernel.shape}` and `feature_group_count={groups}`."
        )
