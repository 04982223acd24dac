"""ResNet: the residual networks of CIFAR and ImageNet, the convolution a choice."""

import dataclasses
from collections.abc import Callable
from typing import Any, Literal, NamedTuple

import jax.numpy as jnp
from flax import nnx
from jax import Array

from hypersphere.models._layers import (
    Choices,
    ConvLayer,
    Network,
    NormActivation,
    ResidualUnit,
    check_one_of,
)
from hypersphere.models._pool import max_pool_3x3, mean_of_pixels


class _Plan(NamedTuple):
    """The shape of a network."""

    filters: tuple[int, ...]  # of the stem and of each stage
    units: tuple[int, ...]  # of each stage
    is_bottleneck: bool = False


_SHORTCUTS = ("projection", "spherical", "identity")
_SMALL = (16, 16, 32, 64)
_LARGE = (64, 64, 128, 256, 512)
_PLANS = {
    **{n: _Plan(_SMALL, ((n - 2) // 6,) * 3) for n in (20, 32, 44, 56, 110)},
    18: _Plan(_LARGE, (2, 2, 2, 2)),
    34: _Plan(_LARGE, (3, 4, 6, 3)),
    50: _Plan(_LARGE, (3, 4, 6, 3), is_bottleneck=True),
    101: _Plan(_LARGE, (3, 4, 23, 3), is_bottleneck=True),
    152: _Plan(_LARGE, (3, 8, 36, 3), is_bottleneck=True),
}


class ResNet(Network):
    """He and others' residual network, of any width and input size.

    Depths 20, 32, 44, 56 and 110 are made for CIFAR: a 3x3 convolution with 16 filters
    and three stages of (depth - 2) / 6 units with 16, 32 and 64. Depths 18, 34, 50, 101
    and 152 are made for ImageNet: a 7x7 convolution with stride 2 and 64 filters, a
    max-pooling 3x3 with stride 2, and four stages of units with 64, 128, 256 and 512
    filters. The first unit of each stage but the first halves the image. Then follow
    the mean over all pixels and a head. A unit adds to its input two convolutions 3x3
    or, from depth 50 of ImageNet on, convolutions of 1x1, 3x3 and 1x1, the last with
    four times the filters. No convolution has a bias. Padding is SAME.

    Args:
        depth: Layers with weights, the head among them: 20, 32, 44, 56 or 110 for
            CIFAR, 18, 34, 50, 101 or 152 for ImageNet.
        shortcut: How the input is added where a unit changes its shape. "projection" is
            a 1x1 convolution, plain in every network, and `norm`; "spherical" the same
            with the convolution of the other layers; "identity" takes every second
            pixel and appends zeros to the channels, without parameters.
        pre_activation: Whether `norm` and `activation` come before each convolution of
            a unit instead of after it, and once more before the mean. The stem is then
            the convolution alone, no `norm` follows a projection, and projections and
            the first unit's shortcut start from the activated input.
        rngs: Random keys for the parameters.
        choices: Every other argument of `SphereNet` but `feature_dim` and
            `norm_features`, with its meaning and default: num_classes, similarity,
            in_features, image_size (at least 4 pixels for CIFAR's depths, 32 for
            ImageNet's), width, head, norm, activation, sphere_norm, use_length,
            magnitude, dropout, remat, dtype, param_dtype.

    Raises:
        TypeError: If `magnitude` or `activation` is not callable.
        ValueError: If an argument is out of its range, or the images of a call have
            another shape.

    Example:
        The ResNet-32 of the hyperspherical papers is `ResNet(depth=32, width=6)`.

        >>> import jax.numpy as jnp
        >>> from flax import nnx
        >>> from hypersphere import models
        >>> make = lambda: models.ResNet(depth=32, width=6, rngs=nnx.Rngs(0))
        >>> net = nnx.eval_shape(make)
        >>> images = jnp.ones((2, 32, 32, 3))
        >>> nnx.eval_shape(lambda net: net.features(images), net).shape
        (2, 384)

    References:
        He et al., Deep Residual Learning for Image Recognition, CVPR 2016
        https://arxiv.org/abs/1512.03385
        He et al., Identity Mappings in Deep Residual Networks, ECCV 2016
        https://arxiv.org/abs/1603.05027
        Differs: the stride of a unit of three convolutions is on its 3x3, as in
        torchvision; the paper has it on the first 1x1. On CIFAR the paper has identity
        shortcuts, which are not the default here; the authors of SphereNet project.
    """

    def __init__(
        self,
        *,
        depth: int = 20,
        shortcut: Literal["projection", "spherical", "identity"] = "projection",
        pre_activation: bool = False,
        rngs: nnx.Rngs,
        **choices: Any,
    ):
        shared = self._choose(rngs, **choices)
        check_one_of(shared.who, tuple(_PLANS), depth=depth)
        check_one_of(shared.who, _SHORTCUTS, shortcut=shortcut)
        plan = _PLANS[depth]
        self.is_large = plan.filters == _LARGE
        self.image_shape = shared.image_shape(32 if self.is_large else 4)
        stem, *filters = shared.filters(*plan.filters)
        side, strides = (7, 2) if self.is_large else (3, 1)
        self.stem = ConvLayer(
            shared.in_features,
            stem,
            shared.bare() if pre_activation else shared,
            window=(side, side),
            strides=strides,
        )
        units = _Units(shared, plan.is_bottleneck, shortcut, pre_activation)
        stages, features = units.make_stages(stem, filters, plan.units)
        self.stages = nnx.List(map(nnx.List, stages))
        self.final = NormActivation(features, shared) if pre_activation else None
        self._finish(shared, features)

    def _body(self, x: Array, rngs: nnx.Rngs | None) -> Array:
        del rngs
        x = self._run([self.stem], x)
        x = max_pool_3x3(x) if self.is_large else x
        for stage in self.stages:
            x = self._run(stage, x)
        return mean_of_pixels(self.final(x) if self.final else x)


@dataclasses.dataclass(frozen=True)
class _Units:
    """How the residual units of a network are made."""

    choices: Choices
    is_bottleneck: bool
    shortcut: str
    pre_activation: bool

    def make_stages(
        self, features: int, filters: list[int], counts: tuple[int, ...]
    ) -> tuple[list[list[ResidualUnit]], int]:
        """The stages and the features of the last one."""
        stages = []
        for index, (count, out) in enumerate(zip(counts, filters, strict=True)):
            units = []
            for i in range(count):
                strides = 2 if index and i == 0 else 1
                is_first = index == i == 0
                units.append(self._make(features, out, strides, is_first=is_first))
                features = 4 * out if self.is_bottleneck else out
            stages.append(units)
        return stages, features

    def _make(
        self, features: int, filters: int, strides: int, *, is_first: bool
    ) -> ResidualUnit:
        c, before = self.choices, self.pre_activation
        entry = NormActivation(features, c) if before else None
        reads_sum = not before and not is_first
        layers = self._make_layers(features, filters, strides, reads_sum=reads_sum)
        out = 4 * filters if self.is_bottleneck else filters
        shortcut = self._make_shortcut(features, out, strides, reads_sum=reads_sum)
        return ResidualUnit(
            layers,
            shortcut=shortcut,
            entry=entry,
            is_shared=before and (is_first or isinstance(shortcut, ConvLayer)),
            last=None if before else c.make_activation(out),
        )

    def _make_layers(
        self, features: int, filters: int, strides: int, *, reads_sum: bool
    ) -> list[ConvLayer]:
        shapes = [(3, filters, strides), (3, filters, 1)]
        if self.is_bottleneck:
            shapes = [(1, filters, 1), (3, filters, strides), (1, 4 * filters, 1)]
        c = self.choices
        last = c.bare() if self.pre_activation else c.but(activation=None)
        layers = []
        for index, (side, out, step) in enumerate(shapes):
            choices = last if index == len(shapes) - 1 else c
            layers.append(
                ConvLayer(
                    features,
                    out,
                    choices,
                    window=(side, side),
                    strides=step,
                    is_input_stored=reads_sum and index == 0,
                )
            )
            features = out
        return layers

    def _make_shortcut(
        self, features: int, out: int, strides: int, *, reads_sum: bool
    ) -> Callable[[Array], Array] | None:
        if strides == 1 and features == out:
            return None
        if self.shortcut == "identity":
            return _Subsample(strides, out - features)
        c = self.choices if self.shortcut == "spherical" else self.choices.plain()
        c = c.bare() if self.pre_activation else c.but(activation=None)
        return ConvLayer(
            features,
            out,
            c,
            window=(1, 1),
            strides=strides,
            is_input_stored=reads_sum,
        )


@dataclasses.dataclass(frozen=True)
class _Subsample:
    """Every so-many-th pixel, with zeros for the channels that are missing."""

    strides: int
    missing: int

    def __call__(self, x: Array) -> Array:
        x = x[:, :: self.strides, :: self.strides]
        return jnp.pad(x, ((0, 0), (0, 0), (0, 0), (0, self.missing)))
