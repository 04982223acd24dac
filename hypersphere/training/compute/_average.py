"""The average of weights that a run keeps."""

from typing import Any

import jax
import jax.numpy as jnp


def moving_average(ema: Any, new: Any, step: Any, *, decay: float) -> Any:
    """The exponential moving average of weights, with the newest ones in it.

    It keeps the share `min(decay, (1 + step) / (10 + step))`, so that the average of
    the first steps is not that of the fresh weights.

    Args:
        ema: The average so far, a tree of arrays.
        new: The weights after an update, a tree of the same shapes and dtypes.
        step: Updates made before this one, a scalar, at least 0.
        decay: Share of the average that is kept at most, in [0, 1).

    Returns:
        A tree with the dtypes of `ema`. What is not floating point is that of `new`.

    Example:
        >>> import jax.numpy as jnp
        >>> from hypersphere.training.compute._average import moving_average
        >>> old, new = {"w": jnp.array(1.0)}, {"w": jnp.array(2.0)}
        >>> print(*(moving_average(old, new, s, decay=0.75)["w"] for s in (0, 8, 99)))
        1.9 1.5 1.25
    """
    share = 1 - jnp.minimum(decay, (1 + step) / (10 + step))

    def blended(old: jax.Array, now: jax.Array) -> jax.Array:
        if not jnp.issubdtype(now.dtype, jnp.inexact):
            return now
        # As a difference, which leaves weights that do not change as they are.
        return (old + share * (now - old)).astype(old.dtype)

    return jax.tree.map(blended, ema, new)
