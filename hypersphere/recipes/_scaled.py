"""What losses on scaled cosines share."""

import abc
import dataclasses
from collections.abc import Callable
from typing import Any

import jax.numpy as jnp

from hypersphere import losses
from hypersphere.training.settings import (
    Duration,
    HeadConfig,
    LossConfig,
    number,
    option,
)

Loss = Callable[[Any, Any, Any], Any]
"""(what the network returned, labels, step) -> one number per example."""


@dataclasses.dataclass(kw_only=True)
class Scaled(LossConfig, abc.ABC):
    """What losses on scaled cosines share.

    Args:
        scale: What cosines are multiplied by, dimensionless: sweep it first. 0 for the
            length of the feature.
    """

    scale: float = number(16.0, 0)

    def check_head(self, head: HeadConfig) -> None:
        """Raises where there are two scales."""
        super().check_head(head)
        if head.scale and self.scale:
            raise ValueError(
                f"`config.head.scale={head.scale!r}` has no effect with "
                f"`config.loss.scale={self.scale!r}`. Set that to 0, for what the head "
                "says."
            )

    def factor(self, norm: Any) -> Any:
        """The scale; where it is 0 the features' lengths, (batch, 1)."""
        return self.scale or jnp.reshape(norm, (-1, 1))

    def logits(self, outputs: Any) -> Any:
        """The factor times the cosines, without the margin."""
        cos, norm = outputs
        return self.factor(norm) * cos


def refuse_shares(head: HeadConfig, **spread: float) -> None:
    """Raises if what spreads over all classes is asked of a head that has not all.

    Args:
        head: The head.
        spread: Fields of the loss, which are zero where nothing is spread.
    """
    for field, value in spread.items():
        if head.level != "full" and value:
            raise ValueError(
                f"`config.head.level={head.level!r}` goes without `config.loss.{field}"
                f"={value!r}`, which spreads over all classes. Use 'full', or leave it "
                "at 0."
            )


@dataclasses.dataclass(kw_only=True)
class Ramped(LossConfig, abc.ABC):
    """What losses share whose margin may come little by little.

    Args:
        ramp_begin: Duration without a margin.
        ramp_end: Duration after which all of it counts; 0 for from the beginning.
        ramp_shape: `exponential`, which is fast at first, or `linear`.
    """

    ramp_begin: Duration = 0
    ramp_end: Duration = 0
    ramp_shape: str = option("exponential", ("exponential", "linear"))

    def check(self) -> None:
        """Raises where the shape of a ramp is asked for, and none."""
        super().check()
        if self.ramp_shape != "exponential" and not (self.ramp_begin or self.ramp_end):
            raise ValueError(
                f"`config.loss.ramp_shape={self.ramp_shape!r}` has no effect without "
                "`config.loss.ramp_end`. Set that, or leave it."
            )

    def ramp(self) -> Callable[[Any], Any]:
        """Step -> how much of the margin counts, in [0, 1].

        Raises:
            ValueError: If the ramp does not end after it begins.
        """
        if not (self.ramp_begin or self.ramp_end):
            return lambda step: 1.0
        if self.ramp_end <= self.ramp_begin:
            raise ValueError(
                "`config.loss.ramp_end` must come after `config.loss.ramp_begin`, got "
                f"{self.ramp_end!r} and {self.ramp_begin!r} steps."
            )
        begin, end = self.ramp_begin, self.ramp_end
        return losses.margin_ramp(begin, end, shape=self.ramp_shape)
