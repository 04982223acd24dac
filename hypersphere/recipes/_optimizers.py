"""Optimizers by name."""

import dataclasses
import math
from collections.abc import Collection
from typing import Any

import optax
from optax import contrib

from hypersphere.recipes._on_spheres import (
    SGDP,
    AdamP,
    Hyperball,
    RiemannianAdam,
    RiemannianSGD,
)
from hypersphere.recipes._optimizer import Optimizer, Transformations
from hypersphere.recipes._parameters import by_path
from hypersphere.training.settings import OptimConfig, number

# Muon's steps have the root mean square of Adam's, which is about this.
_ADAM_RMS = 0.2


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


@dataclasses.dataclass(kw_only=True)
class SGD(Optimizer):
    """Stochastic gradient descent; it has the fields of every optimizer too.

    Args:
        momentum: Share of the direction that a step keeps, in [0, 1).
        nesterov: Whether the momentum looks ahead.
    """

    momentum: float = number(0.9, 0, 1, "[)")
    nesterov: bool = False

    def direction(
        self, kernels: Collection[str], decay: Transformations
    ) -> Transformations:
        """The momentum, and the decay."""
        del kernels
        if not self.momentum:
            return decay
        return [optax.trace(self.momentum, nesterov=self.nesterov), *decay]


@dataclasses.dataclass(kw_only=True)
class Lion(Optimizer):
    """Lion; beside its own fields it has those of every optimizer.

    Args:
        b1: Share of the mean in what a step's sign is taken of, in [0, 1).
        b2: Share of the mean of gradients that a step keeps, in [0, 1).

    References:
        Chen et al., Symbolic Discovery of Optimization Algorithms, NeurIPS 2023.
        https://arxiv.org/abs/2302.06675
    """

    b1: float = number(0.9, 0, 1, "[)")
    b2: float = number(0.99, 0, 1, "[)")

    def direction(
        self, kernels: Collection[str], decay: Transformations
    ) -> Transformations:
        """Lion's sign, and the decay."""
        del kernels
        return [optax.scale_by_lion(self.b1, self.b2), *decay]


@dataclasses.dataclass(kw_only=True)
class LAMB(Optimizer):
    """LAMB; beside its own fields it has those of every optimizer.

    Args:
        b1: Share of the mean of gradients that a step keeps, in [0, 1).
        b2: Share of the mean of their squares that a step keeps, in [0, 1).
        eps: What is added to the root of these, at least 0.

    References:
        You et al., Large Batch Optimization for Deep Learning, ICLR 2020.
        https://arxiv.org/abs/1904.00962
    """

    b1: float = number(0.9, 0, 1, "[)")
    b2: float = number(0.999, 0, 1, "[)")
    eps: float = number(1e-6, 0)

    def direction(
        self, kernels: Collection[str], decay: Transformations
    ) -> Transformations:
        """Adam's step with the decay, as long as each layer's parameters are."""
        del kernels
        adam = optax.scale_by_adam(self.b1, self.b2, self.eps)
        return [adam, *decay, optax.scale_by_trust_ratio()]


@dataclasses.dataclass(kw_only=True)
class Muon(Optimizer):
    """Muon for kernels, Adam for the rest; with the fields of every optimizer.

    It takes the kernels outside of `head`, as matrices (fan_in, filters). One learning
    rate serves both: Muon's steps are scaled to the size of Adam's.

    References:
        Jordan et al., Muon, 2024. https://kellerjordan.github.io/posts/muon/
        Liu et al., Muon is Scalable for LLM Training, 2025: the size of its steps.
        https://arxiv.org/abs/2502.16982
    """

    def direction(
        self, kernels: Collection[str], decay: Transformations
    ) -> Transformations:
        """Muon's direction and Adam's, and the decay."""
        return [*_muon(kernels), *decay]


def _muon(kernels: Collection[str]) -> list[optax.GradientTransformation]:
    """Muon's direction for kernels but those of the head, Adam's for the rest."""

    def is_matrix(path: str) -> bool:
        return path in kernels and path.split(".")[0] != "head"

    def axes(path: str, leaf: Any) -> contrib.MuonDimensionNumbers | None:
        if not is_matrix(path):
            return None
        *fan_in, filters = range(leaf.ndim)
        return contrib.MuonDimensionNumbers(fan_in, filters)

    def resized(path: str, update: Any) -> Any:
        # Optax has scaled by sqrt(max(1, filters / fan_in)); together they are
        # sqrt(max(fan_in, filters)), which makes the mean square of an entry one.
        size = _ADAM_RMS * math.sqrt(math.prod(update.shape[:-1]))
        return size * update if is_matrix(path) else update

    # At the rate -1, of which Optax takes the negative, a step is the direction.
    direction = contrib.muon(-1.0, muon_weight_dimension_numbers=by_path(axes))
    return [direction, optax.stateless(lambda updates, _: by_path(resized)(updates))]


OPTIMIZERS: dict[str, type[OptimConfig]] = {
    "adam": Adam,
    "adamw": AdamW,
    "sgd": SGD,
    "lion": Lion,
    "lamb": LAMB,
    "riemannian_sgd": RiemannianSGD,
    "riemannian_adam": RiemannianAdam,
    "hyperball": Hyperball,
    "adamp": AdamP,
    "sgdp": SGDP,
    "muon": Muon,
}
