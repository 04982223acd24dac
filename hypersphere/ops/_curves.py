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
    sine,
)
from hypersphere.ops._sums import spread


class Curve(NamedTuple):
    """A similarity's formulas.

    Attributes:
        response: (cos, *values) -> the response; `cos` may be rounded past one.
        from_cosine: (cos, *values) -> the slope, and those to each of the values.
        from_response: (response, *values) -> the slope, the cosine, and the slopes to
            each of the values.
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
        curve, *(_wide(response), _wide(product), scale), *values
    )
    # d(product * scale)
    to_cos = scale * _wide(of_product) + factor * _over(of_scale * unit, product)
    change = slope * to_cos
    for to_value, of_value in zip(slopes, of_values, strict=True):
        of_value = jnp.broadcast_to(of_value, change.shape)
        # A choice between two that are the same keeps XLA's CPU backend from summing
        # the gradient with a library call that wants its factors stored.
        change = change + to_value * jnp.where(response != 0, of_value, of_value)
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


def _inverse_cosine(latitude: Array) -> Array:
    """One over the cosine of a latitude, in radians, at most `MAX_SLOPE`."""
    return 1 / jnp.maximum(sine(math.pi / 2 - jnp.abs(latitude)), 1 / MAX_SLOPE)


COSINE = Curve(
    response=lambda cos: jnp.clip(cos, -1, 1),
    from_cosine=lambda cos: (jnp.ones_like(cos),),
    from_response=lambda response: (jnp.ones_like(response), response),
)


def _linear_from_response(response: Array) -> tuple[Array, ...]:
    latitude = response * (math.pi / 2)
    return _inverse_cosine(latitude) * (2 / math.pi), sine(latitude)


LINEAR = Curve(
    # pi / 2 times 2 / pi is one, in float32 and in float64.
    response=lambda cos: arcsin(cos) * (2 / math.pi),
    from_cosine=lambda cos: (inverse_sine_of(cos) * (2 / math.pi),),
    from_response=_linear_from_response,
)


def _squared_cosine_from_response(response: Array) -> tuple[Array, ...]:
    size = jnp.sqrt(jnp.abs(response))
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
    curve: Array, latitude: Array, inverse_sine: Array, hardness: Array
) -> tuple[Array, Array]:
    rate, top = s_curve_scales(hardness)
    rise = top * (1 - curve) * (1 + curve)
    to_hardness = rise * latitude * 0.5 - curve * ((top * top - 1) * (math.pi / 4))
    return rise * rate * inverse_sine, to_hardness


def _sigmoid_from_cosine(cos: Array, hardness: Array) -> tuple[Array, ...]:
    latitude = arcsin(cos)
    curve = jnp.tanh(latitude * s_curve_scales(hardness)[0])
    return _sigmoid_slopes(curve, latitude, inverse_sine_of(cos), hardness)


def _sigmoid_from_response(response: Array, hardness: Array) -> tuple[Array, ...]:
    rate, top = s_curve_scales(hardness)
    most = 1 - jnp.finfo(response.dtype).eps
    curve = jnp.clip(response / top, -most, most)
    latitude = jnp.arctanh(curve) / rate
    latitude = jnp.clip(latitude, -math.pi / 2, math.pi / 2)
    slope, to_hardness = _sigmoid_slopes(
        curve, latitude, _inverse_cosine(latitude), hardness
    )
    return slope, sine(latitude), to_hardness


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
