"""How far a step turns filters."""

from typing import Any

import jax
import jax.numpy as jnp
from jaxtyping import Array

from hypersphere import ops
from hypersphere._dtypes import widened
from hypersphere.optim._spheres import Axis, direction, filter_axes


def effective_learning_rate(params: Any, updates: Any, *, axis: Axis = None) -> Any:
    """The mean angle that filters turn by in a step, for each parameter.

    Where the length of a filter does not count it is the only thing that a step does.

    Args:
        params: Before the step.
        updates: What is added to them.
        axis: The axes along which a filter lies; None for all but the last.

    Returns:
        A tree like `params` of float32 numbers, radians in [0, pi]; 0 for parameters
        without filters.

    Example:
        >>> import jax.numpy as jnp
        >>> from hypersphere import optim
        >>> params = {"kernel": jnp.array([[1.0, 0.0], [0.0, 2.0]])}
        >>> updates = {"kernel": jnp.array([[0.0, 2.0], [1.0, 0.0]])}
        >>> optim.effective_learning_rate(params, updates)["kernel"].round(3)
        Array(0.785, dtype=float32)

    References:
        van Laarhoven, L2 Regularization versus Batch and Weight Normalization, 2017.
        https://arxiv.org/abs/1706.05350
    """

    def angle(param: Array, update: Array) -> Array:
        axes = filter_axes(param, axis)
        if not axes:
            return jnp.zeros(())
        after = widened(param) + widened(update)
        ends = (direction(x, axes) for x in (param, after))
        turned = ops.geodesic_distance(*ends, axis=axes)
        return jnp.mean(turned).astype(jnp.float32)

    return jax.tree.map(angle, params, updates)
