"""A residual network written in Flax Linen, trained as it is.

    python train.py --config=examples/linen_resnet.py --workdir=runs/linen

`nnx.bridge.ToNNX` makes an NNX module of it; what this file adds is the word `train`.
"""

from typing import Any

import flax.linen
import jax
import jax.numpy as jnp
import optax
from flax import nnx

from hypersphere import linen, training


class ResNet(flax.linen.Module):
    """Spherical convolutions in units with a shortcut around each."""

    num_classes: int
    filters: int = 16
    units: int = 3

    @flax.linen.compact
    def __call__(self, x: jax.Array, train: bool) -> jax.Array:
        def normalized(x: jax.Array) -> jax.Array:
            return flax.linen.BatchNorm(use_running_average=not train, momentum=0.9)(x)

        x = flax.linen.Conv(self.filters, (3, 3), strides=2)(x)
        for _ in range(self.units):
            y = linen.SphereConv(self.filters, (3, 3), use_bias=False)(x)
            y = flax.linen.relu(normalized(y))
            y = linen.SphereConv(self.filters, (3, 3), use_bias=False)(y)
            x = flax.linen.relu(x + normalized(y))
        return flax.linen.Dense(self.num_classes)(x.mean((1, 2)))


class Bridged(nnx.Module):
    """The Linen module, told whether it is trained."""

    def __init__(self, module: flax.linen.Module, images: Any, *, rngs: nnx.Rngs):
        self.net = nnx.bridge.ToNNX(module, rngs=rngs)
        self.deterministic = False  # which `train()` and `eval()` of a module set
        nnx.bridge.lazy_init(self.net, images, train=False)

    def __call__(self, images: jax.Array) -> jax.Array:
        if self.deterministic:
            return self.net(images, train=False)
        return self.net(images, train=True, mutable=["batch_stats"])


def get_config() -> training.TrainConfig:
    config = training.TrainConfig(steps=400, batch_size=64, eval_batch_size=250)
    config.log_every, config.eval_every, config.checkpoint_every = 50, 200, 200
    return config


def get_parts(config: training.TrainConfig, images: training.Images) -> training.Parts:
    def make_model() -> nnx.Module:
        module = ResNet(images.num_classes)
        one = jnp.zeros((1, *images.image_shape))
        return Bridged(module, one, rngs=nnx.Rngs(config.seed))

    schedule = optax.cosine_decay_schedule(0.05, int(config.steps))
    return training.Parts(
        make_model=make_model,
        optimizer=optax.sgd(schedule, momentum=0.9, nesterov=True),
        schedule=schedule,
    )
