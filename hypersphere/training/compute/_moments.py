"""What batch normalization divides by, from whole batches instead of averages."""

from collections.abc import Sequence
from typing import Any

import jax
import jax.numpy as jnp
from flax import nnx

from hypersphere.training.compute._parts import call_model

CALIBRATED = 10_000
"""Training images that `recalibrated` statistics are taken over, at most."""


def batch_norms(model: nnx.Module) -> list[Any]:
    """Every `nnx.BatchNorm` of a model, in the order of their paths."""
    return [m for _, m in nnx.iter_modules(model) if isinstance(m, nnx.BatchNorm)]


def moments(model: nnx.Module, images: jax.Array) -> list[jax.Array]:
    """Mean and mean square of what each batch normalization gets from a batch.

    The model, in evaluation mode, is asked with the statistics of the batch as in
    training; it is changed, and of no use after that.

    Args:
        model: The network.
        images: As it takes them.

    Returns:
        For each layer an array of shape (2, features).
    """
    layers = batch_norms(model)
    for layer in layers:
        layer.use_running_average, layer.momentum = False, 0.0
    call_model(model, images)
    pairs = [(layer.mean[...], layer.var[...]) for layer in layers]
    return [jnp.stack([mean, var + mean**2]) for mean, var in pairs]


def mean_of(batches: Sequence[Any]) -> Any:
    """The means of the moments of several batches, which weigh alike."""
    return jax.tree.map(lambda *x: sum(x) / len(x), *batches)


def put_moments(model: nnx.Module, means: list[jax.Array]) -> None:
    """Puts such means in place of running averages."""
    for layer, (mean, square) in zip(batch_norms(model), means, strict=True):
        layer.mean[...], layer.var[...] = mean, jnp.maximum(square - mean**2, 0)
