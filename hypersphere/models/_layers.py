"""What the networks share: their arguments, the layers made from these, and a head."""

import dataclasses
import functools
import inspect
from collections.abc import Callable, Iterable, Sequence
from typing import Any, Literal

import jax.numpy as jnp
from flax import nnx
from jax.nn.initializers import variance_scaling
from jaxtyping import Array, Float

from hypersphere import nn, ops
from hypersphere._checks import check_callable, check_magnitude
from hypersphere._dtypes import widened
from hypersphere.models._relu import relu

Activation = Callable[..., Any]
KERNEL_INIT = variance_scaling(2.0, "fan_in", "normal")
"""How filters and heads begin, unless they are told otherwise."""


class Network(nnx.Module):
    """What every network of this package is: images to features, and a head on them.

    Not a network by itself. Each has its layers, their answer is called the features,
    and `head` makes class scores of these, or the cosines of `nn.AngularHead`.

    Example:
        >>> from flax import nnx
        >>> from hypersphere import models
        >>> net = nnx.eval_shape(lambda: models.SphereNet(rngs=nnx.Rngs(0)))
        >>> isinstance(net, models.Network), net.image_shape
        (True, (32, 32, 3))
    """

    image_shape: tuple[int, int, int]

    def __init_subclass__(cls, **arguments: Any):
        super().__init_subclass__(**arguments)
        cls.__signature__ = _signature(cls.__init__)  # for `help` and editors

    def _choose(self, rngs: nnx.Rngs, **arguments: Any) -> "Choices":
        """The arguments that all networks have, with defaults for those not given."""
        who = type(self).__name__
        known = {field.name for field in dataclasses.fields(Choices)} - {"who"}
        if unknown := sorted(set(arguments) - known):
            raise TypeError(
                f"`{who}` needs arguments that it has, got {', '.join(unknown)}. Those "
                f"of every network are {', '.join(sorted(known))}."
            )
        return Choices(who=who, rngs=rngs, **arguments)

    def _finish(self, choices: "Choices", features: int) -> None:
        """Makes what follows the layers; after them, as the draws of `rngs` go."""
        self.dropout = nnx.Dropout(choices.dropout)
        self.head = choices.make_head(features)
        self.remat = choices.remat

    def _body(self, x: Array, rngs: nnx.Rngs | None) -> Array:
        """The features of images, in the dtype that the layers compute in."""
        raise NotImplementedError

    def _run(self, layers: Iterable[Callable[[Array], Array]], x: Array) -> Array:
        """Applies layers in turn, each computed again in the backward pass if asked."""
        apply = nnx.remat(_apply) if self.remat else _apply
        return functools.reduce(lambda x, layer: apply(layer, x), layers, x)

    def features(
        self,
        images: Float[Array, "batch height width in_features"],
        *,
        rngs: nnx.Rngs | None = None,
    ) -> Float[Array, "batch features"]:
        """What the head sees: at least float32, no unit.

        `rngs` are the random keys of dropout between layers, which only `VGG` has and
        needs in training mode.
        """
        if images.shape[1:] != self.image_shape:
            raise ValueError(
                f"`{type(self).__name__}` needs images of the shape it was made for, "
                f"(batch, {', '.join(map(str, self.image_shape))}), got "
                f"`images.shape={images.shape}`. Make it with other `image_size` and "
                "`in_features`, or resize the images."
            )
        return widened(self._body(images, rngs))

    def __call__(
        self,
        images: Float[Array, "batch height width in_features"],
        *,
        rngs: nnx.Rngs | None = None,
    ) -> Any:
        """Class scores (batch, num_classes), or what `nn.AngularHead` returns.

        `rngs` are the random keys of dropout, which needs them in training mode.
        """
        return self.head(self.dropout(self.features(images, rngs=rngs), rngs=rngs))


@dataclasses.dataclass(frozen=True, kw_only=True)
class Choices:
    """The arguments that all networks have, as `SphereNet` explains them."""

    who: str
    rngs: nnx.Rngs
    num_classes: int = 10
    similarity: Any = ops.Cosine()
    in_features: int = 3
    image_size: int | Sequence[int] = 32
    width: int | float = 1.0
    head: Literal["linear", "angular"] | Callable[..., nnx.Module] = "linear"
    norm: Callable[..., nnx.Module] | None = nnx.BatchNorm
    activation: Activation | None = relu
    sphere_norm: bool = False
    use_length: bool = False
    magnitude: Any = None
    dropout: float = 0.0
    remat: bool = False
    kernel_init: Callable[..., Array] = KERNEL_INIT
    dtype: Any = None
    param_dtype: Any = jnp.float32

    def __post_init__(self):
        check_whole(self.who, num_classes=self.num_classes)
        check_whole(self.who, in_features=self.in_features)
        if isinstance(self.width, bool) or not isinstance(self.width, int | float):
            raise TypeError(
                f"`{self.who}` needs `width` as a number, got `width={self.width!r}`."
            )
        if not 0 < self.width < float("inf"):
            raise ValueError(
                f"`{self.who}` needs a finite `width > 0`, got `width={self.width!r}`."
            )
        if self.num_classes < 2 or self.in_features < 1:
            raise ValueError(
                f"`{self.who}` needs `num_classes >= 2` and `in_features >= 1`, got "
                f"`num_classes={self.num_classes!r}` and "
                f"`in_features={self.in_features!r}`."
            )
        if not callable(self.head):
            check_one_of(self.who, ("linear", "angular"), head=self.head)
        if not 0 <= self.dropout < 1:
            raise ValueError(
                f"`{self.who}` needs `dropout` in [0, 1), got "
                f"`dropout={self.dropout!r}`."
            )
        if self.activation is not None:
            advice = "Pass a function, a module class, or None for none."
            check_callable(self.who, advice, activation=self.activation)
        self._check_convolution()

    def _check_convolution(self) -> None:
        if self.similarity is None and self.sphere_norm:
            raise ValueError(
                f"`{self.who}` needs a similarity for `sphere_norm=True`, got "
                "`similarity=None`. Pass one, such as `ops.Cosine()`."
            )
        if self.use_length and not self.sphere_norm:
            raise ValueError(
                f"`{self.who}` needs `sphere_norm=True` for `use_length=True`, which "
                "is one of its parameters, got `sphere_norm=False`."
            )
        if self.magnitude is None:
            return
        check_magnitude(self.who, self.magnitude)
        if self.similarity is None or self.sphere_norm:
            raise ValueError(
                f"`{self.who}` needs a similarity and no SphereNorm for a magnitude, "
                f"got `magnitude={self.magnitude!r}` with "
                f"`similarity={self.similarity!r}` and "
                f"`sphere_norm={self.sphere_norm!r}`. Pass `magnitude=None`, or both "
                "`similarity=ops.Cosine()` and `sphere_norm=False`."
            )

    def but(self, **changes: Any) -> "Choices":
        """The same choices with some of them replaced."""
        return dataclasses.replace(self, **changes)

    def plain(self) -> "Choices":
        """The same choices for a plain convolution."""
        return self.but(
            similarity=None, sphere_norm=False, use_length=False, magnitude=None
        )

    def bare(self) -> "Choices":
        """The same choices for a convolution that nothing follows."""
        return self.but(norm=None, activation=None)

    def filters(self, *counts: int) -> tuple[int, ...]:
        """Numbers of filters times the width, none of them zero."""
        scaled = tuple(round(self.width * count) for count in counts)
        if min(scaled) < 1:
            raise ValueError(
                f"`{self.who}` needs a `width` that leaves every layer a filter, at "
                f"least {1 / min(counts):.4f}, got `width={self.width!r}`."
            )
        return scaled

    def image_shape(self, least: int) -> tuple[int, int, int]:
        """The shape of an image, of at least `least` pixels a side."""
        size = self.image_size
        pair = tuple(size) if isinstance(size, Sequence) else (size, size)
        is_whole = all(isinstance(side, int) for side in pair)
        if len(pair) != 2 or not is_whole or min(pair) < least:
            raise ValueError(
                f"`{self.who}` needs `image_size` as one number of pixels or as "
                f"(height, width), at least {least}, got `image_size={size!r}`."
            )
        return (*pair, self.in_features)

    def make_conv(
        self, *shape: Any, is_input_stored: bool = False, **arguments: Any
    ) -> nnx.Module:
        """The convolution that the choices ask for, without bias."""
        arguments = {
            "use_bias": False,
            "kernel_init": self.kernel_init,
            "rngs": self.rngs,
            "dtype": self.dtype,
            "param_dtype": self.param_dtype,
            **arguments,
        }
        g, h = self.similarity, self.magnitude
        if g is None:
            return nnx.Conv(*shape, **arguments)
        if self.sphere_norm:
            layer = nnx.Conv(*shape, **arguments)
            return nn.SphereNorm(
                layer, similarity=g, use_length=self.use_length, rngs=self.rngs
            )
        arguments["is_input_stored"] = is_input_stored
        if h is None:
            return nn.SphereConv(*shape, similarity=g, **arguments)
        return nn.DecoupledConv(*shape, magnitude=h, similarity=g, **arguments)

    def make_activation(self, features: int) -> Callable[[Array], Array] | None:
        """The activation; one that is a class, or a partial of one, is made for it."""
        chosen = self.activation
        made = chosen.func if isinstance(chosen, functools.partial) else chosen
        if chosen is not None and isinstance(made, type):
            return chosen(features, rngs=self.rngs)
        return chosen

    def make_head(self, features: int) -> nnx.Module:
        """Class scores, or cosines and a feature norm, of features."""
        shape = features, self.num_classes
        make = nn.AngularHead if self.head == "angular" else self.head
        if callable(make):
            return make(*shape, kernel_init=KERNEL_INIT, rngs=self.rngs)
        return nnx.Linear(
            *shape, use_bias=False, kernel_init=KERNEL_INIT, rngs=self.rngs
        )


class NormActivation(nnx.Module):
    """A normalization and an activation, either of which may be missing."""

    def __init__(self, features: int, choices: Choices):
        norm = choices.norm
        self.norm = norm(features, rngs=choices.rngs) if norm else None
        self.activation = choices.make_activation(features)

    def __call__(self, x: Array) -> Array:
        x = self.norm(widened(x)).astype(x.dtype) if self.norm else x
        return self.activation(x) if self.activation else x


class ConvLayer(NormActivation):
    """A convolution, its normalization and its activation."""

    def __init__(
        self,
        in_features: int,
        out_features: int,
        choices: Choices,
        *,
        window: tuple[int, int] = (3, 3),
        strides: int = 1,
        padding: str = "SAME",
        is_input_stored: bool = False,
    ):
        self.conv = choices.make_conv(
            in_features,
            out_features,
            window,
            strides,
            padding=padding,
            is_input_stored=is_input_stored,
        )
        super().__init__(out_features, choices)

    def __call__(self, x: Array) -> Array:
        return super().__call__(self.conv(x))


def conv_stages(
    filters: Sequence[int], counts: Sequence[int], choices: Choices
) -> list[list[ConvLayer]]:
    """Stages of layers 3x3, from the images on: their filters and their layers."""
    inputs = (choices.in_features, *filters)
    return [
        [
            ConvLayer(inputs[stage] if i == 0 else out, out, choices)
            for i in range(count)
        ]
        for stage, (out, count) in enumerate(zip(filters, counts, strict=True))
    ]


class ResidualUnit(nnx.Module):
    """Layers whose answer is added to their input, or to a shortcut from it.

    `entry` comes before the layers, and before the shortcut too if that is `shared`;
    `last` follows the addition.
    """

    def __init__(
        self,
        layers: Sequence[ConvLayer],
        *,
        shortcut: Callable[[Array], Array] | None = None,
        entry: NormActivation | None = None,
        is_shared: bool = False,
        last: Callable[[Array], Array] | None = None,
    ):
        self.layers = nnx.List(layers)
        self.shortcut = shortcut
        self.entry = entry
        self.is_shared = is_shared
        self.last = last

    def __call__(self, x: Array) -> Array:
        y = self.entry(x) if self.entry else x
        x = y if self.is_shared else x
        for layer in self.layers:
            y = layer(y)
        y = y + (self.shortcut(x) if self.shortcut else x)
        return self.last(y) if self.last else y


def _signature(init: Callable[..., None]) -> inspect.Signature:
    """The arguments of a network, those that all have among them, without `self`."""
    own = list(inspect.signature(init).parameters.values())[1:]
    named = {each.name: each for each in own if each.kind is each.KEYWORD_ONLY}
    shared = {
        field.name: inspect.Parameter(
            field.name,
            inspect.Parameter.KEYWORD_ONLY,
            default=field.default,
            annotation=field.type,
        )
        for field in dataclasses.fields(Choices)
        if field.name not in ("who", "rngs")
    }
    last = [named.pop("rngs")] if "rngs" in named else []
    return inspect.Signature([*(shared | named).values(), *last])


def _apply(layer: Callable[[Array], Array], x: Array) -> Array:
    return layer(x)


def check_whole(who: str, **numbers: Any) -> None:
    """Raises unless every keyword is a whole number."""
    for name, value in numbers.items():
        if isinstance(value, bool) or not isinstance(value, int):
            raise TypeError(
                f"`{who}` needs `{name}` as a whole number, got `{name}={value!r}`."
            )


def check_one_of(who: str, values: Sequence[Any], **chosen: Any) -> None:
    """Raises unless every keyword is one of the values."""
    *others, last = map(repr, values)
    for name, value in chosen.items():
        if value not in values:
            raise ValueError(
                f"`{who}` needs `{name}` to be {', '.join(others)} or {last}, got "
                f"`{name}={value!r}`."
            )
