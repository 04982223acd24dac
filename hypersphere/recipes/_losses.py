"""Losses by name."""

import abc
import dataclasses
from collections.abc import Callable
from typing import Any, ClassVar

import optax

from hypersphere import losses, ops
from hypersphere.recipes._centres import CENTRES
from hypersphere.recipes._scaled import Loss, Ramped, refuse_shares
from hypersphere.recipes._stateful import STATEFUL
from hypersphere.training.settings import HeadConfig, LossConfig, choose, number, option

SIMILARITIES: dict[str, Callable[[float], ops.Similarity]] = {
    "cosine": lambda k: ops.Cosine(),
    "linear": lambda k: ops.Linear(),
    "sigmoid": ops.Sigmoid,
}
"""Softness -> what makes logits of a head's cosines."""


@dataclasses.dataclass(kw_only=True)
class _Smoothed(LossConfig):
    """What losses without a margin share.

    Args:
        label_smoothing: Share of the target spread over all classes, in [0, 1).
        floor: What is added to each probability, at least 0.
    """

    label_smoothing: float = number(0.0, 0, 1, "[)")
    floor: float = number(0.0, 0)

    def check_head(self, head: HeadConfig) -> None:
        """Raises where the target would need all classes, and there are not."""
        super().check_head(head)
        refuse_shares(head, label_smoothing=self.label_smoothing, floor=self.floor)

    def _softmax(self, scores: Any, labels: Any) -> Any:
        smoothing, floor = self.label_smoothing, self.floor
        return losses.softmax(scores, labels, label_smoothing=smoothing, floor=floor)


@dataclasses.dataclass(kw_only=True)
class Softmax(_Smoothed):
    """`losses.softmax` of a linear head's scores, smoothed or not."""

    head: ClassVar[str] = "linear"

    def make(self, images: Any) -> Loss:
        """(scores, labels, step) -> the loss of each example."""
        del images
        return lambda scores, labels, step: self._softmax(scores, labels)


@dataclasses.dataclass(kw_only=True)
class WSoftmax(_Smoothed):
    """`losses.w_softmax` of an angular head, smoothed or not.

    Args:
        similarity: `cosine`, `linear` or `sigmoid`.
        k: Softness of the sigmoid, dimensionless, positive.
    """

    similarity: str = option("cosine", SIMILARITIES)
    k: float = number(0.3, 0, ends="()")

    def make(self, images: Any) -> Loss:
        """((cosines, feature norm), labels, step) -> the loss of each example."""
        del images
        g = self._similarity()

        def loss(outputs: Any, labels: Any, step: Any) -> Any:
            del step
            cos, norm = outputs
            if self.label_smoothing or self.floor:
                return self._softmax(norm * g(cos), labels)
            return losses.w_softmax(cos, labels, feature_norm=norm, similarity=g)

        return loss

    def logits(self, outputs: Any) -> Any:
        """The feature's length times the responses."""
        cos, norm = outputs
        return norm * self._similarity()(cos)

    def _similarity(self) -> ops.Similarity:
        return choose("loss.similarity", self.similarity, SIMILARITIES)(self.k)


@dataclasses.dataclass(kw_only=True)
class ASoftmax(Ramped):
    """`losses.a_softmax`: SphereFace's, which is `ga_softmax` of the cosine.

    Args:
        margin: What the right class's angle is multiplied by, at least 1.
        scale: What takes the place of the features' lengths; 0 for these.
        stop_norm_gradient: Whether lengths count but are not learned.
        anneal: Whether the margin is blended in as SphereFace does, by the step; a ramp
            does it by shares of the run.
        anneal_base: Lambda at the first step.
        anneal_gamma: How fast lambda falls, per step.
        anneal_power: The exponent of the fall.
        anneal_min: Where lambda stops.
    """

    margin: float = number(4.0, 1)
    scale: float = number(0.0, 0)
    stop_norm_gradient: bool = False
    anneal: bool = False
    anneal_base: float = number(1000.0, 0)
    anneal_gamma: float = number(0.12, 0)
    anneal_power: float = number(1.0, 0)
    anneal_min: float = number(5.0, 0)

    def check(self) -> None:
        """Raises where two fields say the same in two ways."""
        super().check()
        if self.anneal and (self.ramp_begin or self.ramp_end):
            raise ValueError(
                "`config.loss.anneal=True` and `config.loss.ramp_end` both blend the "
                "margin in. Choose one."
            )
        if self.scale and self.stop_norm_gradient:
            raise ValueError(
                "`config.loss.stop_norm_gradient=True` has no effect with "
                f"`config.loss.scale={self.scale!r}`. Choose one."
            )

    def check_head(self, head: HeadConfig) -> None:
        """Raises where there are two scales, or none of the features' lengths."""
        super().check_head(head)
        if head.scale and (self.scale or self.stop_norm_gradient):
            raise ValueError(
                f"`config.head.scale={head.scale!r}` takes the place of the features' "
                "lengths, and goes without `config.loss.scale` and "
                "`config.loss.stop_norm_gradient`. Choose one."
            )

    def make(self, images: Any) -> Loss:
        """((cosines, feature norm), labels, step) -> the loss of each example."""
        del images
        g, weight = self._similarity(), self._margin_weight()

        def loss(outputs: Any, labels: Any, step: Any) -> Any:
            cos, norm = outputs
            return losses.ga_softmax(
                cos,
                labels,
                feature_norm=None if self.scale else norm,
                scale=self.scale or None,
                stop_norm_gradient=self.stop_norm_gradient,
                margin=self.margin,
                similarity=g,
                margin_weight=weight(step),
            )

        return loss

    def logits(self, outputs: Any) -> Any:
        """The scale or the feature's length times the responses, without the margin."""
        cos, norm = outputs
        return (self.scale or norm) * self._similarity()(cos)

    def _similarity(self) -> ops.Similarity:
        return ops.Cosine()

    def _margin_weight(self) -> optax.Schedule:
        if not self.anneal:
            return self.ramp()
        return losses.annealed_margin_weight(
            base=self.anneal_base,
            gamma=self.anneal_gamma,
            power=self.anneal_power,
            lambda_min=self.anneal_min,
        )


@dataclasses.dataclass(kw_only=True)
class GASoftmax(ASoftmax):
    """`losses.ga_softmax` of an angular head, with the margin of `ASoftmax`.

    Args:
        similarity: `cosine`, `linear` or `sigmoid`.
        k: Softness of the sigmoid, dimensionless, positive.
    """

    similarity: str = option("linear", SIMILARITIES)
    k: float = number(0.3, 0, ends="()")

    def _similarity(self) -> ops.Similarity:
        return choose("loss.similarity", self.similarity, SIMILARITIES)(self.k)


@dataclasses.dataclass(kw_only=True)
class _OnScores(LossConfig, abc.ABC):
    """What losses on a linear head's scores share."""

    head: ClassVar[str] = "linear"

    def make(self, images: Any) -> Loss:
        """(scores, labels, step) -> the loss of each example."""
        del images
        return lambda scores, labels, step: self._loss(scores, labels)

    @abc.abstractmethod
    def _loss(self, scores: Any, labels: Any) -> Any:
        """The loss of each example."""


@dataclasses.dataclass(kw_only=True)
class SphericalSoftmax(_OnScores):
    """`losses.spherical_softmax`.

    Args:
        eps: What is added to each square, positive.
    """

    eps: float = number(1e-3, 0, ends="()")

    def scores(self, outputs: Any) -> Any:
        """How far from zero a score is, of either sign."""
        return abs(outputs)

    def logits(self, outputs: Any) -> Any:
        """Of which the softmax is the spherical one."""
        return losses.spherical_logits(outputs, eps=self.eps)

    def _loss(self, scores: Any, labels: Any) -> Any:
        return losses.spherical_softmax(scores, labels, eps=self.eps)


@dataclasses.dataclass(kw_only=True)
class TaylorSoftmax(_OnScores):
    """`losses.taylor_softmax`."""

    def scores(self, outputs: Any) -> Any:
        """How far from -1 a score is, where its class is the least probable."""
        return abs(outputs + 1)

    def logits(self, outputs: Any) -> Any:
        """Of which the softmax is Taylor's."""
        return losses.spherical_logits(outputs + 1, eps=1.0)

    def _loss(self, scores: Any, labels: Any) -> Any:
        return losses.taylor_softmax(scores, labels)


@dataclasses.dataclass(kw_only=True)
class ZLoss(_OnScores):
    """`losses.z_loss`.

    Args:
        sharpness: How sharply the loss bends at the target, positive.
        target: In standard deviations of an example's scores.
    """

    sharpness: float = number(1.0, 0, ends="()")
    target: float = 2.0

    def _loss(self, scores: Any, labels: Any) -> Any:
        sharpness, target = self.sharpness, self.target
        return losses.z_loss(scores, labels, sharpness=sharpness, target=target)


LOSSES: dict[str, type[LossConfig]] = {
    "softmax": Softmax,
    "w_softmax": WSoftmax,
    "ga_softmax": GASoftmax,
    "a_softmax": ASoftmax,
    "spherical_softmax": SphericalSoftmax,
    "taylor_softmax": TaylorSoftmax,
    "z_loss": ZLoss,
    **CENTRES,
    **STATEFUL,
}
