"""Adam by name."""

import dataclasses
from collections.abc import Collection

import optax

from hypersphere.recipes._optimizer import Optimizer, Transformations
from hypersphere.training.settings import number


@dataclasses.dataclass(kw_only=True)
class Adam(Optimizer):
    """Adam; beside its own fields it has those of every optimizer.

    Args:
        b1: Share of the mean of gradients that a step keeps, in [0, 1).
        b2: Share of the mean of their squares that a step keeps, in [0, 1).
        eps: What is added to the root of these, at least 0.

    References:
        Kingma and Ba, Adam, ICLR 2015. https://arxiv.org/abs/1412.6980
    """

    b1: float = number(0.9, 0, 1, "[)")
    b2: float = number(0.999, 0, 1, "[)")
    eps: float = number(1e-8, 0)

    def direction(
        self, kernels: Collection[str], decay: Transformations
    ) -> Transformations:
        """Adam's step, and the decay."""
        del kernels
        return [optax.scale_by_adam(self.b1, self.b2, self.eps), *decay]


@dataclasses.dataclass(kw_only=True)
class AdamW(Adam):
    """Adam that needs a `weight_decay`.

    References:
        Loshchilov and Hutter, Decoupled Weight Decay Regularization, ICLR 2019.
        https://arxiv.org/abs/1711.05101
    """

    def direction(
        self, kernels: Collection[str], decay: Transformations
    ) -> Transformations:
        """Adam's step, and the decay, without which it would be Adam."""
        if not decay:
            raise ValueError(
                "`config.optim.name='adamw'` needs a positive "
                "`config.optim.weight_decay`, got "
                f"{self.weight_decay!r}. AdamW without decay is 'adam'."
            )
        return super().direction(kernels, decay)
