"""Penalties on parameters."""

from collections.abc import Sequence

import jax
import jax.numpy as jnp
from flax import nnx

from hypersphere import nn, regularizers
from hypersphere.training.settings._config import OptimConfig


def check_penalty(model: nnx.Module, config: OptimConfig) -> None:
    """Raises if an L2 has no layer to act on.

    Args:
        model: The network or, from `nnx.eval_shape`, its shapes.
        config: Its `l2` is looked at.

    Raises:
        ValueError: If it is positive and the model has none of the layers.
    """
    if config.l2 and not _penalized(model)[1]:
        raise ValueError(
            f"`config.optim.l2={config.l2!r}` has no layer to act on: it is for "
            "`nnx.Conv`, `nnx.Linear`, `nn.AngularHead` and `nnx.BatchNorm`. Set it to "
            "0, and make it part of your loss or optimizer."
        )


def _penalized(model: nnx.Module) -> tuple[list[nnx.Param], Sequence[nnx.Module]]:
    """The filters that are directions, and the layers that have an L2."""
    directions = list(nn.directions(model).values())
    known = {id(kernel) for kernel in directions}
    plain = (nnx.Conv, nnx.Linear, nn.AngularHead, nnx.BatchNorm)
    others = [
        module
        for _, module in nnx.iter_modules(model)
        if isinstance(module, plain)
        and id(getattr(module, "kernel", None)) not in known
    ]
    return directions, others


def penalty(model: nnx.Module, config: OptimConfig) -> jax.Array:
    """Orthogonality of spherical filters; L2 of plain layers and batch norms.

    Args:
        model: The network, whose `nn.directions` are held apart. Every parameter of
            plain layers, batch normalizations and the head but its scale counts for L2.
        config: Its `orthogonality` and `l2` are the weights, dimensionless.

    Returns:
        A scalar to add to the loss, at least zero, float32.

    Example:
        >>> import jax.numpy as jnp
        >>> from flax import nnx
        >>> from hypersphere import recipes
        >>> from hypersphere.training.compute._penalty import penalty
        >>> model = nnx.Linear(2, 3, use_bias=False, rngs=nnx.Rngs(0))
        >>> model.kernel[...] = jnp.ones((2, 3))
        >>> print(penalty(model, recipes.Adam(l2=0.5)))
        3.0
    """
    directions, others = _penalized(model)
    total = jnp.zeros(())
    if config.orthogonality:
        for kernel in directions:
            apart = regularizers.orthogonality(kernel[...])
            total += config.orthogonality * apart
    if config.l2:
        kept = [
            m.kernel[...] if isinstance(m, nn.AngularHead) else nnx.state(m, nnx.Param)
            for m in others
        ]
        for leaf in jax.tree.leaves(kept):
            total += config.l2 * jnp.sum(jnp.square(leaf))
    return total
