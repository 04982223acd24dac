"""Optimizers by name."""

import dataclasses
from collections.abc import Collection

import optax

from hypersphere.recipes._adam import Adam, AdamW
from hypersphere.recipes._muon import Muon, NorMuon
from hypersphere.recipes._on_spheres import (
    SGDP,
    AdamP,
    Hyperball,
    ManifoldMuon,
    RiemannianAdam,
    RiemannianSGD,
)
from hypersphere.recipes._optimizer import Optimizer, Transformations
from hypersphere.training.settings import OptimConfig, number


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
    "manifold_muon": ManifoldMuon,
    "normuon": NorMuon,
    "muon": Muon,
}
