"""Optimizers by name that keep parameters on spheres, or let them grow less."""

import abc
import dataclasses
from collections.abc import Collection

import optax

from hypersphere import optim
from hypersphere.recipes._adam import Adam
from hypersphere.recipes._muon import muon
from hypersphere.recipes._optimizer import (
    ByRate,
    Groups,
    Optimizer,
    Stepping,
    Transformations,
    refuse_decay,
)
from hypersphere.recipes._parameters import by_path, inner
from hypersphere.training.settings import number, option


@dataclasses.dataclass(kw_only=True)
class OnSpheres(Optimizer, abc.ABC):
    """An optimizer for some parameters, and the usual one of its kind for the rest."""

    @abc.abstractmethod
    def moving(
        self, rate: optax.Schedule, chosen: Collection[str]
    ) -> optax.GradientTransformation:
        """Steps on spheres at a rate, for parameters with these paths."""

    def chosen(self, groups: Groups) -> set[str]:
        """The paths of what is on spheres: spherical filters."""
        return set(groups.spherical)

    def stepping(
        self, groups: Groups, decay: Transformations, by_rate: ByRate
    ) -> Transformations:
        """Steps on spheres for some, and else the direction and the rate."""
        chosen, name = self.chosen(groups), f"config.optim.name={self.name!r}"
        if not chosen:
            raise ValueError(
                f"`{name}` needs parameters to keep on spheres that are trained, and "
                "there are none in this network. Choose another optimizer."
            )
        for field in ("unit_norm_every", "keep_norm_every"):
            if every := getattr(self, field):
                raise ValueError(
                    f"`config.optim.{field}={every!r}` has no effect with `{name}`, "
                    "which keeps lengths at every step. Set it to 0."
                )
        refuse_decay(f"`{name}`", self.weight_decay, chosen, groups.decayed)

        def at(rate: optax.Schedule) -> optax.GradientTransformation:
            rest = self.direction(groups.kernels, decay)
            return optax.partition(
                {
                    "sphere": self.moving(rate, chosen),
                    "rest": optax.chain(*rest, optax.scale_by_learning_rate(rate)),
                },
                by_path(lambda path, _: "sphere" if path in chosen else "rest"),
            )

        return [by_rate(at)]


@dataclasses.dataclass(kw_only=True)
class RiemannianSGD(OnSpheres):
    """Gradient descent along spheres for spherical filters, in flat space for the rest.

    Args:
        momentum: Share of the direction that a step keeps, in [0, 1).

    References:
        Bonnabel, Stochastic Gradient Descent on Riemannian Manifolds, 2013.
        https://arxiv.org/abs/1111.5280
    """

    momentum: float = number(0.9, 0, 1, "[)")

    def direction(
        self, kernels: Collection[str], decay: Transformations
    ) -> Transformations:
        """The momentum, and the decay."""
        del kernels
        return [optax.trace(self.momentum), *decay] if self.momentum else decay

    def moving(
        self, rate: optax.Schedule, chosen: Collection[str]
    ) -> optax.GradientTransformation:
        """The momentum, along spheres."""
        del chosen
        return optim.riemannian_sgd(rate, momentum=self.momentum)


@dataclasses.dataclass(kw_only=True)
class RiemannianAdam(OnSpheres, Adam):
    """Adam along spheres for spherical filters, in flat space for the rest.

    References:
        Becigneul and Ganea, Riemannian Adaptive Optimization Methods, ICLR 2019.
        https://arxiv.org/abs/1810.00760
    """

    def moving(
        self, rate: optax.Schedule, chosen: Collection[str]
    ) -> optax.GradientTransformation:
        """Adam, along spheres."""
        del chosen
        return optim.riemannian_adam(rate, b1=self.b1, b2=self.b2, adam_eps=self.eps)


@dataclasses.dataclass(kw_only=True)
class Hyperball(OnSpheres, Adam):
    """Kernels that keep the norm they begin with (AdamH, MuonH), and Adam for the rest.

    It takes all kernels outside of `head`, plain ones as well; each turns by about the
    learning rate in a step, in radians.

    Args:
        base: What makes the direction, `adam` or `muon`.
        each_filter: Whether each filter keeps its norm, and not the kernel as a whole.

    References:
        Hyperball, 2026. https://arxiv.org/abs/2606.16899
    """

    base: str = option("adam", ("adam", "muon"))
    each_filter: bool = False

    def chosen(self, groups: Groups) -> set[str]:
        """The kernels but those of the head."""
        return inner(groups.kernels)

    def moving(
        self, rate: optax.Schedule, chosen: Collection[str]
    ) -> optax.GradientTransformation:
        """The direction of the base, at constant norms."""
        if self.base == "muon":
            direction = optax.chain(*muon(chosen))
        else:
            direction = optax.scale_by_adam(self.b1, self.b2, self.eps)
        around = optim.spherical if self.each_filter else optim.hyperball
        return around(direction, rate)


@dataclasses.dataclass(kw_only=True)
class ManifoldMuon(OnSpheres, Adam):
    """Kernels whose filters stay orthonormal, and Adam for the rest. Experimental.

    It takes all kernels outside of `head`; where there are more filters than numbers in
    one, the rows are orthonormal.

    Args:
        momentum: Share of the gradient's mean that a step keeps, in [0, 1).
        dual_rate: The rate at which a step is made tangent, positive.
        dual_steps: The most rounds of that, each a singular value decomposition.

    References:
        Bernstein, Modular Manifolds, 2025.
        https://thinkingmachines.ai/blog/modular-manifolds/
    """

    momentum: float = number(0.9, 0, 1, "[)")
    dual_rate: float = number(0.01, 0, ends="()")
    dual_steps: int = number(100, 1)

    def chosen(self, groups: Groups) -> set[str]:
        """The kernels but those of the head."""
        return inner(groups.kernels)

    def moving(
        self, rate: optax.Schedule, chosen: Collection[str]
    ) -> optax.GradientTransformation:
        """The mean gradient's step, along the manifold."""
        del chosen
        along = optim.manifold_muon(
            rate, dual_rate=self.dual_rate, dual_steps=self.dual_steps
        )
        mean = optax.ema(self.momentum, debias=False)
        return optax.chain(mean, along) if self.momentum else along


@dataclasses.dataclass(kw_only=True)
class _Projected(Stepping):
    """What leaves out of steps what only makes filters longer.

    Args:
        delta: How small the largest cosine of gradient and parameter has to be, times
            the root of a filter's size; positive.
        decay_ratio: What the decay is multiplied by then, in [0, 1].
        nesterov: Whether the momentum looks ahead.
    """

    delta: float = number(0.1, 0, ends="()")
    decay_ratio: float = number(0.1, 0, 1)
    nesterov: bool = False

    @abc.abstractmethod
    def moving(
        self, rate: optax.Schedule, weight_decay: float
    ) -> optax.GradientTransformation:
        """Steps at a rate, with a decay of their own."""

    def stepping(
        self, groups: Groups, decay: Transformations, by_rate: ByRate
    ) -> Transformations:
        """Steps with the decay, and without."""
        del decay

        def at(rate: optax.Schedule) -> optax.GradientTransformation:
            shares = {"decayed": self.weight_decay, "kept": 0.0}
            return optax.partition(
                {name: self.moving(rate, share) for name, share in shares.items()},
                by_path(lambda p, _: "decayed" if p in groups.decayed else "kept"),
            )

        return [by_rate(at)]


@dataclasses.dataclass(kw_only=True)
class AdamP(_Projected):
    """AdamP, for all parameters alike; it finds out which are scale-invariant.

    Args:
        b1: Share of the mean of gradients that a step keeps, in [0, 1).
        b2: Share of the mean of their squares that a step keeps, in [0, 1).
        eps: What is added to the root of these, positive.
        delta: How small the largest cosine of gradient and parameter has to be, times
            the root of a filter's size; positive.
        decay_ratio: What the decay is multiplied by then, in [0, 1].
        nesterov: Whether the momentum looks ahead.

    References:
        Heo et al., AdamP, ICLR 2021. https://arxiv.org/abs/2006.08217
    """

    b1: float = number(0.9, 0, 1, "[)")
    b2: float = number(0.999, 0, 1, "[)")
    eps: float = number(1e-8, 0, ends="()")

    def moving(
        self, rate: optax.Schedule, weight_decay: float
    ) -> optax.GradientTransformation:
        """AdamP's steps."""
        return optim.adamp(
            rate,
            b1=self.b1,
            b2=self.b2,
            adam_eps=self.eps,
            weight_decay=weight_decay,
            delta=self.delta,
            decay_ratio=self.decay_ratio,
            nesterov=self.nesterov,
        )


@dataclasses.dataclass(kw_only=True)
class SGDP(_Projected):
    """SGDP, for all parameters alike; it finds out which are scale-invariant.

    Args:
        momentum: Share of the direction that a step keeps, in [0, 1).
        delta: How small the largest cosine of gradient and parameter has to be, times
            the root of a filter's size; positive.
        decay_ratio: What the decay is multiplied by then, in [0, 1].
        nesterov: Whether the momentum looks ahead.

    References:
        Heo et al., AdamP, ICLR 2021. https://arxiv.org/abs/2006.08217
    """

    momentum: float = number(0.9, 0, 1, "[)")

    def moving(
        self, rate: optax.Schedule, weight_decay: float
    ) -> optax.GradientTransformation:
        """SGDP's steps."""
        return optim.sgdp(
            rate,
            momentum=self.momentum,
            nesterov=self.nesterov,
            weight_decay=weight_decay,
            delta=self.delta,
            decay_ratio=self.decay_ratio,
        )
