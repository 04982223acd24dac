"""From the names and numbers of a config to models and losses."""

import functools
from collections.abc import Callable
from typing import Any

import jax
import jax.numpy as jnp
import optax
from flax import nnx

from hypersphere import losses, models, nn, ops
from hypersphere.ops import magnitudes
from hypersphere.training import _optim
from hypersphere.training._config import (
    LossConfig,
    ModelConfig,
    OptimConfig,
    TrainConfig,
)
from hypersphere.training._parts import Images, LossFunction, Parts, Whole, checked
from hypersphere.training._schedules import make_schedule
from hypersphere.training._validate import choose

DTYPES = {"float32": jnp.float32, "bfloat16": jnp.bfloat16}


def complete(own: Parts, config: TrainConfig, images: Images) -> Whole:
    """All parts of a run: its own, and for the rest what the config names."""
    make: Any = functools.partial(
        make_model,
        config,
        image_shape=images.image_shape,
        num_classes=images.num_classes,
    )
    if own.make_model is not None:
        make = checked(own.make_model)
    optimizer, schedule = own.optimizer, own.schedule
    if optimizer is not None:
        _refuse_without_effect(config.optim)
    else:
        model = nnx.eval_shape(make)
        optimizer = _optim.make_optimizer(config.optim, config.steps, model)
        schedule = schedule or make_schedule(config.optim, config.steps)
    return Whole(
        make_model=make,
        loss=make_loss(config.loss) if own.loss is None else own.loss,
        optimizer=optimizer,
        schedule=schedule,
        evaluate=own.evaluate or functools.partial(accuracy, images.num_classes),
    )


def _refuse_without_effect(config: OptimConfig) -> None:
    """Raises where a field shapes the config's optimizer, which is not used."""
    default = OptimConfig()
    shaping = ("frozen", "rates", "clip_norm", "weight_decay", "decay")
    for name in (*shaping, "unit_norm_every"):
        if getattr(config, name) != getattr(default, name):
            raise ValueError(
                f"`config.optim.{name}={getattr(config, name)!r}` has no effect with "
                "an optimizer of your own in `Parts`: make it part of that one."
            )


def make_model(
    config: TrainConfig, *, image_shape: tuple[int, ...], num_classes: int
) -> models.Network:
    """The network of a config, for images of a shape, with fresh parameters."""
    if len(image_shape) != 3 or not num_classes:
        raise ValueError(
            f"`config.model.name={config.model.name!r}` needs images of height, width "
            f"and channels, and classes, got examples of shape {list(image_shape)} and "
            f"{num_classes} classes. Give a model of your own in `get_parts`."
        )
    *image_size, in_features = image_shape
    c = config.model
    make, own = _network(c)
    shared = dict(
        num_classes=num_classes,
        similarity=_layer_similarity(c),
        in_features=in_features,
        image_size=image_size,
        width=c.width,
        head="linear" if config.loss.name == "softmax" else "angular",
        norm=_norm(c),
        activation=jax.nn.relu if c.relu else None,
        sphere_norm=c.sphere_norm,
        magnitude=_magnitude(c),
        dropout=c.dropout,
        remat=c.remat,
        dtype=_dtype(c),
        rngs=nnx.Rngs(config.seed),
    )
    return make(**(shared | own))


def _network(c: ModelConfig) -> tuple[Callable[..., models.Network], dict[str, Any]]:
    """The class of a config's network, and the arguments that others do not have."""
    table = {
        "spherenet": (
            models.SphereNet,
            dict(
                depth=c.depth,
                feature_dim=c.feature_dim or None,
                norm_features=c.norm_features,
            ),
        ),
        "resnet": (
            models.ResNet,
            dict(depth=c.depth, shortcut=c.shortcut, pre_activation=c.pre_activation),
        ),
        "vgg": (models.VGG, dict(depth=c.depth)),
        "googlenet": (models.GoogLeNet, {}),
        "decoupled_resnet": (
            models.DecoupledResNet,
            dict(activation=models.PReLU if c.relu else None),
        ),
    }
    return choose("model.name", c.name, table)


def _norm(c: ModelConfig) -> Callable[..., nnx.Module] | None:
    if not c.batch_norm:
        return None
    averages: Any = c.averages  # any string: BatchNorm checks it
    return functools.partial(
        models.BatchNorm,
        averages=averages,
        momentum=c.momentum,
        epsilon=c.epsilon,
        dtype=_dtype(c),
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


def _magnitude(config: ModelConfig) -> Any:
    table = {
        "sphere": magnitudes.Sphere,
        "linear": magnitudes.Linear,
        "ball": magnitudes.Ball,
        "tanh": magnitudes.Tanh,
        "log": magnitudes.Log,
        "segment": magnitudes.Segment,
        "mix": magnitudes.Mix,
    }
    name = config.magnitude
    return choose("model.magnitude", name, table)() if name else None


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


def class_scores(outputs: Any) -> Any:
    """What is largest for the predicted class: scores, or an angular head's cosines."""
    return outputs[0] if isinstance(outputs, tuple) else outputs


def accuracy(num_classes: int, outputs: Any, labels: Any) -> dict[str, Any]:
    """Which examples are named right; nothing where there are no scores of classes."""
    scores = class_scores(outputs)
    if not num_classes or getattr(scores, "shape", ()) != (len(labels), num_classes):
        return {}
    return {"accuracy": jnp.argmax(scores, -1) == labels}
