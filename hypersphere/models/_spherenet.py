"""SphereNet: the plain networks of the paper, with the convolution a choice."""

import functools
from collections.abc import Callable, Sequence
from typing import Any, Literal

import jax
import jax.numpy as jnp
from flax import nnx
from jax.nn.initializers import variance_scaling
from jaxtyping import Array, Float

from hypersphere import nn, ops

_FILTERS = (128, 192, 256)
_FEATURES = 256
_GRID = 4

Activation = Callable[[Array], Array]


class SphereNet(nnx.Module):
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
        head: "linear" for class scores, "angular" for cosines and a feature norm.
        feature_dim: Length of the features. By default 256 times the width, from a
            layer like the others; a number, such as 2 to look at them in the plane,
            makes a plain convolution of the feature layer, whose answers may be long.
        norm: Makes the normalization after a convolution, called with (features,
            rngs=rngs): `nnx.BatchNorm`, `models.BatchNorm` or a partial of it. None
            for none.
        norm_features: Whether the feature layer is normalized too. The networks behind
            the authors' published logs had it, their last code has not.
        activation: What follows the normalization; None for nothing.
        sphere_norm: Whether convolutions are `nn.SphereNorm`, with a learned scale and
            shift per filter.
        dropout: Share of the features that is dropped in training mode, in [0, 1). The
            network is then called with `rngs`.
        remat: Whether the backward pass computes each convolution's layer again instead
            of keeping what is inside it: less memory, more time, the same numbers.
        dtype: What to compute in; the features and the head are at least float32.
        param_dtype: The dtype of the kernels.
        rngs: Random keys for the parameters.

    Raises:
        ValueError: If an argument is out of its range, `sphere_norm` comes without a
            similarity, or the images of a call have another shape.

    Example:
        >>> import jax.numpy as jnp
        >>> from flax import nnx
        >>> from hypersphere import models, ops
        >>> net = models.SphereNet(
        ...     depth=3, width=1 / 8, similarity=ops.Linear(), rngs=nnx.Rngs(0)
        ... )
        >>> images = jnp.ones((2, 32, 32, 3))
        >>> net(images).shape, net.features(images).shape
        ((2, 10), (2, 32))

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
        num_classes: int = 10,
        similarity: Any = ops.Cosine(),
        in_features: int = 3,
        image_size: int | Sequence[int] = 32,
        width: float = 1.0,
        head: Literal["linear", "angular"] = "linear",
        feature_dim: int | None = None,
        norm: Callable[..., nnx.Module] | None = nnx.BatchNorm,
        norm_features: bool = False,
        activation: Activation | None = jax.nn.relu,
        sphere_norm: bool = False,
        dropout: float = 0.0,
        remat: bool = False,
        dtype: Any = None,
        param_dtype: Any = jnp.float32,
        rngs: nnx.Rngs,
    ):
        height_width = _check_image_size(image_size)
        _check(depth, width, num_classes, in_features, head)
        _check_features(feature_dim, dropout)
        filters = _scaled_filters(width)
        make_conv = functools.partial(
            _make_conv,
            similarity=similarity,
            sphere_norm=sphere_norm,
            dtype=dtype,
            param_dtype=param_dtype,
            rngs=rngs,
        )
        make_layer = functools.partial(
            _ConvLayer, make_conv, norm=norm, activation=activation, rngs=rngs
        )
        inputs = (in_features, *filters)
        self.stages = nnx.List(
            nnx.List(
                make_layer(inputs[stage] if i == 0 else out, out)
                for i in range(depth // 3)
            )
            for stage, out in enumerate(filters[:3])
        )
        if feature_dim is not None:
            make_conv = functools.partial(make_conv, similarity=None, sphere_norm=False)
        self.feature_layer = _ConvLayer(
            make_conv,
            filters[2],
            feature_dim or filters[3],
            window=_final_grid(height_width),
            padding="VALID",
            norm=norm if norm_features else None,
            activation=None,
            rngs=rngs,
        )
        self.dropout = nnx.Dropout(dropout)
        self.head = _make_head(head, feature_dim or filters[3], num_classes, rngs)
        self.remat = remat
        self.image_shape = (*height_width, in_features)

    def features(
        self, images: Float[Array, "batch height width in_features"]
    ) -> Float[Array, "batch features"]:
        """What the head sees: at least float32, no unit."""
        if images.shape[1:] != self.image_shape:
            raise ValueError(
                "`SphereNet` needs images of the shape it was made for, "
                f"(batch, {', '.join(map(str, self.image_shape))}), got "
                f"`images.shape={images.shape}`. Make it with other `image_size` and "
                "`in_features`, or resize the images."
            )
        x = images
        apply = nnx.remat(_apply) if self.remat else _apply
        for index, stage in enumerate(self.stages):
            for layer in stage:
                x = apply(layer, x)
            is_last = index == len(self.stages) - 1
            is_large = max(x.shape[1:3]) > 2 * _GRID
            x = _pool_to_grid(x) if is_last and is_large else _halve(x)
        x = jnp.squeeze(self.feature_layer(x), axis=(1, 2))
        return x.astype(jnp.promote_types(x.dtype, jnp.float32))

    def __call__(
        self,
        images: Float[Array, "batch height width in_features"],
        *,
        rngs: nnx.Rngs | None = None,
    ) -> Any:
        """Class scores (batch, num_classes), or what `nn.AngularHead` returns.

        `rngs` are the random keys of dropout, which needs them in training mode.
        """
        return self.head(self.dropout(self.features(images), rngs=rngs))


class _ConvLayer(nnx.Module):
    """A convolution, its normalization and its activation."""

    def __init__(
        self,
        make_conv: Callable[..., nnx.Module],
        in_features: int,
        out_features: int,
        *,
        window: tuple[int, int] = (3, 3),
        padding: str = "SAME",
        norm: Callable[..., nnx.Module] | None,
        activation: Activation | None,
        rngs: nnx.Rngs,
    ):
        self.conv = make_conv(in_features, out_features, window, padding=padding)
        self.norm = norm(out_features, rngs=rngs) if norm else None
        self.activation = activation

    def __call__(self, x: Array) -> Array:
        x = self.conv(x)
        x = self.norm(x) if self.norm else x
        return self.activation(x) if self.activation else x


def _apply(layer: Callable[[Array], Array], x: Array) -> Array:
    return layer(x)


def _make_conv(
    *shape: Any, similarity: Any, sphere_norm: bool, rngs: nnx.Rngs, **arguments: Any
) -> nnx.Module:
    """The convolution that the similarity asks for, without bias."""
    arguments = {
        "use_bias": False,
        "kernel_init": variance_scaling(2.0, "fan_in", "normal"),
        "rngs": rngs,
        **arguments,
    }
    if similarity is None and sphere_norm:
        raise ValueError(
            "`SphereNet` needs a similarity for `sphere_norm=True`, got "
            "`similarity=None`. Pass one, such as `ops.Cosine()`."
        )
    if similarity is None:
        return nnx.Conv(*shape, **arguments)
    if sphere_norm:
        layer = nnx.Conv(*shape, **arguments)
        return nn.SphereNorm(layer, similarity=similarity, rngs=rngs)
    return nn.SphereConv(*shape, similarity=similarity, **arguments)


def _make_head(
    head: str, features: int, num_classes: int, rngs: nnx.Rngs
) -> nnx.Module:
    kernel_init = variance_scaling(2.0, "fan_in", "normal")
    if head == "angular":
        return nn.AngularHead(features, num_classes, kernel_init=kernel_init, rngs=rngs)
    return nnx.Linear(
        features, num_classes, use_bias=False, kernel_init=kernel_init, rngs=rngs
    )


def _halve(x: Array) -> Array:
    """The maxima of 2x2 pixels; a last odd row or column stands for itself.

    By a reshape, because on a CPU the gradient of `nnx.max_pool` takes longer than
    the convolutions of a narrow network.
    """
    batch, height, width, features = x.shape
    odd = ((0, 0), (0, height % 2), (0, width % 2), (0, 0))
    padded = jnp.pad(x, odd, constant_values=-jnp.inf) if height % 2 or width % 2 else x
    return jnp.max(
        padded.reshape(batch, -(-height // 2), 2, -(-width // 2), 2, features),
        axis=(2, 4),
    )


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


def _scaled_filters(width: float) -> tuple[int, ...]:
    filters = tuple(round(width * count) for count in (*_FILTERS, _FEATURES))
    if min(filters) < 1:
        raise ValueError(
            "`SphereNet` needs a `width` that leaves every layer a filter, at least "
            f"{1 / min(_FILTERS):.4f}, got `width={width!r}`."
        )
    return filters


def _check_image_size(image_size: int | Sequence[int]) -> tuple[int, int]:
    pair = (image_size,) * 2 if isinstance(image_size, int) else tuple(image_size)
    if len(pair) != 2 or min(pair) < 1:
        raise ValueError(
            "`SphereNet` needs `image_size` as one number of pixels or as (height, "
            f"width), at least 1, got `image_size={image_size!r}`."
        )
    return pair


def _check(
    depth: int, width: float, num_classes: int, in_features: int, head: str
) -> None:
    if depth < 3 or depth % 3:
        raise ValueError(
            "`SphereNet` needs `depth` as a multiple of 3, one third per stage, such "
            f"as 3, 9, 18, 45 or 60, got `depth={depth!r}`."
        )
    if not 0 < width < float("inf"):
        raise ValueError(
            f"`SphereNet` needs a finite `width > 0`, got `width={width!r}`."
        )
    if num_classes < 2 or in_features < 1:
        raise ValueError(
            "`SphereNet` needs `num_classes >= 2` and `in_features >= 1`, got "
            f"`num_classes={num_classes!r}` and `in_features={in_features!r}`."
        )
    if head not in ("linear", "angular"):
        raise ValueError(
            "`SphereNet` needs `head` to be 'linear' or 'angular', got "
            f"`head={head!r}`."
        )


def _check_features(feature_dim: int | None, dropout: float) -> None:
    if feature_dim is not None and feature_dim < 1:
        raise ValueError(
            "`SphereNet` needs `feature_dim` as None or at least 1, got "
            f"`feature_dim={feature_dim!r}`."
        )
    if not 0 <= dropout < 1:
        raise ValueError(
            f"`SphereNet` needs `dropout` in [0, 1), got `dropout={dropout!r}`."
        )
