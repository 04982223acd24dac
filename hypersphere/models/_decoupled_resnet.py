"""DecoupledResNet: the ImageNet network of Decoupled Networks."""

from typing import Any

from flax import nnx
from jax import Array

from hypersphere import ops
from hypersphere.models._layers import (
    Activation,
    Choices,
    ConvLayer,
    Network,
    ResidualUnit,
)
from hypersphere.models._pool import max_pool_3x3, mean_of_pixels
from hypersphere.models._prelu import PReLU

_FILTERS = (128, 256, 512, 1024)
_UNITS = (1, 2, 3, 1)


class DecoupledResNet(Network):
    """The authors' modified ResNet-18, of any width and input size.

    A 7x7 convolution with stride 2 and 128 filters and a max-pooling 3x3 with stride 2;
    1, 2, 3 and 1 residual units with 128, 256, 512 and 1024 filters, a 3x3 convolution
    with stride 2 before each of these stages but the first; the mean over all pixels;
    and a head. A unit is two 3x3 convolutions with an activation between them, added to
    its input, and no activation follows the addition. Each convolution is followed by
    `norm` and has no bias. Padding is SAME.

    Args:
        magnitude: The function h of every convolution, one of `ops.magnitudes`; None
            for `nn.SphereConv` or, with `similarity=None`, plain convolutions.
        activation: What follows the normalization, as `SphereNet` takes it; None for
            nothing.
        rngs: Random keys for the parameters.
        choices: Every other argument of `SphereNet` but `depth`, `feature_dim` and
            `norm_features`, with its meaning and default: num_classes, similarity,
            in_features, image_size (at least 32 pixels), width, head, norm,
            sphere_norm, use_length, dropout, remat, dtype, param_dtype.
            `similarity=None` and `sphere_norm=True` need `magnitude=None`.

    Raises:
        TypeError: If `magnitude` or `activation` is not callable.
        ValueError: If an argument is out of its range, `similarity=None` or
            `sphere_norm=True` comes with a magnitude, or the images of a call have
            another shape.

    Example:
        >>> import jax.numpy as jnp
        >>> from flax import nnx
        >>> from hypersphere import models
        >>> net = nnx.eval_shape(lambda: models.DecoupledResNet(rngs=nnx.Rngs(0)))
        >>> images = jnp.ones((2, 32, 32, 3))
        >>> nnx.eval_shape(lambda net: net.features(images), net).shape
        (2, 1024)

    References:
        Liu et al., Decoupled Networks, CVPR 2018. https://arxiv.org/abs/1804.08071
        Differs: sizes are those of the authors' code. All kernels start with a variance
        of 2 / fan-in; theirs start with a standard deviation of 0.01 inside the units
        and by Xavier's rule elsewhere.
    """

    def __init__(
        self,
        *,
        magnitude: Any = ops.magnitudes.Tanh(),
        activation: Activation | None = PReLU,
        rngs: nnx.Rngs,
        **choices: Any,
    ):
        shared = self._choose(
            rngs, magnitude=magnitude, activation=activation, **choices
        )
        self.image_shape = shared.image_shape(32)
        filters = shared.filters(*_FILTERS)
        self.root = ConvLayer(
            shared.in_features, filters[0], shared, window=(7, 7), strides=2
        )
        stages, features = [], filters[0]
        for index, (out, count) in enumerate(zip(filters, _UNITS, strict=True)):
            entry = [ConvLayer(features, out, shared, strides=2)] if index else []
            units = [_make_unit(out, shared) for _ in range(count)]
            stages.append([*entry, *units])
            features = out
        self.stages = nnx.List(map(nnx.List, stages))
        self._finish(shared, features)

    def _body(self, x: Array, rngs: nnx.Rngs | None) -> Array:
        del rngs
        x = max_pool_3x3(self._run([self.root], x))
        for stage in self.stages:
            x = self._run(stage, x)
        return mean_of_pixels(x)


def _make_unit(features: int, choices: Choices) -> ResidualUnit:
    last = choices.but(activation=None)
    return ResidualUnit([ConvLayer(features, features, c) for c in (choices, last)])
