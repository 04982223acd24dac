"""What losses on scaled cosines share."""

import abc
import dataclasses
from collections.abc import Callable
from typing import Any

import jax.numpy as jnp

from hypersphere import losses
from hypersphere.training.settings import Duration, LossConfig, number, option

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

    def factor(self, norm: Any) -> Any:
        """The scale; where it is 0 the features' lengths, (batch, 1)."""
        return self.scale or jnp.reshape(norm, (-1, 1))


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
