"""SphereNet: the plain networks of the paper, with the convolution a choice."""

from typing import Any

import jax.numpy as jnp
from flax import nnx
from jax import Array

from hypersphere.models._layers import (
    ConvLayer,
    Network,
    check_whole,
    conv_stages,
)
from hypersphere.models._pool import halve

_FILTERS = (128, 192, 256)
_FEATURES = 256
_GRID = 4


class SphereNet(Network):
    """The authors' convolutional network, of any depth, width and input size.

    Three stages of `depth / 3` convolutions 3x3 with 128, 192 and 256 filters, each
    followed by `norm` and `activation`; a max-pooling 2x2 after each stage; a 4x4
    convolution with 256 filters, whose answer are the features; and a head. No
    convolution has a bias. Images larger than 32 are pooled to 4x4 after the last
    stage, so that the feature layer keeps its size.

    Args:
        depth: Convolutions in the three stages together, a multiple of 3. The paper
            has 3, 9, 18, 45 and 60.
        num_classes: Number of classes.
        similarity: The function g of every convolution, as `nn.SphereConv` takes it;
            None for plain convolutions, which make the baseline.
        in_features: Channels of the images.
        image_size: Height and width of the images in pixels; one number if they are
            equal.
        width: What every number of filters is multiplied by, positive.
        head: "linear" for class scores, "angular" for cosines and a feature norm, or
            what makes a head, called with (features, num_classes, kernel_init=, rngs=).
        feature_dim: Length of the features. By default 256 times the width, from a
            layer like the others; a number, such as 2 to look at them in the plane,
            makes a plain convolution of the feature layer, whose answers may be long.
        norm: Makes the normalization after a convolution, called with (features,
            rngs=rngs): `nnx.BatchNorm`, `models.BatchNorm` or a partial of it. None
            for none.
        norm_features: Whether the feature layer is normalized too. The networks behind
            the authors' published logs had it, their last code has not.
        activation: What follows the normalization: a function, or a module class such
            as `models.PReLU` (or a partial of it), which is instantiated with
            (features, rngs=rngs). None for nothing.
        sphere_norm: Whether convolutions are `nn.SphereNorm`, with a learned scale and
            shift per filter.
        use_length: Whether these also learn how much lengths count, as `nn.SphereNorm`
            has it.
        magnitude: The function h of every convolution, one of `ops.magnitudes`, which
            makes them `nn.DecoupledConv`; None for a constant.
        dropout: Share of the features that is dropped in training mode, in [0, 1). The
            network is then called with `rngs`.
        remat: Whether the backward pass computes each convolution's layer again instead
            of keeping what is inside it: less memory, more time, the same numbers.
        kernel_init: Makes the filters of convolutions, as `nnx.Conv` takes it. By
            default normal numbers of variance 2 / fan_in; the head has these always.
        dtype: What to compute in; the features and the head are at least float32.
        param_dtype: The dtype of the kernels.
        rngs: Random keys for the parameters.

    Raises:
        TypeError: If `magnitude` or `activation` is not callable.
        ValueError: If an argument is out of its range, `sphere_norm` or `magnitude`
            comes without a similarity or with the other, `use_length` without the
            first, or the images of a call have another shape.

    Example:
        >>> import jax.numpy as jnp
        >>> from flax import nnx
        >>> from hypersphere import models, ops
        >>> make = lambda: models.SphereNet(similarity=ops.Linear(), rngs=nnx.Rngs(0))
        >>> net = nnx.eval_shape(make)  # shapes only; `make()` for parameters
        >>> images = jnp.ones((2, 32, 32, 3))
        >>> nnx.eval_shape(lambda net: net(images), net).shape
        (2, 10)

    References:
        Liu et al., Deep Hyperspherical Learning, NIPS 2017
        https://arxiv.org/abs/1711.03189
        Differs: sizes are those of the authors' code, which the paper does not give
        for every network.
    """

    def __init__(
        self,
        *,
        depth: int = 9,
        feature_dim: int | None = None,
        norm_features: bool = False,
        rngs: nnx.Rngs,
        **choices: Any,
    ):
        shared = self._choose(rngs, **choices)
        _check(shared.who, depth, feature_dim)
        self.image_shape = shared.image_shape(1)
        *filters, features = shared.filters(*_FILTERS, _FEATURES)
        stages = conv_stages(filters, [depth // 3] * 3, shared)
        self.stages = nnx.List(map(nnx.List, stages))
        last = shared if feature_dim is None else shared.plain()
        self.feature_layer = ConvLayer(
            filters[-1],
            feature_dim or features,
            last.but(norm=shared.norm if norm_features else None, activation=None),
            window=_final_grid(self.image_shape[:2]),
            padding="VALID",
        )
        self._finish(shared, feature_dim or features)

    def _body(self, x: Array, rngs: nnx.Rngs | None) -> Array:
        del rngs
        for index, stage in enumerate(self.stages):
            x = self._run(stage, x)
            is_last = index == len(self.stages) - 1
            is_large = max(x.shape[1:3]) > 2 * _GRID
            x = _pool_to_grid(x) if is_last and is_large else halve(x)
        return jnp.squeeze(self.feature_layer(x), axis=(1, 2))


def _pool_to_grid(x: Array) -> Array:
    """The maxima of 4x4 windows that cover the image; halves a side of at most 8."""
    windows, strides, pads = [], [], []
    for size in x.shape[1:3]:
        is_large = size > 2 * _GRID
        stride = size // _GRID if is_large else 2
        strides.append(stride)
        windows.append(size - (_GRID - 1) * stride if is_large else 2)
        pads.append((0, 0) if is_large else (0, size % 2))
    padding: Any = pads  # pairs work; Flax's annotation says str
    return nnx.max_pool(x, tuple(windows), tuple(strides), padding)


def _final_grid(height_width: tuple[int, int]) -> tuple[int, int]:
    """Height and width after three poolings, which round up, and at most the grid."""
    height, width = (min(-(-size // 8), _GRID) for size in height_width)
    return height, width


def _check(who: str, depth: int, feature_dim: int | None) -> None:
    check_whole(who, depth=depth)
    if depth < 3 or depth % 3:
        raise ValueError(
            f"`{who}` needs `depth` as a multiple of 3, one third per stage, such "
            f"as 3, 9, 18, 45 or 60, got `depth={depth!r}`."
        )
    if feature_dim is not None and feature_dim < 1:
        raise ValueError(
            f"`{who}` needs `feature_dim` as None or at least 1, got "
            f"`feature_dim={feature_dim!r}`."
        )
