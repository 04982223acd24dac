"""VGG: stacks of 3x3 convolutions, with the convolution a choice."""

from typing import Any

import jax.numpy as jnp
from flax import nnx
from jax import Array

from hypersphere.models._layers import (
    ConvLayer,
    Network,
    check_one_of,
    conv_stages,
)
from hypersphere.models._pool import halve

_COUNTS = {
    11: (1, 1, 2, 2, 2),
    13: (2, 2, 2, 2, 2),
    16: (2, 2, 3, 3, 3),
    19: (2, 2, 4, 4, 4),
}
_FILTERS = (64, 128, 256, 512, 512)
_FEATURES = 4096
_STRIDE = 32


class VGG(Network):
    """Simonyan and Zisserman's network, of any width and input size.

    Five blocks of convolutions 3x3 with 64, 128, 256, 512 and 512 filters, each
    followed by `norm` and `activation`; a max-pooling 2x2 after each block; two layers
    of 4096 features, which are convolutions of the grid that is left and of 1x1, with
    `activation` and dropout but without `norm`; and a head. No convolution has a bias.

    Args:
        depth: Layers with weights, the head among them: 11, 13, 16 or 19.
        rngs: Random keys for the parameters.
        choices: Every other argument of `SphereNet` but `feature_dim` and
            `norm_features`, with its meaning and default: num_classes, similarity,
            in_features, image_size (at least 32 pixels), width, head, norm,
            activation, sphere_norm, use_length, magnitude, dropout (the paper has 0.5),
            remat, dtype, param_dtype.

    Raises:
        TypeError: If `magnitude` or `activation` is not callable.
        ValueError: If an argument is out of its range, or the images of a call have
            another shape.

    Example:
        >>> import jax.numpy as jnp
        >>> from flax import nnx
        >>> from hypersphere import models
        >>> net = nnx.eval_shape(lambda: models.VGG(depth=11, rngs=nnx.Rngs(0)))
        >>> images = jnp.ones((2, 32, 32, 3))
        >>> nnx.eval_shape(lambda net: net.features(images), net).shape
        (2, 4096)

    References:
        Simonyan and Zisserman, Very Deep Convolutional Networks for Large-Scale Image
        Recognition, ICLR 2015, Table 1. https://arxiv.org/abs/1409.1556
        Differs: there is a normalization after each convolution, which the paper does
        not have, unless `norm=None`; there are no biases.
    """

    def __init__(self, *, depth: int = 16, rngs: nnx.Rngs, **choices: Any):
        shared = self._choose(rngs, **choices)
        check_one_of(shared.who, tuple(_COUNTS), depth=depth)
        self.image_shape = shared.image_shape(_STRIDE)
        *filters, features = shared.filters(*_FILTERS, _FEATURES)
        stages = conv_stages(filters, _COUNTS[depth], shared)
        self.stages = nnx.List(map(nnx.List, stages))
        dense = shared.but(norm=None)
        height, width, _ = self.image_shape
        grid = -(-height // _STRIDE), -(-width // _STRIDE)
        self.feature_layers = nnx.List(
            [
                ConvLayer(filters[-1], features, dense, window=grid, padding="VALID"),
                ConvLayer(features, features, dense, window=(1, 1)),
            ]
        )
        self._finish(shared, features)

    def _body(self, x: Array, rngs: nnx.Rngs | None) -> Array:
        for stage in self.stages:
            x = halve(self._run(stage, x))
        first, second = self.feature_layers
        x = second(self.dropout(first(x), rngs=rngs))
        return jnp.squeeze(x, axis=(1, 2))
