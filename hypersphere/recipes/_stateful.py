"""Losses by name that keep something of their own: statistics, or a parameter."""

import dataclasses
from collections.abc import Callable
from typing import Any, ClassVar

import jax.numpy as jnp
from flax import nnx

from hypersphere import losses, ops
from hypersphere.recipes._scaled import Scaled
from hypersphere.training.settings import LossConfig, number, option, radians


class _Stateful(nnx.Module):
    """A loss with what it knows of the steps before.

    It is called as (outputs, labels, state, frozen); in an evaluation it is `frozen`,
    and takes its state as it is, so that the batch does not matter.
    """

    def __init__(self, loss: Callable[..., Any], state: Any):
        self.loss, self.kind, self.deterministic = loss, type(state), False
        values = state._asdict().items()
        self.state = nnx.Dict(
            {name: nnx.Variable(jnp.asarray(v, jnp.float32)) for name, v in values}
        )

    def __call__(self, outputs: Any, labels: Any, step: Any) -> Any:
        del step
        before = self.kind(**{name: kept[...] for name, kept in self.state.items()})
        loss, after = self.loss(outputs, labels, before, frozen=self.deterministic)
        if self.deterministic:
            return loss
        for name, kept in self.state.items():
            kept[...] = getattr(after, name)
        return loss


class _Binary(nnx.Module):
    """SphereFace2 with its bias, which is learned."""

    def __init__(self, loss: Callable[..., Any], bias: float):
        self.loss, self.bias = loss, nnx.Param(jnp.asarray(bias, jnp.float32))

    def __call__(self, outputs: Any, labels: Any, step: Any) -> Any:
        del step
        return self.loss(outputs[0], labels, bias=self.bias[...])


@dataclasses.dataclass(kw_only=True)
class AdaFace(Scaled):
    """`losses.adaface`, with its running statistics of feature norms.

    Args:
        margin: In radians, in [0, pi], and a cosine at once.
        concentration: What the relative norm is multiplied by, at least 0.
        momentum: Share of the statistics that a step keeps, in [0, 1].
    """

    takes_scale: ClassVar[bool] = False
    scale: float = number(64.0, 0)
    margin: float = radians(0.4)
    concentration: float = number(0.333, 0)
    momentum: float = number(0.99, 0, 1)

    def make(self, images: Any) -> nnx.Module:
        """((cosines, feature norm), labels, step) -> the loss of each example."""
        del images

        def loss(outputs: Any, labels: Any, state: Any, *, frozen: bool) -> Any:
            cos, norm = outputs
            return losses.adaface(
                cos,
                labels,
                state,
                feature_norm=norm,
                margin=self.margin,
                concentration=self.concentration,
                scale=self.factor(norm),
                momentum=1.0 if frozen else self.momentum,
            )

        return _Stateful(loss, losses.AdaFaceState())


@dataclasses.dataclass(kw_only=True)
class CurricularFace(Scaled):
    """`losses.curricularface`, with its running mean.

    Args:
        margin: In radians, in [0, pi].
        momentum: Share of the mean that a step keeps, in [0, 1].
        past_pi: What comes past pi: `continuous`, `clip`, `pml` or `plain`.
    """

    scale: float = number(64.0, 0)
    margin: float = radians(0.5)
    momentum: float = number(0.99, 0, 1)
    past_pi: str = option("continuous", ops.PAST_PI)

    def make(self, images: Any) -> nnx.Module:
        """((cosines, feature norm), labels, step) -> the loss of each example."""
        del images

        def loss(outputs: Any, labels: Any, state: Any, *, frozen: bool) -> Any:
            cos, norm = outputs
            return losses.curricularface(
                cos,
                labels,
                state,
                margin=self.margin,
                scale=self.factor(norm),
                momentum=1.0 if frozen else self.momentum,
                past_pi=self.past_pi,
            )

        return _Stateful(loss, losses.CurricularFaceState())


@dataclasses.dataclass(kw_only=True)
class AdaCos(LossConfig):
    """`losses.adacos`, with the scale that it has found; nothing is to be chosen."""

    levels: ClassVar[tuple[str, ...]] = ("full",)
    takes_scale: ClassVar[bool] = False

    def make(self, images: Any) -> nnx.Module:
        """((cosines, feature norm), labels, step) -> the loss of each example."""

        def loss(outputs: Any, labels: Any, state: Any, *, frozen: bool) -> Any:
            if frozen:
                return losses.normface(outputs[0], labels, scale=state.scale), state
            return losses.adacos(outputs[0], labels, state)

        return _Stateful(loss, losses.adacos_start(images.num_classes))


@dataclasses.dataclass(kw_only=True)
class SphereFace2(LossConfig):
    """`losses.sphereface2`, whose bias is learned from where it starts evenly.

    Args:
        margin_type: `C`, `A` or `M`.
        margin: For `C` and `A` at least 0, for `M` at least 1.
        scale: What g is multiplied by, positive.
        sharpness: The exponent of g, at least 1.
        positive_share: The weight of the right class, in (0, 1).
        weight: Of the loss, positive.
    """

    levels: ClassVar[tuple[str, ...]] = ("full",)
    takes_scale: ClassVar[bool] = False
    margin_type: str = option("C", ("C", "A", "M"))
    margin: float = number(0.4, 0)
    scale: float = number(40.0, 0, ends="()")
    sharpness: float = number(3.0, 1)
    positive_share: float = number(0.7, 0, 1, "()")
    weight: float = number(50.0, 0, ends="()")

    def check(self) -> None:
        """Raises where a margin that multiplies would make an angle smaller."""
        if self.margin_type == "M" and self.margin < 1:
            raise ValueError(
                "`config.loss.margin` must be at least 1 with "
                f"`config.loss.margin_type='M'`, got {self.margin!r}."
            )

    def make(self, images: Any) -> nnx.Module:
        """((cosines, feature norm), labels, step) -> the loss of each example."""
        given: dict[str, Any] = dict(
            margin_type=self.margin_type,
            margin=self.margin,
            scale=self.scale,
            sharpness=self.sharpness,
            positive_share=self.positive_share,
        )
        bias = losses.sphereface2_bias(images.num_classes, **given)

        def loss(cos: Any, labels: Any, bias: Any) -> Any:
            return losses.sphereface2(
                cos, labels, bias=bias, weight=self.weight, **given
            )

        return _Binary(loss, bias)


STATEFUL: dict[str, type[LossConfig]] = {
    "sphereface2": SphereFace2,
    "adaface": AdaFace,
    "curricularface": CurricularFace,
    "adacos": AdaCos,
}
