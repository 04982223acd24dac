"""Norms, directions, cosines and angles, safe at zero and at the poles."""

import math
from collections.abc import Sequence

import jax
import jax.numpy as jnp
from jax import lax
from jaxtyping import Array, Float

from hypersphere._checks import check_floating, check_positive
from hypersphere._dtypes import common
from hypersphere.ops._elementary import inverse_root, root, rsqrt

# The largest slope of `arcsin`, and minus that of `angle`: reached 5e-7 from a pole.
MAX_SLOPE = 1e3


def accumulation_dtype(*arrays: Array) -> jnp.dtype:
    """The dtype to sum in: that of the arrays, and at least float32."""
    return common(*arrays, jnp.float32)


def square_scale(eps: float) -> float:
    """A power of two to multiply by before squaring, chosen by `eps`.

    It brings `eps` to about 2**-20, so that in float32 the squares of everything
    from far below `eps` up to 1e21 times `eps` neither vanish nor overflow, nor do
    the powers of them that derivatives need; it costs no precision.
    """
    return 2.0 ** (-20 - round(math.log2(eps)))


def scaled(x: Array, *, eps: float) -> Array:
    """`x`, in the dtype to sum it in, ready to be squared."""
    return x.astype(accumulation_dtype(x)) * square_scale(eps)


def length(squares: Array, *, eps: float) -> Array:
    """The length, in the units of the input, from a sum of squares of `scaled`."""
    scale = square_scale(eps)
    return jnp.sqrt(squares + (scale * eps) ** 2) / scale


def inverse_length(squares: Array, *, eps: float) -> Array:
    """One over `length`, with a gradient that holds wherever the length does."""
    scale = square_scale(eps)
    return rsqrt(squares + (scale * eps) ** 2) * scale


def l2_norm(
    x: Float[Array, "..."],
    *,
    axis: int | Sequence[int] = -1,
    eps: float,
    keepdims: bool = False,
) -> Float[Array, "..."]:
    """Euclidean length that is never zero: `sqrt(sum(x**2) + eps**2)`.

    Args:
        x: Any shape, real floating point. Half precision is summed in float32.
        axis: The axes to sum over.
        eps: The smallest length that counts, in the units of `x`, positive.
        keepdims: Whether the axes summed over stay, with length one.

    Returns:
        The length, at least `eps` and in the units of `x`; in the dtype of `x`, where
        it may round to infinity if that is float16.

    Raises:
        TypeError: If `x` is not real floating point.
        ValueError: If `eps` is not positive and finite.

    Example:
        >>> import jax.numpy as jnp
        >>> from hypersphere import ops
        >>> print(ops.l2_norm(jnp.array([3.0, 4.0]), eps=1e-3))
        5.0

    References:
        Liu et al., Deep Hyperspherical Learning, NIPS 2017: the authors' code keeps
        1e-4 under the root, here `eps=1e-2`. https://arxiv.org/abs/1711.03189
    """
    check_positive("l2_norm", eps=eps)
    check_floating("l2_norm", x=x)
    squares = _sum_of_squares(scaled(x, eps=eps), axis, keepdims=keepdims)
    return length(squares, eps=eps).astype(x.dtype)


def _sum_of_squares(x: Array, axis: int | Sequence[int], *, keepdims: bool) -> Array:
    axes = tuple(axis) if isinstance(axis, Sequence) else axis
    return jnp.sum(jnp.square(x), axis=axes, keepdims=keepdims)


def unit(
    x: Float[Array, "..."], *, axis: int | Sequence[int] = -1, eps: float
) -> Float[Array, "..."]:
    """The direction of `x`: `x / l2_norm(x)`, zero where `x` is zero.

    Args:
        x: Any shape, real floating point.
        axis: The axes that make up one vector.
        eps: The smallest length that counts, in the units of `x`, positive. The
            gradient is at most `1 / eps`: choose it by the size of the data.

    Returns:
        Vectors shorter than one by a factor `|x| / sqrt(|x|**2 + eps**2)`; the shape
        and dtype of `x`.

    Raises:
        TypeError: If `x` is not real floating point.
        ValueError: If `eps` is not positive and finite.

    Example:
        >>> import jax.numpy as jnp
        >>> from hypersphere import ops
        >>> print(ops.unit(jnp.array([3.0, 4.0]), eps=1e-3).round(1))
        [0.6 0.8]
    """
    check_positive("unit", eps=eps)
    check_floating("unit", x=x)
    squares = _sum_of_squares(scaled(x, eps=eps), axis, keepdims=True)
    per_length = inverse_length(squares, eps=eps)
    return (x.astype(per_length.dtype) * per_length).astype(x.dtype)


@jax.custom_jvp
def clip_cosine(cos: Float[Array, "..."]) -> Float[Array, "..."]:
    """Takes what rounding carried past one back to one; the slope stays one.

    Args:
        cos: Cosines, any shape, meant to lie in [-1, 1].

    Returns:
        Values in [-1, 1], same shape and dtype. The derivative is one everywhere, so
        that a filter which already matches its patch still learns.

    Example:
        >>> import jax.numpy as jnp
        >>> from hypersphere import ops
        >>> print(ops.clip_cosine(jnp.array([0.5, 1.0000004])))
        [0.5 1. ]
    """
    return jnp.clip(cos, -1, 1)


@clip_cosine.defjvp
def _clip_cosine_jvp(primals, tangents):
    return clip_cosine(*primals), tangents[0]


@jax.custom_jvp
def arcsin(x: Float[Array, "..."]) -> Float[Array, "..."]:
    """Inverse sine with a bounded slope, defined on the whole line.

    Args:
        x: Sines, any shape. Beyond [-1, 1], where rounding may carry a cosine, the
            nearer end is taken.

    Returns:
        Radians in [-pi/2, pi/2], same shape and dtype. On a CPU a
        polynomial, off by at most 2e-7; on other devices, and in float64, XLA's own,
        which their compilers repeat rather than store. The derivative is
        `1 / sqrt(1 - x**2)`, at most 1e3, and 1e3 at and beyond the ends.

    Example:
        >>> import jax.numpy as jnp
        >>> from hypersphere import ops
        >>> print(ops.arcsin(jnp.array([0.0, 0.5, 1.0])).round(4))
        [0.     0.5236 1.5708]

    References:
        The split at one half, `arcsin x = pi/2 - 2 arcsin sqrt((1 - x) / 2)`, and the
        polynomial's coefficients are those of Moshier's Cephes library, `asinf`.
    """
    x = jnp.asarray(x)
    check_floating("arcsin", x=x)
    if x.dtype == jnp.float64:
        return _own_arcsin(x)
    return lax.platform_dependent(x, cpu=_arcsin, default=_own_arcsin)


def _own_arcsin(x: Array) -> Array:
    return lax.asin(jnp.clip(x, -1, 1))


def _arcsin(x: Array) -> Array:
    arc, is_far = _arc(x)
    latitude = jnp.where(is_far, math.pi / 2 - arc, arc)
    return jnp.copysign(latitude, x).astype(x.dtype)


@jax.custom_jvp
def angle(cos: Float[Array, "..."]) -> Float[Array, "..."]:
    """The angle of a cosine, exact near zero, with a bounded slope.

    Args:
        cos: Cosines, any shape. Beyond [-1, 1] the nearer end is taken.

    Returns:
        Radians in [0, pi], same shape and dtype. The derivative is
        `-1 / sqrt(1 - cos**2)`, no less than -1e3, and -1e3 at and beyond the ends.

    Example:
        >>> import jax.numpy as jnp
        >>> from hypersphere import ops
        >>> print(ops.angle(jnp.array([1.0, 0.0, -1.0])).round(4))
        [0.     1.5708 3.1416]
    """
    cos = jnp.asarray(cos)
    check_floating("angle", cos=cos)
    if cos.dtype == jnp.float64:
        return jnp.arccos(jnp.clip(cos, -1, 1))
    arc, is_far = _arc(cos)
    acute = jnp.where(is_far, arc, math.pi / 2 - arc)
    return jnp.where(cos < 0, math.pi - acute, acute).astype(cos.dtype)


def _arc(x: Array) -> tuple[Array, Array]:
    """In float32, arcsin|x| up to one half and arccos|x| above; and where that is."""
    size = jnp.minimum(jnp.abs(x.astype(jnp.float32)), 1)
    is_far = size > 0.5
    square = jnp.where(is_far, (1 - size) / 2, jnp.square(size))
    sine = jnp.where(is_far, root(square), size)
    series = jnp.full_like(square, 4.2163199048e-2)
    for coefficient in (
        2.4181311049e-2,
        4.5470025998e-2,
        7.4953002686e-2,
        1.6666752422e-1,
    ):
        series = series * square + coefficient
    return (sine + sine * square * series) * jnp.where(is_far, 2.0, 1.0), is_far


def inverse_sine_of(cos: Array) -> Array:
    """1 / sin(theta) for `cos = cos(theta)`, at most `MAX_SLOPE`."""
    wide = cos.astype(accumulation_dtype(cos))
    squared = jnp.maximum((1 - wide) * (1 + wide), MAX_SLOPE**-2)
    return inverse_root(squared).astype(cos.dtype)


@arcsin.defjvp
def _arcsin_jvp(primals, tangents):
    x = jnp.asarray(primals[0])
    return arcsin(x), inverse_sine_of(x) * tangents[0]


@angle.defjvp
def _angle_jvp(primals, tangents):
    cos = jnp.asarray(primals[0])
    return angle(cos), -inverse_sine_of(cos) * tangents[0]
