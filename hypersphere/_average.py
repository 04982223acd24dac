"""Running averages that count from the first value on."""

import math

import jax
import jax.numpy as jnp
from jaxtyping import Array, Float, Int


def fullness(count: Int[Array, ""], momentum: float) -> Float[Array, ""]:
    """How much of a running average is made of values: 1 - momentum^count."""
    # In float32, 1 - momentum**count would keep three digits of 0.001.
    return -jnp.expm1(count.astype(float) * math.log(max(momentum, 1e-30)))


def debiased(
    average: Float[Array, ""],
    count: Int[Array, ""],
    value: Float[Array, ""],
    momentum: float,
) -> tuple[Float[Array, ""], Int[Array, ""]]:
    """The average of one value more, divided by how full it is, and the new count."""
    count = count + 1
    # At momentum one, its limit: all values so far count the same.
    full = fullness(count, momentum)
    share = 1 / count if momentum == 1 else (1 - momentum) / full
    value = jax.lax.stop_gradient(value).astype(average.dtype)
    return average + share * (value - average), count
