"""The training step that the benchmarks compile, and what it is compared over."""

from collections.abc import Callable
from typing import Any

import jax
import optax
from flax import nnx

from hypersphere import nn, ops

SIMILARITIES = {
    "plain": None,
    "cosine": ops.Cosine(),
    "linear": ops.Linear(),
    "sigmoid": ops.Sigmoid(),
    "learnable sigmoid": nn.LearnableSigmoid,
}


def make_step(model: nnx.Module) -> tuple[Callable[..., Any], tuple[Any, Any, Any]]:
    """One step (loss, gradient, momentum SGD, batch statistics), and what it changes.

    Of a model of shapes the state is of shapes too.
    """
    graphdef, params, rest = nnx.split(model, nnx.Param, ...)
    optimizer = optax.sgd(0.1, momentum=0.9)

    def step(params, momentum, rest, images, labels):
        def loss(params):
            model = nnx.merge(graphdef, params, rest, copy=True)
            entropy = optax.softmax_cross_entropy_with_integer_labels
            value = entropy(model(images), labels).mean()
            return value, nnx.state(model, nnx.Not(nnx.Param))

        (value, after), slopes = jax.value_and_grad(loss, has_aux=True)(params)
        updates, momentum = optimizer.update(slopes, momentum)
        return optax.apply_updates(params, updates), momentum, after, value

    is_abstract = isinstance(jax.tree.leaves(params)[0], jax.ShapeDtypeStruct)
    begin = jax.eval_shape if is_abstract else lambda f, *x: f(*x)
    return step, (params, begin(optimizer.init, params), rest)
