"""Losses on class centres by name: margins on the angles of an angular head."""

import abc
import dataclasses
import math
from typing import Any, ClassVar

from hypersphere import losses, ops
from hypersphere.recipes._scaled import Loss, Ramped, Scaled, refuse_shares
from hypersphere.training.settings import (
    HeadConfig,
    LossConfig,
    number,
    option,
    radians,
)


@dataclasses.dataclass(kw_only=True)
class NormFace(Scaled):
    """`losses.normface`.

    Args:
        label_smoothing: Share of the target spread over all classes, in [0, 1).
    """

    label_smoothing: float = number(0.0, 0, 1, "[)")

    def check_head(self, head: HeadConfig) -> None:
        """Raises where smoothed labels would need all classes, and there are not."""
        super().check_head(head)
        refuse_shares(head, label_smoothing=self.label_smoothing)

    def make(self, images: Any) -> Loss:
        """((cosines, feature norm), labels, step) -> the loss of each example."""
        del images

        def loss(outputs: Any, labels: Any, step: Any) -> Any:
            del step
            cos, norm = outputs
            smoothing, scale = self.label_smoothing, self.factor(norm)
            return self._loss(cos, labels, label_smoothing=smoothing, scale=scale)

        return loss

    def _loss(self, cos: Any, labels: Any, **given: Any) -> Any:
        return losses.normface(cos, labels, **given)


@dataclasses.dataclass(kw_only=True)
class _Margin(NormFace, Ramped, abc.ABC):
    """What losses with margins share, which may come by a ramp."""

    margins: ClassVar[dict[str, float]] = {"margin": 0.0}  # field -> where it is none

    def make(self, images: Any) -> Loss:
        """((cosines, feature norm), labels, step) -> the loss of each example."""
        del images
        share = self.ramp()

        def loss(outputs: Any, labels: Any, step: Any) -> Any:
            cos, norm = outputs
            margins = {
                field: none + (getattr(self, field) - none) * share(step)
                for field, none in self.margins.items()
            }
            smoothing, scale = self.label_smoothing, self.factor(norm)
            return self._loss(
                cos, labels, **margins, label_smoothing=smoothing, scale=scale
            )

        return loss


@dataclasses.dataclass(kw_only=True)
class CosFace(_Margin):
    """`losses.cosface`; its margin may come by a ramp, as `Ramped` says.

    Args:
        margin: Taken from the right class's cosine, at least 0.
    """

    scale: float = number(64.0, 0)
    margin: float = number(0.35, 0)

    def _loss(self, cos: Any, labels: Any, **given: Any) -> Any:
        return losses.cosface(cos, labels, **given)


@dataclasses.dataclass(kw_only=True)
class ArcFace(_Margin):
    """`losses.arcface`; its margin may come by a ramp, as `Ramped` says.

    Args:
        margin: What is added to the right class's angle, in radians, in [0, pi].
        past_pi: What comes past pi: `continuous`, `clip`, `pml` or `plain`.
        detach_margin: Whether the gradient is that of the plain cosine.
    """

    scale: float = number(64.0, 0)
    margin: float = radians(0.5)
    past_pi: str = option("continuous", ops.PAST_PI)
    detach_margin: bool = False

    def _loss(self, cos: Any, labels: Any, **given: Any) -> Any:
        given |= {"past_pi": self.past_pi, "detach_margin": self.detach_margin}
        return losses.arcface(cos, labels, **given)


@dataclasses.dataclass(kw_only=True)
class CombinedMargin(_Margin):
    """`losses.combined_margin`; its margins may come by a ramp, as `Ramped` says.

    Args:
        times: What the right class's angle is multiplied by, at least 1.
        angular: What is added to it, in radians, in [0, pi].
        cosine: What is taken from its cosine, at least 0.
        past_pi: What comes past pi: `continuous`, `clip`, `pml` or `plain`.
        detach_margin: Whether the gradient is that of the plain cosine.
    """

    margins: ClassVar[dict[str, float]] = {"times": 1.0, "angular": 0.0, "cosine": 0.0}
    scale: float = number(64.0, 0)
    times: float = number(1.0, 1)
    angular: float = radians(0.3)
    cosine: float = number(0.2, 0)
    past_pi: str = option("continuous", ops.PAST_PI)
    detach_margin: bool = False

    def _loss(self, cos: Any, labels: Any, **given: Any) -> Any:
        given |= {"past_pi": self.past_pi, "detach_margin": self.detach_margin}
        return losses.combined_margin(cos, labels, **given)


@dataclasses.dataclass(kw_only=True)
class SphereFace(_Margin):
    """`losses.sphereface`; its margin may come by a ramp, as `Ramped` says.

    Args:
        margin: What the right class's angle is multiplied by, at least 1.
        detach_margin: Whether the gradient is that of the plain cosine.
    """

    margins: ClassVar[dict[str, float]] = {"margin": 1.0}
    scale: float = number(30.0, 0)
    margin: float = number(1.7, 1)
    detach_margin: bool = False

    def _loss(self, cos: Any, labels: Any, **given: Any) -> Any:
        given["detach_margin"] = self.detach_margin
        return losses.sphereface(cos, labels, **given)


@dataclasses.dataclass(kw_only=True)
class SphereFaceR(Scaled, Ramped):
    """`losses.sphereface_r`; its margin may come by a ramp, as `Ramped` says.

    Args:
        version: `v0`, `v1` or `v2`.
        margin: What angles are multiplied or divided by, at least 1.
        weight: Of the loss, positive.
        detach_margin: Whether the gradient is that of the plain cosine; not for `v2`.
    """

    takes_scale: ClassVar[bool] = False
    scale: float = number(30.0, 0, ends="()")
    version: str = option("v1", ("v0", "v1", "v2"))
    margin: float = number(1.5, 1)
    weight: float = number(50.0, 0, ends="()")
    detach_margin: bool = False

    def check(self) -> None:
        """Raises where there is no margin on the right class to detach."""
        super().check()
        if self.version == "v2" and self.detach_margin:
            raise ValueError(
                "`config.loss.detach_margin=True` needs a margin on the right class, "
                "which `config.loss.version='v2'` does not have."
            )

    def make(self, images: Any) -> Loss:
        """((cosines, feature norm), labels, step) -> the loss of each example."""
        del images
        share = self.ramp()

        def loss(outputs: Any, labels: Any, step: Any) -> Any:
            return losses.sphereface_r(
                outputs[0],
                labels,
                version=self.version,
                margin=1 + (self.margin - 1) * share(step),
                scale=self.scale,
                weight=self.weight,
                detach_margin=self.detach_margin,
            )

        return loss


@dataclasses.dataclass(kw_only=True)
class MadaCos(LossConfig):
    """`losses.madacos`.

    Args:
        share: Of the probability that the median example is to give its class, (0, 1).
        least_scale: Positive.
    """

    levels: ClassVar[tuple[str, ...]] = ("full",)
    takes_scale: ClassVar[bool] = False
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
class MagFace(Scaled, Ramped):
    """`losses.magface`; its margins may come by a ramp, as `Ramped` says.

    Args:
        norms: The shortest and longest feature that count, positive.
        margins: Theirs, in radians, in [0, pi].
        regularizer: Weight of the reward for length, at least 0.
        past_pi: What comes past pi: `continuous`, `clip`, `pml` or `plain`.
    """

    takes_scale: ClassVar[bool] = False
    scale: float = number(64.0, 0)
    norms: tuple[float, ...] = (10.0, 110.0)
    margins: tuple[float, ...] = (0.45, 0.8)
    regularizer: float = number(35.0, 0)
    past_pi: str = option("continuous", ops.PAST_PI)

    def check(self) -> None:
        """Raises unless there are two norms and two margins that make sense."""
        super().check()
        is_rising = len(self.norms) == 2 and 0 < self.norms[0] < self.norms[1]
        if not is_rising or self.norms[1] == math.inf:
            raise ValueError(
                "`config.loss.norms` needs two positive numbers, the smaller first, "
                f"got {self.norms!r}."
            )
        if len(self.margins) != 2 or not all(0 <= m <= math.pi for m in self.margins):
            raise ValueError(
                "`config.loss.margins` needs two angles in radians, in [0, pi], got "
                f"{self.margins!r}."
            )

    def make(self, images: Any) -> Loss:
        """((cosines, feature norm), labels, step) -> the loss of each example."""
        del images
        (low, high), (least, most) = self.norms, self.margins
        share = self.ramp()

        def loss(outputs: Any, labels: Any, step: Any) -> Any:
            cos, norm = outputs
            return losses.magface(
                cos,
                labels,
                feature_norm=norm,
                norms=(low, high),
                margins=(least * share(step), most * share(step)),
                scale=self.factor(norm),
                regularizer=self.regularizer,
                past_pi=self.past_pi,
            )

        return loss


CENTRES: dict[str, type[LossConfig]] = {
    "normface": NormFace,
    "cosface": CosFace,
    "arcface": ArcFace,
    "combined_margin": CombinedMargin,
    "sphereface": SphereFace,
    "sphereface_r": SphereFaceR,
    "magface": MagFace,
    "madacos": MadaCos,
}
