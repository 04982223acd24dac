"""Pooling for answers with a sign."""

from collections.abc import Sequence

import jax.numpy as jnp
import numpy as np
from jax import lax
from jaxtyping import Array, Float

from hypersphere._checks import check_floating
from hypersphere.ops._patch import Padding


def max_abs_pool(
    inputs: Float[Array, "batch *spatial features"],
    window_shape: Sequence[int],
    strides: Sequence[int] | None = None,
    padding: Padding = "VALID",
) -> Float[Array, "batch *out_spatial features"]:
    """The entry of each window that is largest in size, with its sign.

    Called like `nnx.max_pool`, on one batch axis.

    Args:
        inputs: Channels-last input with one to three spatial axes.
        window_shape: The window, one entry per spatial axis.
        strides: Steps of the window, in pixels; by default 1.
        padding: "SAME", "VALID", or a (low, high) pair per spatial axis. What is added
            is never chosen.

    Returns:
        Entries of `inputs`, of two equally large ones the positive one.

    Raises:
        TypeError: If `inputs` is not real floating point.
        ValueError: If the window does not fit the spatial axes.

    Example:
        >>> import jax.numpy as jnp
        >>> from hypersphere import ops
        >>> x = jnp.array([0.5, -0.9, 0.1, 0.2]).reshape(1, 4, 1)
        >>> print(ops.max_abs_pool(x, (2,), strides=(2,)).ravel())
        [-0.9  0.2]

    References:
        Pisoni, Sharpened cosine similarity.
        https://github.com/brohrer/sharpened-cosine-similarity
    """
    check_floating("max_abs_pool", inputs=inputs)
    rank = inputs.ndim - 2
    steps = tuple(strides or (1,) * rank)
    if rank < 1 or len(window_shape) != rank or len(steps) != rank:
        raise ValueError(
            "`max_abs_pool` needs inputs (batch, *spatial, features) and one entry of "
            "`window_shape` and `strides` per spatial axis, got "
            f"`inputs.shape={inputs.shape}`, `window_shape={tuple(window_shape)}` and "
            f"`strides={strides}`."
        )
    pairs = padding if isinstance(padding, str) else ((0, 0), *padding, (0, 0))

    def largest(values: Array) -> Array:
        return lax.reduce_window(
            values,
            np.array(-np.inf, values.dtype),
            lax.max,
            (1, *window_shape, 1),
            (1, *steps, 1),
            pairs,
        )

    top, bottom = largest(inputs), largest(-inputs)
    return jnp.where(top >= bottom, top, -bottom)
