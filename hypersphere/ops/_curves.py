"""Similarities as curves: a response to cosines, whose derivative needs little.

A layer's backward pass would keep the dot products, the cosines, or something of the
angle, each as large as the answer and mostly in float32. But a similarity can be undone:
from the response alone follow the angle, the slope and the cosine. So `respond` keeps
its own result, in the dtype of the layer, which the next layer keeps anyway; and each
curve says what is cheaper on which machine.
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
        derivative: (response, cos, *values) -> the slope, the cosine, and the slope to
            each of the values.
        is_stored: Whether the response is rounded to its dtype at once, so that XLA
            stores it in that one instead of in float32.
    """

    response: Callable[..., Array]
    derivative: Callable[..., tuple[Array, ...]]
    is_stored: bool = False


@functools.partial(jax.custom_jvp, nondiff_argnums=(0,))
def respond(curve: Curve, product: Array, scale: Array, *values: Array) -> Array:
    """A curve's response to the cosines `product * scale`, in the dtype of `product`."""
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
    cos = _wide(product) * scale
    slope, cos, *slopes = curve.derivative(_wide(response), cos, *values)
    # d(product * scale), with the product as cosine over scale.
    to_cos = scale * _wide(of_product) + cos * _over(of_scale / scale, product)
    change = slope * to_cos
    for to_value, of_value in zip(slopes, of_values, strict=True):
        change = change + to_value * of_value
    return response, change.astype(product.dtype)


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


def _undone(
    from_response: Callable[..., tuple[Array, ...]],
    from_cosine: Callable[..., tuple[Array, ...]],
    *arrays: Array,
    **platforms: bool,
) -> tuple[Array, ...]:
    """One of two ways to the same, by the platform that is compiled for."""
    if arrays[0].dtype == jnp.float64:
        return from_cosine(*arrays)
    ways = {
        name: from_response if at else from_cosine for name, at in platforms.items()
    }
    return lax.platform_dependent(*arrays, **ways, default=from_cosine)


def _clip(cos: Array) -> Array:
    return jnp.clip(cos, -1, 1)


COSINE = Curve(_clip, lambda response, cos: (jnp.ones_like(cos), response))
SQUARED_COSINE = Curve(
    lambda cos: _clip(cos * jnp.abs(cos)),
    lambda response, cos: (2 * jnp.abs(cos), cos),
)


def _linear_derivative(response: Array, cos: Array) -> tuple[Array, ...]:
    def from_response(response: Array, cos: Array) -> tuple[Array, ...]:
        latitude = response * (math.pi / 2)
        return _inverse_cosine(latitude) * (2 / math.pi), sine(latitude)

    def from_cosine(response: Array, cos: Array) -> tuple[Array, ...]:
        return inverse_sine_of(cos) * (2 / math.pi), cos

    return _undone(from_response, from_cosine, response, cos, tpu=True)


# The product of pi / 2 and 2 / pi is one, in float32 and in float64.
LINEAR = Curve(lambda cos: arcsin(cos) * (2 / math.pi), _linear_derivative)


def _sigmoid_response(cos: Array, k: Array) -> Array:
    rate, top = s_curve_scales(k)
    return _clip(jnp.tanh(arcsin(cos) * rate) * top)


def _sigmoid_derivative(response: Array, cos: Array, k: Array) -> tuple[Array, ...]:
    rate, top = s_curve_scales(k)
    most = 1 - jnp.finfo(response.dtype).eps
    steepness = jnp.clip(response / top, -most, most)  # the hyperbolic tangent
    rise = top * (1 - steepness) * (1 + steepness)

    def from_response(response: Array, cos: Array) -> tuple[Array, ...]:
        latitude = jnp.arctanh(steepness) / rate
        latitude = jnp.clip(latitude, -math.pi / 2, math.pi / 2)
        return latitude, _inverse_cosine(latitude), sine(latitude)

    def from_cosine(response: Array, cos: Array) -> tuple[Array, ...]:
        return arcsin(cos), inverse_sine_of(cos), cos

    latitude, inverse_sine, cos = _undone(
        from_response, from_cosine, response, cos, tpu=True, cuda=True, rocm=True
    )
    to_k = steepness * ((top * top - 1) * (math.pi / 4)) - rise * latitude * 0.5
    # A choice between two that are the same keeps XLA's CPU backend from summing the
    # gradient to k with a library call that wants its factors stored.
    to_k = jnp.where(cos != 0, to_k, to_k) / k**2
    return rise * rate * inverse_sine, cos, to_k


SIGMOID = Curve(_sigmoid_response, _sigmoid_derivative, is_stored=True)


def s_curve_scales(k: Array) -> tuple[Array, Array]:
    """What the latitude, and the hyperbolic tangent of it, are multiplied by."""
    rate = 0.5 / k
    pole = jnp.tanh(math.pi / 2 * rate)
    top = 1 / pole
    # Rounded up, so that the response to a cosine of one is one.
    return rate, jnp.where(pole * top < 1, top * (1 + jnp.finfo(top.dtype).eps), top)
