"""GoogLeNet: Inception modules, with the convolution a choice."""

from collections.abc import Iterable
from typing import Any

import jax.numpy as jnp
from flax import nnx
from jax import Array

from hypersphere.models._layers import (
    Choices,
    ConvLayer,
    Network,
)
from hypersphere.models._pool import max_pool_3x3, mean_of_pixels

_STEM = (64, 64, 192)
# Filters of the modules in each stage: 1x1; 1x1 before 3x3, 3x3; 1x1 before 5x5, 5x5;
# 1x1 after the pooling.
_STAGES = (
    ((64, 96, 128, 16, 32, 32), (128, 128, 192, 32, 96, 64)),
    (
        (192, 96, 208, 16, 48, 64),
        (160, 112, 224, 24, 64, 64),
        (128, 128, 256, 24, 64, 64),
        (112, 144, 288, 32, 64, 64),
        (256, 160, 320, 32, 128, 128),
    ),
    ((256, 160, 320, 32, 128, 128), (384, 192, 384, 48, 128, 128)),
)


class GoogLeNet(Network):
    """Szegedy and others' first Inception network, of any width and input size.

    A 7x7 convolution with stride 2 and 64 filters, a max-pooling, a 1x1 convolution
    with 64 and a 3x3 one with 192 filters; two, five and two Inception modules, a
    max-pooling 3x3 with stride 2 before each of these three stages; the mean over all
    pixels; and a head. A module joins four branches: 1x1; 1x1 and 3x3; 1x1 and 5x5;
    max-pooling 3x3 and 1x1. Each convolution is followed by `norm` and `activation`
    and has no bias. Padding is SAME.

    Args:
        rngs: Random keys for the parameters.
        choices: Every other argument of `SphereNet` but `depth`, `feature_dim` and
            `norm_features`, with its meaning and default: num_classes, similarity,
            in_features, image_size (at least 32 pixels), width, head, norm,
            activation, sphere_norm, use_length, magnitude, dropout (the paper has 0.4),
            remat, dtype, param_dtype.

    Raises:
        TypeError: If `magnitude` or `activation` is not callable.
        ValueError: If an argument is out of its range, or the images of a call have
            another shape.

    Example:
        >>> import jax.numpy as jnp
        >>> from flax import nnx
        >>> from hypersphere import models
        >>> net = nnx.eval_shape(lambda: models.GoogLeNet(rngs=nnx.Rngs(0)))
        >>> images = jnp.ones((2, 32, 32, 3))
        >>> nnx.eval_shape(lambda net: net.features(images), net).shape
        (2, 1024)

    References:
        Szegedy et al., Going Deeper with Convolutions, CVPR 2015, Table 1.
        https://arxiv.org/abs/1409.4842
        Differs: no auxiliary classifiers, no local response normalization, and instead
        a normalization after each convolution, unless `norm=None`; no biases.
    """

    def __init__(self, *, rngs: nnx.Rngs, **choices: Any):
        shared = self._choose(rngs, **choices)
        self.image_shape = shared.image_shape(32)
        first, second, features = shared.filters(*_STEM)
        self.stem = nnx.List(
            [
                ConvLayer(shared.in_features, first, shared, window=(7, 7), strides=2),
                ConvLayer(first, second, shared, window=(1, 1)),
                ConvLayer(second, features, shared),
            ]
        )
        stages = []
        for stage in _STAGES:
            modules = []
            for counts in stage:
                modules.append(_Inception(features, shared.filters(*counts), shared))
                features = modules[-1].out_features
            stages.append(modules)
        self.stages = nnx.List(map(nnx.List, stages))
        self._finish(shared, features)

    def _body(self, x: Array, rngs: nnx.Rngs | None) -> Array:
        del rngs
        first, *others = self.stem
        x = max_pool_3x3(self._run([first], x))
        x = self._run(others, x)
        for stage in self.stages:
            x = self._run(stage, max_pool_3x3(x))
        return mean_of_pixels(x)


class _Inception(nnx.Module):
    """Four branches, whose answers are joined."""

    def __init__(self, in_features: int, filters: tuple[int, ...], choices: Choices):
        one, before_three, three, before_five, five, pooled = filters
        branches = (
            [(1, one)],
            [(1, before_three), (3, three)],
            [(1, before_five), (5, five)],
            [(1, pooled)],
        )
        self.branches = nnx.List(
            nnx.List(_chain(in_features, branch, choices)) for branch in branches
        )
        self.out_features = one + three + five + pooled

    def __call__(self, x: Array) -> Array:
        answers = [x, x, x, max_pool_3x3(x, strides=1)]
        for index, branch in enumerate(self.branches):
            for layer in branch:
                answers[index] = layer(answers[index])
        return jnp.concatenate(answers, axis=-1)


def _chain(
    in_features: int, shapes: Iterable[tuple[int, int]], choices: Choices
) -> list[ConvLayer]:
    """Layers one after the other: the side of each window, and its filters."""
    layers = []
    for side, out in shapes:
        layers.append(ConvLayer(in_features, out, choices, window=(side, side)))
        in_features = out
    return layers
