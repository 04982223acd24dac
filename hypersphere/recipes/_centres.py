"""Losses on class centres by name: margins on the angles of an angular head."""

import abc
import dataclasses
from collections.abc import Callable
from typing import Any

import jax.numpy as jnp
from flax import nnx

from hypersphere import losses
from hypersphere.training.settings import LossConfig, number, option, radians

Loss = Callable[[Any, Any, Any], Any]

PAST_PI = ("continuous", "clip", "pml", "plain")


class _Stateful(nnx.Module):
    """A loss with what it knows of the steps before; an evaluation leaves it alone."""

    def __init__(self, loss: Callable[..., Any], state: Any):
        self.loss, self.kind = loss, type(state)
        values = state._asdict().items()
        self.state = nnx.Dict(
            {name: nnx.Variable(jnp.asarray(v, jnp.float32)) for name, v in values}
        )

    def __call__(self, outputs: Any, labels: Any, step: Any) -> Any:
        del step
        before = self.kind(**{name: kept[...] for name, kept in self.state.items()})
        loss, after = self.loss(outputs, labels, before)
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
class _Scaled(LossConfig, abc.ABC):
    """What losses on scaled cosines share.

    Args:
        scale: What cosines are multiplied by, dimensionless: sweep it first. 0 for the
            length of the feature.
    """

    scale: float = number(16.0, 0)

    def _factor(self, norm: Any) -> Any:
        return self.scale or jnp.reshape(norm, (-1, 1))


@dataclasses.dataclass(kw_only=True)
class NormFace(_Scaled):
    """`losses.normface`.

    Args:
        label_smoothing: Share of the target spread over all classes, in [0, 1).
    """

    label_smoothing: float = number(0.0, 0, 1, "[)")

    def make(self, images: Any) -> Loss:
        """((cosines, feature norm), labels, step) -> the loss of each example."""
        del images

        def loss(outputs: Any, labels: Any, step: Any) -> Any:
            del step
            cos, norm = outputs
            given: dict[str, Any] = {"scale": self._factor(norm)}
            return self._loss(
                cos, labels, label_smoothing=self.label_smoothing, **given
            )

        return loss

    def _loss(self, cos: Any, labels: Any, **given: Any) -> Any:
        return losses.normface(cos, labels, **given)


@dataclasses.dataclass(kw_only=True)
class CosFace(NormFace):
    """`losses.cosface`.

    Args:
        margin: Taken from the right class's cosine, at least 0.
    """

    scale: float = number(64.0, 0)
    margin: float = number(0.35, 0)

    def _loss(self, cos: Any, labels: Any, **given: Any) -> Any:
        return losses.cosface(cos, labels, margin=self.margin, **given)


@dataclasses.dataclass(kw_only=True)
class ArcFace(NormFace):
    """`losses.arcface`.

    Args:
        margin: What is added to the right class's angle, in radians, in [0, pi].
        past_pi: What comes past pi: `continuous`, `clip`, `pml` or `plain`.
        detach_margin: Whether the gradient is that of the plain cosine.
    """

    scale: float = number(64.0, 0)
    margin: float = radians(0.5)
    past_pi: str = option("continuous", PAST_PI)
    detach_margin: bool = False

    def _loss(self, cos: Any, labels: Any, **given: Any) -> Any:
        return losses.arcface(cos, labels, margin=self.margin, **self._moved(), **given)

    def _moved(self) -> dict[str, Any]:
        return {"past_pi": self.past_pi, "detach_margin": self.detach_margin}


@dataclasses.dataclass(kw_only=True)
class CombinedMargin(NormFace):
    """`losses.combined_margin`.

    Args:
        times: What the right class's angle is multiplied by, at least 1.
        angular: What is added to it, in radians, in [0, pi].
        cosine: What is taken from its cosine, at least 0.
        past_pi: What comes past pi: `continuous`, `clip`, `pml` or `plain`.
        detach_margin: Whether the gradient is that of the plain cosine.
    """

    scale: float = number(64.0, 0)
    times: float = number(1.0, 1)
    angular: float = radians(0.3)
    cosine: float = number(0.2, 0)
    past_pi: str = option("continuous", PAST_PI)
    detach_margin: bool = False

    def _loss(self, cos: Any, labels: Any, **given: Any) -> Any:
        past_pi: Any = self.past_pi
        return losses.combined_margin(
            cos,
            labels,
            times=self.times,
            angular=self.angular,
            cosine=self.cosine,
            past_pi=past_pi,
            detach_margin=self.detach_margin,
            **given,
        )


@dataclasses.dataclass(kw_only=True)
class SphereFace(NormFace):
    """`losses.sphereface`.

    Args:
        margin: What the right class's angle is multiplied by, at least 1.
        detach_margin: Whether the gradient is that of the plain cosine.
    """

    scale: float = number(30.0, 0)
    margin: float = number(1.7, 1)
    detach_margin: bool = False

    def _loss(self, cos: Any, labels: Any, **given: Any) -> Any:
        given["detach_margin"] = self.detach_margin
        return losses.sphereface(cos, labels, margin=self.margin, **given)


@dataclasses.dataclass(kw_only=True)
class SphereFaceR(_Scaled):
    """`losses.sphereface_r`.

    Args:
        version: `v0`, `v1` or `v2`.
        margin: What angles are multiplied or divided by, at least 1.
        weight: Of the loss, positive.
        detach_margin: Whether the gradient is that of the plain cosine; not for `v2`.
    """

    scale: float = number(30.0, 0, ends="()")
    version: str = option("v1", ("v0", "v1", "v2"))
    margin: float = number(1.5, 1)
    weight: float = number(50.0, 0, ends="()")
    detach_margin: bool = False

    def make(self, images: Any) -> Loss:
        """((cosines, feature norm), labels, step) -> the loss of each example."""
        del images
        version: Any = self.version

        def loss(outputs: Any, labels: Any, step: Any) -> Any:
            del step
            return losses.sphereface_r(
                outputs[0],
                labels,
                version=version,
                margin=self.margin,
                scale=self.scale,
                weight=self.weight,
                detach_margin=self.detach_margin,
            )

        return loss


@dataclasses.dataclass(kw_only=True)
class MadaCos(LossConfig):
    """`losses.madacos`.

    Args:
        share: Of the probability that wrong classes are to have, in (0, 1).
        least_scale: Positive.
    """

    share: float = number(0.02, 0, 1, "()")
    least_scale: float = number(32.0, 0, ends="()")

    def make(self, images: Any) -> Loss:
        """((cosines, feature norm), labels, step) -> the loss of each example."""
        del images

        def loss(outputs: Any, labels: Any, step: Any) -> Any:
            del step
            share, least = self.share, self.least_scale
            return losses.madacos(outputs[0], labels, share=share, least_scale=least)

        return loss


@dataclasses.dataclass(kw_only=True)
class SphereFace2(LossConfig):
    """`losses.sphereface2`, whose bias is learned from where it starts evenly.

    Args:
        margin_type: `C`, `A` or `M`.
        margin: For `C` and `A` at least 0, for `M` at least 1.
        scale: What g is multiplied by, positive.
        sharpness: The exponent of g, positive.
        positive_share: The weight of the right class, in (0, 1).
        weight: Of the loss, positive.
    """

    margin_type: str = option("C", ("C", "A", "M"))
    margin: float = number(0.4, 0)
    scale: float = number(40.0, 0, ends="()")
    sharpness: float = number(3.0, 0, ends="()")
    positive_share: float = number(0.7, 0, 1, "()")
    weight: float = number(50.0, 0, ends="()")

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


@dataclasses.dataclass(kw_only=True)
class AdaFace(_Scaled):
    """`losses.adaface`, with its running statistics of feature norms.

    Args:
        margin: In radians, in [0, pi], and a cosine at once.
        concentration: What the relative norm is multiplied by, at least 0.
        momentum: Share of the statistics that a step keeps, in [0, 1].
    """

    scale: float = number(64.0, 0)
    margin: float = radians(0.4)
    concentration: float = number(0.333, 0)
    momentum: float = number(0.99, 0, 1)

    def make(self, images: Any) -> nnx.Module:
        """((cosines, feature norm), labels, step) -> the loss of each example."""
        del images

        def loss(outputs: Any, labels: Any, state: Any) -> Any:
            cos, norm = outputs
            return losses.adaface(
                cos,
                labels,
                state,
                feature_norm=norm,
                margin=self.margin,
                concentration=self.concentration,
                scale=self._factor(norm),
                momentum=self.momentum,
            )

        return _Stateful(loss, losses.AdaFaceState())


@dataclasses.dataclass(kw_only=True)
class MagFace(_Scaled):
    """`losses.magface`.

    Args:
        norms: The shortest and longest feature that count, positive.
        margins: Theirs, in radians, in [0, pi].
        regularizer: Weight of the reward for length, at least 0.
        past_pi: What comes past pi: `continuous`, `clip`, `pml` or `plain`.
    """

    scale: float = number(64.0, 0)
    norms: tuple[float, ...] = (10.0, 110.0)
    margins: tuple[float, ...] = (0.45, 0.8)
    regularizer: float = number(35.0, 0)
    past_pi: str = option("continuous", PAST_PI)

    def check(self) -> None:
        """Raises unless there are two norms and two margins."""
        for name in ("norms", "margins"):
            if len(getattr(self, name)) != 2:
                raise ValueError(
                    f"`config.loss.{name}` needs two numbers, got "
                    f"{getattr(self, name)!r}."
                )

    def make(self, images: Any) -> Loss:
        """((cosines, feature norm), labels, step) -> the loss of each example."""
        del images
        past_pi: Any = self.past_pi
        (low, high), (least, most) = self.norms, self.margins

        def loss(outputs: Any, labels: Any, step: Any) -> Any:
            del step
            cos, norm = outputs
            return losses.magface(
                cos,
                labels,
                feature_norm=norm,
                norms=(low, high),
                margins=(least, most),
                scale=self._factor(norm),
                regularizer=self.regularizer,
                past_pi=past_pi,
            )

        return loss


@dataclasses.dataclass(kw_only=True)
class CurricularFace(_Scaled):
    """`losses.curricularface`, with its running mean.

    Args:
        margin: In radians, in [0, pi].
        momentum: Share of the mean that a step keeps, in [0, 1].
        past_pi: What comes past pi: `continuous`, `clip`, `pml` or `plain`.
    """

    scale: float = number(64.0, 0)
    margin: float = radians(0.5)
    momentum: float = number(0.99, 0, 1)
    past_pi: str = option("continuous", PAST_PI)

    def make(self, images: Any) -> nnx.Module:
        """((cosines, feature norm), labels, step) -> the loss of each example."""
        del images
        past_pi: Any = self.past_pi

        def loss(outputs: Any, labels: Any, state: Any) -> Any:
            cos, norm = outputs
            return losses.curricularface(
                cos,
                labels,
                state,
                margin=self.margin,
                scale=self._factor(norm),
                momentum=self.momentum,
                past_pi=past_pi,
            )

        return _Stateful(loss, losses.CurricularFaceState())


@dataclasses.dataclass(kw_only=True)
class AdaCos(LossConfig):
    """`losses.adacos`, with the scale that it has found; nothing is to be chosen."""

    def make(self, images: Any) -> nnx.Module:
        """((cosines, feature norm), labels, step) -> the loss of each example."""

        def loss(outputs: Any, labels: Any, state: Any) -> Any:
            return losses.adacos(outputs[0], labels, state)

        return _Stateful(loss, losses.adacos_start(images.num_classes))


CENTRES: dict[str, type[LossConfig]] = {
    "normface": NormFace,
    "cosface": CosFace,
    "arcface": ArcFace,
    "combined_margin": CombinedMargin,
    "sphereface": SphereFace,
    "sphereface_r": SphereFaceR,
    "sphereface2": SphereFace2,
    "adaface": AdaFace,
    "magface": MagFace,
    "curricularface": CurricularFace,
    "adacos": AdaCos,
    "madacos": MadaCos,
}
