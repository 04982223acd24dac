"""Convolutions and products that answer with the angle between filter and input."""

from collections.abc import Callable, Sequence
from typing import Any, TypeAlias

import jax
import jax.numpy as jnp
from jax import lax
from jaxtyping import Array, Float

from hypersphere._checks import check_floating, check_positive
from hypersphere.ops._angles import (
    clip_cosine,
    scaled,
    scaled_norm,
    square_scale,
    unit,
)
from hypersphere.ops._patch import (
    Padding,
    box_norm,
    channels_last,
    explicit_padding,
    per_axis,
    take,
)
from hypersphere.ops._similarity import Cosine

ResponseFunction: TypeAlias = Callable[[Float[Array, "..."]], Float[Array, "..."]]


def sphere_conv(
    x: Float[Array, "batch *spatial in_features"],
    kernel: Float[Array, "*window group_features out_features"],
    *,
    similarity: ResponseFunction = Cosine(),
    strides: int | Sequence[int] = 1,
    padding: Padding = "SAME",
    input_dilation: int | Sequence[int] = 1,
    kernel_dilation: int | Sequence[int] = 1,
    feature_group_count: int = 1,
    eps: float = 1e-2,
    precision: lax.PrecisionLike = None,
    preferred_element_type: jax.typing.DTypeLike | None = None,
) -> Float[Array, "batch *out_spatial out_features"]:
    """Convolution that answers with the angle between each filter and each patch.

    For a patch x and a filter w, both flattened,

        cos = <w, x> / (sqrt(|w|^2 + eps^2) sqrt(|x|^2 + eps^2)),  F = similarity(cos).

    Args:
        x: Channels-last input with one to three spatial axes. The size of the values
            does not matter as long as patches are longer than `eps`.
        kernel: One filter per out feature; `group_features` is
            `in_features / feature_group_count`.
        similarity: The function g from cosines in [-1, 1] to responses: `Cosine()`,
            `Linear()`, `Sigmoid(k)` or your own, elementwise.
        strides: Steps of the window, in pixels.
        padding: "SAME", "VALID", "SAME_LOWER", or a (low, high) pair per spatial axis.
            It adds zeros, so that a patch at the border counts its real pixels only.
        input_dilation: 1 + zeros put between pixels of the input.
        kernel_dilation: 1 + zeros put between entries of the kernel.
        feature_group_count: Groups that the features fall into.
        eps: The smallest length that counts, in the units of the input; positive. A
            patch or filter of zeros has cosine zero.
        precision: As in `jax.lax.conv_general_dilated`.
        preferred_element_type: The dtype of the result, by default that of `x`.

    Returns:
        Responses: with one of the similarities here, in [-1, 1].

    Raises:
        TypeError: If an array is not real floating point.
        ValueError: If shapes do not fit, or `eps` is not positive and finite.

    Example:
        >>> import jax
        >>> from hypersphere import ops
        >>> x = jax.random.normal(jax.random.key(0), (1, 8, 8, 3))
        >>> kernel = jax.random.normal(jax.random.key(1), (3, 3, 3, 16))
        >>> ops.sphere_conv(x, kernel, similarity=ops.Linear()).shape
        (1, 8, 8, 16)

    References:
        Liu et al., Deep Hyperspherical Learning, NIPS 2017.
        https://arxiv.org/abs/1711.03189
        Differs: the patch norm sums over channels before it sums over the window.
    """
    rank = x.ndim - 2
    _check_conv_shapes(x, kernel, feature_group_count)
    return sphere_conv_general_dilated(
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
        similarity=similarity,
        eps=eps,
    )


def sphere_conv_general_dilated(
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
    similarity: ResponseFunction = Cosine(),
    eps: float = 1e-2,
    mask: Array | None = None,
    conv_general_dilated: Callable[..., Array] = lax.conv_general_dilated,
) -> Float[Array, "..."]:
    """`jax.lax.conv_general_dilated` that answers with angles: `sphere_conv` in full.

    It takes the place of `lax.conv_general_dilated` wherever a library lets one be
    passed in.

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
        similarity: The function g from cosines in [-1, 1] to responses.
        eps: The smallest length that counts, in the units of the input; positive.
        mask: Zeros and ones in the shape of `rhs`, which must be masked already: the
            patch norm then counts, for each filter, only what its mask lets through,
            at the cost of a second convolution.
        conv_general_dilated: What computes the dot products.

    Returns:
        Responses, in the layout that `dimension_numbers` gives the output.

    Raises:
        TypeError: If an array is not real floating point.
        ValueError: If shapes do not fit, or `eps` is not positive and finite.

    Example:
        >>> import jax
        >>> from flax import nnx
        >>> from hypersphere import ops
        >>> conv = nnx.Conv(3, 4, (3, 3), rngs=nnx.Rngs(0),
        ...                 conv_general_dilated=ops.sphere_conv_general_dilated)
        >>> conv(jax.numpy.ones((1, 8, 8, 3))).shape
        (1, 8, 8, 4)

    References:
        Liu et al., Deep Hyperspherical Learning, NIPS 2017.
        https://arxiv.org/abs/1711.03189
    """
    check_positive("sphere_conv_general_dilated", eps=eps)
    check_floating("sphere_conv_general_dilated", lhs=lhs, rhs=rhs)
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
    filter_axes = tuple(a for a in range(rhs.ndim) if a != numbers.rhs_spec[0])
    dot_dtype = _dot_dtype(lhs.dtype)
    dots = conv_general_dilated(
        lhs.astype(dot_dtype),
        unit(rhs, axis=filter_axes, eps=eps).astype(dot_dtype),
        precision=precision,
        preferred_element_type=_answer_dtype(dot_dtype, preferred_element_type),
        **convolve,
        **({} if out_sharding is None else {"out_sharding": out_sharding}),
    )
    if mask is None and batch_group_count == 1:
        norms = box_norm(lhs, window, numbers, feature_group_count, geometry, eps)
        norms = _spread_groups(norms, numbers.out_spec[1], dots.shape)
    else:
        weights = jnp.ones_like(rhs) if mask is None else jnp.asarray(mask)
        norms = _conv_norm(lhs, weights, convolve, eps)
    per_norm = square_scale(eps) / norms
    return _respond(dots, per_norm, similarity, preferred_element_type or lhs.dtype)


def sphere_dense(
    x: Float[Array, "... in_features"],
    kernel: Float[Array, "in_features out_features"],
    *,
    similarity: ResponseFunction = Cosine(),
    eps: float = 1e-2,
    precision: lax.PrecisionLike = None,
    preferred_element_type: jax.typing.DTypeLike | None = None,
    out_sharding: Any = None,
    dot_general: Callable[..., Array] = lax.dot_general,
) -> Float[Array, "... out_features"]:
    """Matrix product that answers with the angle between each column and each vector.

    Args:
        x: Vectors along the last axis.
        kernel: One column per out feature.
        similarity: The function g from cosines in [-1, 1] to responses.
        eps: The smallest length that counts, in the units of the input; positive.
        precision: As in `jax.lax.dot_general`.
        preferred_element_type: The dtype of the result, by default that of `x`.
        out_sharding: As in `jax.lax.dot_general`.
        dot_general: What computes the dot products.

    Returns:
        Responses: with one of the similarities here, in [-1, 1].

    Raises:
        TypeError: If an array is not real floating point.
        ValueError: If shapes do not fit, or `eps` is not positive and finite.

    Example:
        >>> import jax.numpy as jnp
        >>> from hypersphere import ops
        >>> x = jnp.array([[1.0, 1.0]])
        >>> kernel = jnp.array([[1.0, 3.0], [0.0, 3.0]])
        >>> print(ops.sphere_dense(x, kernel, eps=1e-3).round(2))
        [[0.71 1.  ]]

    References:
        Liu et al., Deep Hyperspherical Learning, NIPS 2017.
        https://arxiv.org/abs/1711.03189
    """
    check_positive("sphere_dense", eps=eps)
    check_floating("sphere_dense", x=x, kernel=kernel)
    if kernel.ndim != 2 or x.ndim < 1 or x.shape[-1] != kernel.shape[0]:
        raise ValueError(
            "`sphere_dense` needs `kernel.ndim == 2` and `x.shape[-1] == "
            f"kernel.shape[0]`, got `x.shape={x.shape}` and "
            f"`kernel.shape={kernel.shape}`."
        )
    dot_dtype = _dot_dtype(x.dtype)
    dots = dot_general(
        x.astype(dot_dtype),
        unit(kernel, axis=0, eps=eps).astype(dot_dtype),
        (((x.ndim - 1,), (0,)), ((), ())),
        precision=precision,
        preferred_element_type=_answer_dtype(dot_dtype, preferred_element_type),
        **({} if out_sharding is None else {"out_sharding": out_sharding}),
    )
    squares = jnp.sum(jnp.square(scaled(x, eps=eps)), axis=-1, keepdims=True)
    per_norm = square_scale(eps) / scaled_norm(squares, eps=eps)
    return _respond(dots, per_norm, similarity, preferred_element_type or x.dtype)


def _respond(
    dots: Array, per_norm: Array, similarity: ResponseFunction, dtype: Any
) -> Array:
    """The response to dot products of unit filters with patches, before the norm."""
    return similarity(clip_cosine(dots * per_norm)).astype(dtype)


def _conv_norm(
    lhs: Array, weights: Array, convolve: dict[str, Any], eps: float
) -> Array:
    """Patch norms, scaled, through one mask per filter: a convolution of squares."""
    squares = jnp.square(scaled(lhs, eps=eps))
    sums = lax.conv_general_dilated(
        squares,
        weights.astype(squares.dtype),
        precision=lax.Precision.HIGHEST,
        **convolve,
    )
    return scaled_norm(sums, eps=eps)


def _spread_groups(norms: Array, axis: int, shape: tuple[int, ...]) -> Array:
    """One channel per group becomes one per filter, or stays one to be broadcast."""
    groups = norms.shape[axis]
    return norms if groups == 1 else jnp.repeat(norms, shape[axis] // groups, axis)


def _dot_dtype(dtype: Any) -> Any:
    """What to multiply in: float32 for float16, whose dot products overflow."""
    # Before 0.10, JAX cannot differentiate a float16 convolution that answers in
    # float32 (`preferred_element_type`), so the operands are widened instead.
    return jnp.float32 if dtype == jnp.float16 else dtype


def _answer_dtype(dot_dtype: Any, preferred: Any) -> Any:
    """What dot products come in: wider than the operands only where it was asked."""
    return jnp.promote_types(dot_dtype, preferred or dot_dtype)


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
            "`sphere_conv` needs `x` (batch, *spatial, in_features) and `kernel` "
            "(*window, in_features / feature_group_count, out_features), with groups "
            f"that divide both feature counts, got `x.shape={x.shape}`, "
            f"`kernel.shape={kernel.shape}` and `feature_group_count={groups}`."
        )
