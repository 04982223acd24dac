"""Where filters are on their spheres, what moves them, and how far a step does."""

import functools
from collections.abc import Collection
from typing import Any

import jax
import optax

from hypersphere import optim
from hypersphere._select import dotted
from hypersphere.training.compute._penalty import PENALTIES
from hypersphere.training.machine import _mesh

_MOST = 16_384  # filters whose energy is computed at every step


def geometry(
    params: Any, gradients: Any, updates: Any, after: Any
) -> dict[str, jax.Array]:
    """The angle that filters turn by, their energy and gradient, of each kernel.

    Args:
        params: Before the step.
        gradients: Of the loss with all penalties, as the optimizer gets them.
        updates: What is added to the parameters.
        after: After it; may hold more filters than took part.

    Returns:
        `turn/PATH`, radians in [0, pi], the mean over filters; `gradient/PATH`, the
        norm of the whole; `energy/PATH`, the mean inverse distance of two filters, at
        least 0.5, without those of more than 16,384 filters, or of a single one.

    Example:
        >>> import jax.numpy as jnp
        >>> from hypersphere.training.compute._geometry import geometry
        >>> params = {"conv": {"kernel": jnp.eye(2)}}
        >>> updates = {"conv": {"kernel": jnp.eye(2)[::-1]}}
        >>> found = geometry(params, updates, updates, params)
        >>> for name, value in found.items():
        ...     print(name, value.round(3))
        turn/conv.kernel 0.785
        gradient/conv.kernel 1.414
        energy/conv.kernel 0.707
    """
    turns = _kernels(optim.effective_learning_rate(params, updates), params)
    found = {f"turn/{path}": turn for path, turn in turns.items()}
    for path, gradient in _kernels(gradients, params).items():
        found[f"gradient/{path}"] = optax.tree.norm(gradient)
    for path, kernel in _kernels(after, after).items():
        count = kernel.shape[-1]
        if 1 < count <= _MOST:
            found[f"energy/{path}"] = PENALTIES["energy"](kernel)
    return found


@functools.partial(jax.jit, static_argnames="paths")
def back_on_spheres(average: Any, params: Any, *, paths: Collection[str]) -> Any:
    """Averaged filters, as long as those that were averaged.

    The mean of points on a sphere lies inside of it.

    Args:
        average: Averaged parameters.
        params: The newest ones.
        paths: Of the parameters that are filters on spheres; hashable.
    """

    def back(keys: Any, mean: jax.Array, newest: jax.Array) -> jax.Array:
        if dotted(_mesh.names(keys)) not in paths:
            return mean
        return optim.with_lengths_of(mean, newest)

    return jax.tree_util.tree_map_with_path(back, average, params)


def _kernels(values: Any, params: Any) -> dict[str, Any]:
    """Path -> what a tree has in the place of each parameter with filters."""
    leaves = jax.tree_util.tree_leaves_with_path(params)
    pairs = zip(leaves, jax.tree.leaves(values), strict=True)
    return {dotted(_mesh.names(k)): value for (k, x), value in pairs if x.ndim > 1}
