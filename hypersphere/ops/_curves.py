"""Similarities as curves: a response to cosines, and two ways to its derivative.

The backward pass needs something as large as the answer. It may keep the dot products,
and find the angle from them again; or it undoes the response, from which the angle, the
slope and the cosine follow, and which the next layer keeps anyway, in the layer's own
dtype. Which is cheaper depends on the machine and the curve; each says so here.
"""

import functools
import math
from collections.abc import Callable
from typing import Any, NamedTuple

import jax
import jax.numpy as jnp
from jax import lax
from jaxtyping import Array

from hypersphere.ops._angles import (
    MAX_SLOPE,
    accumulation_dtype,
    arcsin,
    inverse_sine_of,
)
from hypersphere.ops._sums import spread


class Curve(NamedTuple):
    """A similarity's formulas.

    Attributes:
        response: (cos, *values) -> the response; `cos` may be rounded past one.
        from_cosine: (cos, *values) -> the slope, and those to each of the values.
        from_response: (response, *values) -> the slope, the cosine, and the slopes to
            each of the values, in float32; the response comes in its own dtype.
        undone_on: The platforms whose backward pass goes by the response.
        is_stored: Whether the response is rounded to its dtype at once, so that XLA
            stores it in that one instead of in float32.
    """

    response: Callable[..., Array]
    from_cosine: Callable[..., tuple[Array, ...]]
    from_response: Callable[..., tuple[Array, ...]]
    undone_on: tuple[str, ...] = ("tpu",)
    is_stored: bool = False


@functools.partial(jax.custom_jvp, nondiff_argnums=(0,))
def respond(curve: Curve, product: Array, scale: Array, *values: Array) -> Array:
    """The response to the cosines `product * scale`, in the dtype of `product`."""
    kind = jnp.finfo(product.dtype)
    response = curve.response(_wide(product) * scale, *values).astype(kind.dtype)
    if curve.is_stored and kind.bits < 32:
        return lax.reduce_precision(response, kind.nexp, kind.nmant)
    return response


@respond.defjvp
def _respond_jvp(curve: Curve, primals: Any, tangents: Any) -> tuple[Array, Array]:
    product, scale, *values = primals
    of_product, of_scale, *of_values = tangents
    response = respond(curve, *primals)
    slope, factor, unit, *slopes = _derivative(
        curve, *(response, _wide(product), scale), *values
    )
    # d(product * scale)
    to_cos = scale * _wide(of_product) + factor * _over(of_scale * unit, product)
    change = slope * to_cos
    for to_value, of_value in zip(slopes, of_values, strict=True):
        change = change + to_value * _everywhere(of_value, response)
    return response, change.astype(product.dtype)


def _derivative(curve: Curve, *arrays: Array) -> tuple[Array, ...]:
    """The slope, the product as a factor and its unit per patch, the other slopes."""

    def by_product(response: Array, product: Array, scale: Array, *values: Array):
        slope, *slopes = curve.from_cosine(product * scale, *values)
        return slope, product, jnp.ones_like(scale), *slopes

    def by_response(response: Array, product: Array, scale: Array, *values: Array):
        slope, cos, *slopes = curve.from_response(response, *values)
        return slope, cos, 1 / scale, *slopes

    if arrays[0].dtype == jnp.float64:
        return by_product(*arrays)
    undone = dict.fromkeys(curve.undone_on, by_response)
    return lax.platform_dependent(*arrays, **undone, default=by_product)


def _wide(x: Array) -> Array:
    return x.astype(accumulation_dtype(x))


def _over(values: Array, product: Array) -> Array:
    """One number per patch for all its features, which its transpose adds up."""
    pairs = enumerate(zip(values.shape, product.shape, strict=True))
    axes = [axis for axis, (one, many) in pairs if one != many]
    if len(axes) == 1 and product.dtype == jnp.bfloat16:
        return spread(values, axes[0], product.shape[axes[0]])
    return jnp.broadcast_to(values, product.shape)


def _everywhere(value: Array, response: Array) -> Array:
    """A similarity's value for each response, which its transpose adds up."""
    full = jnp.broadcast_to(value, response.shape)
    if response.dtype == jnp.bfloat16:  # what is added up is stored, on a GPU
        rounded = lax.reduce_precision(full.astype(jnp.bfloat16), 8, 7)
        return rounded.astype(full.dtype)
    # A choice between two that are the same keeps XLA's CPU backend from summing
    # the gradient with a library call that wants its factors stored.
    return jnp.where(response != 0, full, full)


# Of x squared, the slope of (2 / pi) arcsin times 1 - x^2, and sin(pi x / 2) / x: as
# exact as half precision needs it (2e-4), and as float32 does (2e-7).
_SLOPE_HALF = (0.63671686, 0.14698389, 0.02674510)
_SINE_HALF = (1.57062639, -0.64322564, 0.07270743)
_SLOPE = (0.63661986, 0.14877386, 0.022093354, 0.0026528860, 4.2939854e-4)
_SINE = (1.57079632, -0.64596371, 0.079689679, -0.0046737666, 1.5148513e-4)
_NEAREST = 4 / math.pi / MAX_SLOPE  # 1 - x^2 where the slope is the largest


def _of_latitude(x: Array, *, is_half: bool) -> tuple[Array, Array]:
    """Of the linear response x, in float32: its slope to the cosine, and the cosine.

    A TPU computes this thrice, beside convolutions, and what is long is stored instead.
    So is what XLA takes for expensive: a division, but not a root.
    """
    square = x * x
    to_pole = jnp.maximum(1 - square, _NEAREST)
    slope = _series(square, _SLOPE_HALF if is_half else _SLOPE)
    sine = _series(square, _SINE_HALF if is_half else _SINE)
    return slope * lax.rsqrt(to_pole * to_pole), x * sine


def _series(x: Array, coefficients: tuple[float, ...]) -> Array:
    *lower, highest = coefficients
    sums = jnp.full_like(x, highest)
    for coefficient in lower[::-1]:
        sums = sums * x + coefficient
    return sums


def _is_half(x: Array) -> bool:
    return jnp.finfo(x.dtype).bits < 32


COSINE = Curve(
    response=lambda cos: jnp.clip(cos, -1, 1),
    from_cosine=lambda cos: (jnp.ones_like(cos),),
    from_response=lambda response: (jnp.ones_like(_wide(response)), _wide(response)),
)


def _linear_from_response(response: Array) -> tuple[Array, ...]:
    return _of_latitude(_wide(response), is_half=_is_half(response))


LINEAR = Curve(
    # pi / 2 times 2 / pi is one, in float32 and in float64.
    response=lambda cos: arcsin(cos) * (2 / math.pi),
    from_cosine=lambda cos: (inverse_sine_of(cos) * (2 / math.pi),),
    from_response=_linear_from_response,
)


def _squared_cosine_from_response(response: Array) -> tuple[Array, ...]:
    size = jnp.sqrt(jnp.abs(_wide(response)))
    return 2 * size, jnp.copysign(size, response)


SQUARED_COSINE = Curve(
    response=lambda cos: jnp.clip(cos * jnp.abs(cos), -1, 1),
    from_cosine=lambda cos: (2 * jnp.abs(cos),),
    from_response=_squared_cosine_from_response,
    undone_on=(),
)


# The value of the sigmoid is its hardness, 1 / k.


def _sigmoid_response(cos: Array, hardness: Array) -> Array:
    rate, top = s_curve_scales(hardness)
    return jnp.clip(jnp.tanh(arcsin(cos) * rate) * top, -1, 1)


def _sigmoid_slopes(
    curve: Array, latitude: Array, hardness: Array, *, unit: float
) -> tuple[Array, Array]:
    """Of the tanh and the latitude in units of so many radians: to both values."""
    rate, top = s_curve_scales(hardness)
    fall = (1 - curve) * (1 + curve)
    to_hardness = fall * latitude * (top * (unit / 2)) - curve * (
        (top * top - 1) * (math.pi / 4)
    )
    return fall * (top * rate * unit), to_hardness


def _sigmoid_from_cosine(cos: Array, hardness: Array) -> tuple[Array, ...]:
    latitude = arcsin(cos)
    curve = jnp.tanh(latitude * s_curve_scales(hardness)[0])
    to_latitude, to_hardness = _sigmoid_slopes(curve, latitude, hardness, unit=1.0)
    return to_latitude * inverse_sine_of(cos), to_hardness


def _inverse_tanh(x: Array, *, is_half: bool) -> Array:
    if not is_half:
        return jnp.arctanh(x)
    by_logs = lambda x: 0.5 * (jnp.log(1 + x) - jnp.log(1 - x))  # noqa: E731
    return lax.platform_dependent(x, tpu=by_logs, default=jnp.arctanh)


def _sigmoid_from_response(response: Array, hardness: Array) -> tuple[Array, ...]:
    is_half = _is_half(response)
    if is_half:
        # Softer is `Linear` to 2e-5, and the logarithms' difference drowns in rounding.
        hardness = jnp.maximum(hardness, 1e-2)
    rate, top = s_curve_scales(hardness)
    most = 1 - jnp.finfo(top.dtype).eps
    curve = _wide(response) * jnp.minimum(1 / top, most)
    linear = _inverse_tanh(curve, is_half=is_half) * (2 / math.pi / rate)
    slope, cos = _of_latitude(linear, is_half=is_half)
    to_linear, to_hardness = _sigmoid_slopes(curve, linear, hardness, unit=math.pi / 2)
    return to_linear * slope, cos, to_hardness


SIGMOID = Curve(
    response=_sigmoid_response,
    from_cosine=_sigmoid_from_cosine,
    from_response=_sigmoid_from_response,
    undone_on=("tpu", "cuda", "rocm"),
    is_stored=True,
)


def s_curve_scales(hardness: Array) -> tuple[Array, Array]:
    """What the latitude, and the hyperbolic tangent of it, are multiplied by."""
    rate = 0.5 * hardness
    pole = jnp.tanh(math.pi / 2 * rate)
    top = 1 / pole
    # Rounded up, so that the response to a cosine of one is one.
    return rate, jnp.where(pole * top < 1, top * (1 + jnp.finfo(top.dtype).eps), top)
