"""Penalties on parameters, and which of them are filters on a sphere."""

from typing import Any

import jax
import jax.numpy as jnp
from flax import nnx

from hypersphere import nn, regularizers
from hypersphere._select import dotted
from hypersphere.training._config import OptimConfig


def spherical_paths(model: nnx.Module) -> frozenset[str]:
    """The kernels of filters whose length does not change what the model answers.

    They belong to `nn.SphereConv`, `nn.SphereLinear`, `nn.SphereConvTranspose`, an
    `nn.DecoupledConv` that is not weighted, and the layer inside `nn.SphereNorm`; one
    filter lies along each entry of a kernel's last axis. A transposed kernel, of which
    this is not so, is left out, and so is a head: its class centres are no filters.

    Args:
        model: Any NNX module or, from `nnx.eval_shape`, its shapes.

    Returns:
        Dotted paths in `nnx.state(model, nnx.Param)`.

    Example:
        >>> from flax import nnx
        >>> from hypersphere import nn
        >>> from hypersphere.training._penalty import spherical_paths
        >>> rngs = nnx.Rngs(0)
        >>> layers = nn.SphereLinear(4, 3, rngs=rngs), nnx.Linear(3, 2, rngs=rngs)
        >>> sorted(spherical_paths(nnx.Sequential(*layers)))
        ['layers.0.kernel']
    """
    kernels = {id(layer.kernel) for layer in _spherical_layers(model)}
    nodes = nnx.iter_graph(model)
    return frozenset(dotted(path) for path, node in nodes if id(node) in kernels)


def _spherical_layers(model: nnx.Module) -> list[Any]:
    modules = [module for _, module in nnx.iter_modules(model)]
    wrapped = [m.layer for m in modules if isinstance(m, nn.SphereNorm)]
    return wrapped + [module for module in modules if _is_spherical(module)]


def _is_spherical(module: nnx.Module) -> bool:
    if isinstance(module, nn.DecoupledConv):
        return not module.weighted
    if isinstance(module, nn.SphereConvTranspose):
        return not module.transpose_kernel
    return isinstance(module, nn.SphereLinear)


def penalty(model: nnx.Module, config: OptimConfig) -> jax.Array:
    """Orthogonality of spherical filters; L2 of plain layers and batch norms.

    Args:
        model: The network, whose `spherical_paths` are held apart. Every parameter of
            plain layers, the head and batch normalizations counts for L2.
        config: Its `orthogonality` and `l2` are the weights, dimensionless.

    Returns:
        A scalar to add to the loss, at least zero, float32.

    Example:
        >>> import jax.numpy as jnp
        >>> from flax import nnx
        >>> from hypersphere.training._config import OptimConfig
        >>> from hypersphere.training._penalty import penalty
        >>> model = nnx.Linear(2, 3, use_bias=False, rngs=nnx.Rngs(0))
        >>> model.kernel[...] = jnp.ones((2, 3))
        >>> print(penalty(model, OptimConfig(l2=0.5)))
        3.0
    """
    directions = _spherical_layers(model)
    known = {id(layer) for layer in directions}
    plain = (nnx.Conv, nnx.Linear, nn.AngularHead, nnx.BatchNorm)
    others = [
        module
        for _, module in nnx.iter_modules(model)
        if isinstance(module, plain) and id(module) not in known
    ]
    total = jnp.zeros(())
    if config.orthogonality:
        for layer in directions:
            apart = regularizers.orthogonality(layer.kernel[...])
            total += config.orthogonality * apart
    if config.l2:
        for leaf in jax.tree.leaves([nnx.state(m, nnx.Param) for m in others]):
            total += config.l2 * jnp.sum(jnp.square(leaf))
    return total
