"""Roots made of products and sums only.

XLA does not repeat an operation that it counts as expensive, such as a root: on a CPU
it stores the result and keeps it for the backward pass, one array as large as the
layer's answer. These cost no more and are repeated where they are needed.
"""

import functools

import jax
import jax.numpy as jnp
from jax import lax
from jaxtyping import Array

# Subtracting half a float's bits from these negates and halves its exponent.
_MAGIC = 0x5F3759DF


@jax.custom_jvp
def inverse_root(x: Array) -> Array:
    """1 / sqrt(x) of positive x, off by at most 3e-7 of itself in float32.

    In float64, and on everything but a CPU, it is XLA's own.
    """
    if x.dtype == jnp.float64:
        return lax.rsqrt(x)
    of_cpu = functools.partial(_inverse_root, steps=3)
    return lax.platform_dependent(x, cpu=of_cpu, default=lax.rsqrt)


def _inverse_root(x: Array, *, steps: int) -> Array:
    """By Newton's method, which squares the error: 3e-2, 2e-3, 5e-6, rounding."""
    guess = _MAGIC - (lax.bitcast_convert_type(x, jnp.int32) >> 1)
    inverse = lax.bitcast_convert_type(guess, jnp.float32)
    for _ in range(steps):
        inverse = inverse * (1.5 - (0.5 * x) * inverse * inverse)
    return inverse


@jax.custom_jvp
def rsqrt(x: Array) -> Array:
    """XLA's own `inverse_root`, for small arrays, which are better stored."""
    return lax.rsqrt(x)


def _inverse_root_jvp(function, primals, tangents):
    inverse = function(*primals)
    # One factor at a time: the cube of a small root would be zero.
    return inverse, inverse * (inverse * (inverse * tangents[0])) * -0.5


inverse_root.defjvp(functools.partial(_inverse_root_jvp, inverse_root))
rsqrt.defjvp(functools.partial(_inverse_root_jvp, rsqrt))


def root(x: Array) -> Array:
    """sqrt(x) of x that is not negative, correctly rounded but for a few bits."""
    if x.dtype == jnp.float64:
        return jnp.sqrt(x)
    inverse = _inverse_root(x, steps=2)
    near = x * inverse
    return near + 0.5 * inverse * (x - near * near)  # what rounding left
