"""From the names and numbers of a config to models, losses and optimizers."""

import functools
from collections.abc import Callable
from typing import Any

import jax
import jax.numpy as jnp
import optax
from flax import nnx

from hypersphere import losses, models, nn, ops, regularizers
from hypersphere.training._config import (
    LossConfig,
    ModelConfig,
    OptimConfig,
    TrainConfig,
    choose,
)

DTYPES = {"float32": jnp.float32, "bfloat16": jnp.bfloat16}
LossFunction = Callable[[Any, jax.Array, jax.Array], jax.Array]


def make_model(
    config: TrainConfig, *, image_shape: tuple[int, int, int], num_classes: int
) -> models.SphereNet:
    """The network of a config, for images of a shape, with fresh parameters."""
    *image_size, in_features = image_shape
    c = config.model
    averages: Any = c.averages  # any string: BatchNorm checks it
    norm = functools.partial(
        models.BatchNorm,
        averages=averages,
        momentum=c.momentum,
        epsilon=c.epsilon,
        dtype=_dtype(c),
    )
    return models.SphereNet(
        depth=c.depth,
        num_classes=num_classes,
        similarity=_layer_similarity(c),
        in_features=in_features,
        image_size=image_size,
        width=c.width,
        head="linear" if config.loss.name == "softmax" else "angular",
        feature_dim=c.feature_dim or None,
        norm=norm if c.batch_norm else None,
        norm_features=c.norm_features,
        activation=jax.nn.relu if c.relu else None,
        sphere_norm=c.sphere_norm,
        dtype=_dtype(c),
        rngs=nnx.Rngs(config.seed),
    )


def _dtype(config: ModelConfig) -> Any:
    return choose("model.dtype", config.dtype, DTYPES)


def _layer_similarity(config: ModelConfig) -> Any:
    table = {
        "none": lambda: None,
        "cosine": ops.Cosine,
        "linear": ops.Linear,
        "sigmoid": lambda: ops.Sigmoid(config.k),
        "learnable_sigmoid": lambda: nn.LearnableSigmoid,
    }
    return choose("model.similarity", config.similarity, table)()


def make_loss(config: LossConfig) -> LossFunction:
    """A function (what the model returned, labels, step) -> one loss per example."""
    similarities = {
        "cosine": ops.Cosine,
        "linear": ops.Linear,
        "sigmoid": lambda: ops.Sigmoid(config.k),
    }

    def similarity(default: str) -> ops.Similarity:
        name = config.similarity or default
        return choose("loss.similarity", name, similarities)()

    weight = optax.constant_schedule(1.0)
    if config.anneal:
        weight = losses.annealed_margin_weight(
            base=config.anneal_base,
            gamma=config.anneal_gamma,
            power=config.anneal_power,
            lambda_min=config.anneal_min,
        )

    def softmax(outputs, labels, step):
        del step
        return losses.softmax(
            outputs, labels, label_smoothing=config.label_smoothing, floor=config.floor
        )

    def w_softmax(outputs, labels, step, g):
        del step
        cos, feature_norm = outputs
        if config.label_smoothing or config.floor:
            return softmax(feature_norm * g(cos), labels, 0)
        return losses.w_softmax(cos, labels, feature_norm=feature_norm, similarity=g)

    def ga_softmax(outputs, labels, step, g):
        cos, feature_norm = outputs
        return losses.ga_softmax(
            cos,
            labels,
            feature_norm=feature_norm,
            margin=config.margin,
            similarity=g,
            margin_weight=weight(step),
        )

    table = {
        "softmax": lambda: softmax,
        "w_softmax": lambda: functools.partial(w_softmax, g=similarity("cosine")),
        "ga_softmax": lambda: functools.partial(ga_softmax, g=similarity("linear")),
        "a_softmax": lambda: functools.partial(ga_softmax, g=ops.Cosine()),
    }
    return choose("loss.name", config.name, table)()


def class_scores(outputs: Any) -> jax.Array:
    """What is largest for the predicted class: scores, or an angular head's cosines."""
    return outputs[0] if isinstance(outputs, tuple) else outputs


def make_schedule(config: OptimConfig, steps: int) -> optax.Schedule:
    """The learning rate of each step."""
    rate = config.learning_rate
    after = steps - config.warmup_steps
    table = {
        "constant": lambda: optax.constant_schedule(rate),
        "piecewise": lambda: optax.piecewise_constant_schedule(
            rate, {b - config.warmup_steps: config.factor for b in config.boundaries}
        ),
        "cosine": lambda: optax.cosine_decay_schedule(rate, after),
    }
    schedule = choose("optim.schedule", config.schedule, table)()
    if config.warmup_steps == 0:
        return schedule
    warmup = optax.linear_schedule(0.0, rate, config.warmup_steps)
    return optax.join_schedules([warmup, schedule], [config.warmup_steps])


def make_optimizer(
    config: OptimConfig, schedule: optax.Schedule
) -> optax.GradientTransformation:
    """The optimizer, without the penalties, which are part of the loss."""
    table = {
        "adam": lambda: optax.adam(schedule),
        "sgd": lambda: optax.sgd(
            schedule, momentum=config.momentum, nesterov=config.nesterov
        ),
    }
    return choose("optim.name", config.name, table)()


def penalty(model: nnx.Module, config: OptimConfig) -> jax.Array:
    """Orthogonality of spherical filters; L2 of plain layers and batch norms."""
    spherical = (nn.SphereConv, nn.SphereLinear)
    plain = (nnx.Conv, nnx.Linear, nn.AngularHead, nnx.BatchNorm)
    modules = [module for _, module in nnx.iter_modules(model)]
    wrapped = [m.layer for m in modules if isinstance(m, nn.SphereNorm)]
    directions = wrapped + [m for m in modules if isinstance(m, spherical)]
    known = {id(module) for module in directions}
    others = [m for m in modules if isinstance(m, plain) and id(m) not in known]
    total = jnp.zeros(())
    if config.orthogonality:
        for module in directions:
            total += config.orthogonality * regularizers.orthogonality(
                module.kernel[...]
            )
    if config.l2:
        for module in others:
            for leaf in jax.tree.leaves(nnx.state(module, nnx.Param)):
                total += config.l2 * jnp.sum(jnp.square(leaf))
    return total
