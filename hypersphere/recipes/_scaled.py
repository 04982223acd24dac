"""What losses on scaled cosines share."""

import abc
import dataclasses
from collections.abc import Callable
from typing import Any

import jax.numpy as jnp

from hypersphere.training.settings import LossConfig, number

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
