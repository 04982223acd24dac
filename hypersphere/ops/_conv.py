"""Convolutions that answer with the angle between filter and patch."""

from collections.abc import Callable, Sequence
from typing import Any

import jax
from jax import lax
from jaxtyping import Array, Float

from hypersphere._checks import check_floating, check_positive
from hypersphere.ops._answer import ResponseFunction
from hypersphere.ops._decoupled import decoupled_conv, decoupled_conv_general_dilated
from hypersphere.ops._patch import Padding
from hypersphere.ops._similarity import Cosine
from hypersphere.ops.magnitudes import Sphere


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
    check_positive("sphere_conv", eps=eps)
    check_floating("sphere_conv", x=x, kernel=kernel)
    return decoupled_conv(
        x,
        kernel,
        magnitude=Sphere(),
        similarity=similarity,
        strides=strides,
        padding=padding,
        input_dilation=input_dilation,
        kernel_dilation=kernel_dilation,
        feature_group_count=feature_group_count,
        eps=eps,
        precision=precision,
        preferred_element_type=preferred_element_type,
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
    return decoupled_conv_general_dilated(
        lhs,
        rhs,
        window_strides,
        padding,
        lhs_dilation=lhs_dilation,
        rhs_dilation=rhs_dilation,
        dimension_numbers=dimension_numbers,
        feature_group_count=feature_group_count,
        batch_group_count=batch_group_count,
        precision=precision,
        preferred_element_type=preferred_element_type,
        out_sharding=out_sharding,
        magnitude=Sphere(),
        similarity=similarity,
        eps=eps,
        mask=mask,
        conv_general_dilated=conv_general_dilated,
    )
