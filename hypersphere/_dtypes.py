"""Which dtype to compute in, also where JAX is told to promote none by itself."""

from typing import Any

import jax
import jax.numpy as jnp
from jax.typing import ArrayLike
from jaxtyping import Array


def common(*of: Any) -> Any:
    """The dtype that arrays or dtypes have in common, by JAX's usual rules."""
    with jax.numpy_dtype_promotion("standard"):
        return jnp.result_type(*of)


def widened(x: ArrayLike) -> Array:
    """In float32, or what is wider than that already."""
    return jnp.asarray(x, common(x, jnp.float32))
