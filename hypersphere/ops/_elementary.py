"""Roots and tanh made of products and sums only.

XLA does not repeat an operation that it counts as expensive, a root, a division or a
tanh: on a CPU it stores the result and keeps it for the backward pass, one array as
large as the layer's answer. These cost as much and are repeated where they are needed.
"""

import jax
import jax.numpy as jnp
from jax import lax
from jaxtyping import Array

# Half of all bits of a float set the exponent of its inverse root.
_MAGIC = 0x5F3759DF


@jax.custom_jvp
def inverse_root(x: Array) -> Array:
    """1 / sqrt(x) of positive x, off by at most 3e-7 of itself in float32.

    In float64 it is XLA's own.
    """
    if x.dtype == jnp.float64:
        return lax.rsqrt(x)
    guess = _MAGIC - (lax.bitcast_convert_type(x, jnp.int32) >> 1)
    root = lax.bitcast_convert_type(guess, jnp.float32)
    for _ in range(3):  # Newton's method
        root = root * (1.5 - (0.5 * x) * root * root)
    return root


@inverse_root.defjvp
def _inverse_root_jvp(primals, tangents):
    root = inverse_root(*primals)
    # One factor at a time: the cube of a small root would be zero.
    return root, root * (root * (root * tangents[0])) * -0.5


def root(x: Array) -> Array:
    """sqrt(x) of x that is not negative, correctly rounded but for a few bits."""
    inverse = inverse_root(x)
    near = x * inverse
    return near + 0.5 * inverse * (x - near * near)  # what rounding left


@jax.custom_jvp
def tanh(x: Array) -> Array:
    """The hyperbolic tangent, off by at most 3e-7 in float32."""
    if x.dtype == jnp.float64:
        return jnp.tanh(x)
    x = jnp.clip(x, -_SATURATION, _SATURATION)
    square = x * x
    top, bottom = x * _polynomial(_TOP, square), _polynomial(_BOTTOM, square)
    inverse = jnp.square(inverse_root(bottom))
    ratio = top * inverse
    ratio = ratio + inverse * (top - ratio * bottom)  # what rounding left
    return jnp.clip(ratio, -1, 1)


@tanh.defjvp
def _tanh_jvp(primals, tangents):
    answer = tanh(*primals)
    return answer, (1 - answer) * (1 + answer) * tangents[0]


# The rational approximation of Eigen's `ptanh`, odd, of degrees 13 and 6.
_SATURATION = 7.90531110763549805
_TOP = (
    -2.76076847742355e-16,
    2.00018790482477e-13,
    -8.60467152213735e-11,
    5.12229709037114e-08,
    1.48572235717979e-05,
    6.37261928875436e-04,
    4.89352455891786e-03,
)
_BOTTOM = (
    1.19825839466702e-06,
    1.18534705686654e-04,
    2.26843463243900e-03,
    4.89352518554385e-03,
)


def _polynomial(coefficients: tuple[float, ...], x: Array) -> Array:
    """By Horner's rule, the highest power first."""
    value = jnp.full_like(x, coefficients[0])
    for coefficient in coefficients[1:]:
        value = value * x + coefficient
    return value
