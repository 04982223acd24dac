"""Running averages that count from the first value on."""

import math

import jax.numpy as jnp
from jaxtyping import Array, Float, Int


def fullness(count: Int[Array, ""], momentum: float) -> Float[Array, ""]:
    """How much of a running average is made of values: 1 - momentum^count."""
    # In float32, 1 - momentum**count would keep three digits of 0.001.
    return -jnp.expm1(count * math.log(max(momentum, 1e-30)))
