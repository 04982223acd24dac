"""Penalties that keep the filters of a layer apart."""

import jax.numpy as jnp
from jaxtyping import Array, Float

from hypersphere._checks import check_floating
from hypersphere._dtypes import widened


def orthogonality(
    kernel: Float[Array, "*window in_features filters"],
) -> Float[Array, ""]:
    """How far the filters are from orthonormal: `sum((W.T @ W - I)**2)`.

    Args:
        kernel: One filter along each entry of the last axis; W is the kernel reshaped
            to (fan_in, filters). Lengths count: the penalty pulls them to one.

    Returns:
        A number in the kernel's units to the fourth power, at least zero, in at least
        float32. With more filters than fan_in it is at least `filters - fan_in`.

    Raises:
        TypeError: If `kernel` is not real floating point.
        ValueError: If `kernel` has fewer than two axes.

    Example:
        >>> import jax.numpy as jnp
        >>> from hypersphere import regularizers
        >>> print(regularizers.orthogonality(jnp.array([[1.0, 1.0], [0.0, 1.0]])))
        3.0

    References:
        Liu et al., Deep Hyperspherical Learning, NIPS 2017 The authors
        weigh it by 1e-4. https://arxiv.org/abs/1711.03189
    """
    check_floating("orthogonality", kernel=kernel)
    if kernel.ndim < 2:
        raise ValueError(
            "`orthogonality` needs `kernel.ndim >= 2`, filters on the last axis, got "
            f"`kernel.shape={kernel.shape}`."
        )
    wide = widened(kernel)
    filters = jnp.reshape(wide, (-1, kernel.shape[-1]))
    products = jnp.matmul(filters.T, filters, precision="highest")
    excess = products - jnp.eye(kernel.shape[-1], dtype=wide.dtype)
    return jnp.sum(jnp.square(excess))
