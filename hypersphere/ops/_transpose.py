"""Transposed convolutions that answer with an angle."""

import math
from collections.abc import Sequence

import jax
import jax.numpy as jnp
from jax import lax
from jaxtyping import Array, Float

from hypersphere.ops._answer import ResponseFunction
from hypersphere.ops._conv import sphere_conv_general_dilated
from hypersphere.ops._patch import Padding, channels_last, per_axis
from hypersphere.ops._similarity import Cosine


def sphere_conv_transpose(
    x: Float[Array, "..."],
    kernel: Float[Array, "..."],
    *,
    similarity: ResponseFunction = Cosine(),
    strides: int | Sequence[int] = 1,
    padding: Padding = "SAME",
    kernel_dilation: int | Sequence[int] = 1,
    transpose_kernel: bool = False,
    eps: float = 1e-2,
    mask: Array | None = None,
    precision: lax.PrecisionLike = None,
    preferred_element_type: jax.typing.DTypeLike | None = None,
) -> Float[Array, "..."]:
    """`jax.lax.conv_transpose` that answers with the angle.

    It is `sphere_conv` of the input with `strides - 1` zeros after each pixel: a patch
    counts the real pixels it holds.

    Args:
        x: Input (*batch, *spatial, in_features) with one to three spatial axes and any
            number of batch axes.
        kernel: (*window, in_features, out_features), or with `transpose_kernel`
            (*window, out_features, in_features).
        similarity: The function g from cosines in [-1, 1] to responses.
        strides: What every side of the input is multiplied by.
        padding: "SAME", "VALID", a (low, high) pair per spatial axis, as in
            `lax.conv_transpose`, or "CIRCULAR", as in `nnx.ConvTranspose`: the output
            is `strides` times the input, and its ends meet.
        kernel_dilation: 1 + zeros put between entries of the kernel.
        transpose_kernel: Whether the kernel is that of the convolution which this one
            transposes: its window is turned around and its features are swapped.
        eps: The smallest length that counts, in the units of the input; positive.
        mask: Zeros and ones in the shape of `kernel`, which must be masked already:
            the patch norm counts, for each filter, only what its mask lets through.
        precision: As in `jax.lax.conv_transpose`.
        preferred_element_type: The dtype of the result, by default that of `x`.

    Returns:
        Responses (*batch, *out_spatial, out_features): with one of the similarities
        here, in [-1, 1].

    Raises:
        TypeError: If an array is not real floating point.
        ValueError: If shapes do not fit, `padding` is another name, or `eps` is not
            positive and finite.

    Example:
        >>> import jax
        >>> from hypersphere import ops
        >>> x = jax.random.normal(jax.random.key(0), (1, 4, 4, 3))
        >>> kernel = jax.random.normal(jax.random.key(1), (3, 3, 3, 8))
        >>> ops.sphere_conv_transpose(x, kernel, strides=2).shape
        (1, 8, 8, 8)

    References:
        Liu et al., Deep Hyperspherical Learning, NIPS 2017.
        https://arxiv.org/abs/1711.03189
        Differs: the paper has no transposed convolution.
    """
    rank = kernel.ndim - 2
    _check_shapes(x, kernel, transpose_kernel=transpose_kernel)
    steps = per_axis(strides, rank, "strides")
    dilation = per_axis(kernel_dilation, rank, "kernel_dilation")
    batch = x.shape[: -rank - 1]
    x = x.reshape(math.prod(batch), *x.shape[-rank - 1 :])
    reach = [
        (k - 1) * d + 1 for k, d in zip(kernel.shape[:rank], dilation, strict=True)
    ]
    if transpose_kernel:
        kernel = _turned(kernel)
        mask = None if mask is None else _turned(mask)
    if padding == "CIRCULAR":
        x = _wrapped(x, reach, steps, transpose_kernel=transpose_kernel)
        pairs, steps = [(0, 0)] * rank, (1,) * rank
    elif isinstance(padding, str):
        pairs = [_pair(k, s, padding) for k, s in zip(reach, steps, strict=True)]
    else:
        pairs = padding
    answer = sphere_conv_general_dilated(
        x,
        kernel,
        (1,) * rank,
        pairs,
        lhs_dilation=steps,
        rhs_dilation=dilation,
        dimension_numbers=channels_last(x.ndim),
        precision=precision,
        preferred_element_type=preferred_element_type,
        similarity=similarity,
        eps=eps,
        mask=mask,
    )
    return answer.reshape(*batch, *answer.shape[1:])


def _turned(kernel: Array) -> Array:
    """The window turned around, the features swapped."""
    return jnp.swapaxes(jnp.flip(kernel, range(kernel.ndim - 2)), -1, -2)


def _pair(reach: int, stride: int, padding: str) -> tuple[int, int]:
    """Zeros before and after, so that the sizes reverse those of a convolution."""
    total = reach + stride - 2
    if padding == "SAME":
        low = reach - 1 if stride > reach - 1 else -(-total // 2)
    elif padding == "VALID":
        total += max(reach - stride, 0)
        low = reach - 1
    else:
        raise ValueError(
            "`sphere_conv_transpose` needs `padding` as 'SAME', 'VALID', 'CIRCULAR' or "
            f"a (low, high) pair per spatial axis, got `padding={padding!r}`."
        )
    return low, total - low


def _wrapped(
    x: Array, reach: Sequence[int], strides: Sequence[int], *, transpose_kernel: bool
) -> Array:
    """The input with zeros between its pixels, continued at its ends.

    Flax wraps the output of a "VALID" transposed convolution around, after padding it
    to a whole number of periods; the same shift is made here on the input.
    """
    for axis, (k, s) in enumerate(zip(reach, strides, strict=True), start=1):
        period = x.shape[axis] * s
        between = [(0, 0, 0)] * x.ndim
        between[axis] = (0, s - 1, s - 1)
        x = lax.pad(x, jnp.zeros((), x.dtype), between)
        missing = -max(k - s, 0) % (2 * period)
        shift = missing // 2 if transpose_kernel else (missing + 1) // 2
        positions = (jnp.arange(period + k - 1) - shift - (k - 1)) % period
        x = jnp.take(x, positions, axis=axis)
    return x


def _check_shapes(x: Array, kernel: Array, *, transpose_kernel: bool) -> None:
    in_axis = -1 if transpose_kernel else -2
    rank = kernel.ndim - 2
    if rank < 1 or x.ndim <= rank or kernel.shape[in_axis] != x.shape[-1]:
        order = (
            "out_features, in_features"
            if transpose_kernel
            else ("in_features, out_features")
        )
        raise ValueError(
            "`sphere_conv_transpose` needs `x` (*batch, *spatial, in_features) and "
            f"`kernel` (*window, {order}), got `x.shape={x.shape}` and "
            f"`kernel.shape={kernel.shape}`."
        )
