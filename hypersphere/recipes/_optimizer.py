"""What all optimizers share: what a step does with gradients."""

import abc
import copy
import dataclasses
import functools
import math
import re
from collections.abc import Callable, Collection, Mapping, Sequence
from typing import ClassVar, NamedTuple

import optax
from flax import nnx

from hypersphere import nn, optim
from hypersphere.recipes._parameters import (
    by_path,
    fitting,
    inner,
    is_kernel,
    mask,
    ranks_of,
)
from hypersphere.recipes._schedules import SCHEDULES, Schedule, in_steps
from hypersphere.training.settings import (
    Duration,
    OptimConfig,
    choose,
    number,
    recipe,
    resolve_section,
)

Transformations = list[optax.GradientTransformation]
ByRate = Callable[
    [Callable[[optax.Schedule], optax.GradientTransformation]],
    optax.GradientTransformation,
]


@dataclasses.dataclass(kw_only=True)
class Stepping(OptimConfig):
    """What all optimizers share; `Optimizer` is what most of them are.

    A step is made in this order. The gradient is clipped to `clip_norm`. The algorithm
    makes a direction of it. Where something decays, `weight_decay` times the parameter
    is added, for every algorithm alike; LAMB, as published, scales each layer's sum.
    The learning rate of each parameter follows, and in the end `unit_norm_every` puts
    spherical filters back on the sphere. Frozen parameters take no part: not in the
    gradient's length either, and they have no state.

    Patterns are globs on a parameter's path, such as `head.*` or `*.conv.kernel`; a
    star spans dots.

    Args:
        learning_rate: The highest, positive.
        schedule: How it changes, one of `recipes.SCHEDULES`.
        warmup: How long the rate first rises from zero.
        rates: Rates of chosen parameters, `PATTERN: SHARE` or `PATTERN: SHARE
            SCHEDULE`, such as `head.*: 10` or `stages.*: 0.1 constant`; the first
            pattern that fits counts. A schedule of its own has those fields of the
            main one that both have, else its defaults: `piecewise`, which needs
            boundaries, is for where the main one is, too.
        frozen: Patterns of parameters that stay as they are.
        freeze_averages: Whether a layer all of whose parameters are frozen normalizes
            by its running averages in training as well, which stand still.
        weight_decay: Decoupled, times the learning rate; at least 0.
        decay: Patterns of what decays; empty for all kernels but spherical ones.
        clip_norm: Longest gradient, all parameters together; 0 for any.
        unit_norm_every: Updates after which spherical filters are brought back to unit
            length; 0 for never. With 1 they cannot decay.
        keep_norm_every: Updates after which kernels outside of `head`, each as a whole,
            are brought back to the norm that they began with; 0 for never.
    """

    moved: ClassVar[Mapping[str, str]] = dict.fromkeys(
        ("boundaries", "factor", "power", "cooldown", "final"), "schedule"
    )

    learning_rate: float = number(1e-3, 0, ends="()")
    schedule: Schedule = recipe("optim.schedule")
    warmup: Duration = 0
    rates: tuple[str, ...] = ()
    frozen: tuple[str, ...] = ()
    freeze_averages: bool = True
    weight_decay: float = number(0.0, 0)
    decay: tuple[str, ...] = ()
    clip_norm: float = number(0.0, 0)
    unit_norm_every: int = number(0, 0)
    keep_norm_every: int = number(0, 0)

    def still(self) -> tuple[str, ...]:
        """Patterns of the layers whose running averages stand still."""
        return self.frozen if self.freeze_averages else ()

    @abc.abstractmethod
    def stepping(
        self, groups: "Groups", decay: Transformations, by_rate: ByRate
    ) -> Transformations:
        """What makes steps of gradients.

        Args:
            groups: Which parameters are what.
            decay: What adds the decay; empty for none.
            by_rate: (rate -> a transformation) -> that with the rate of each parameter.
        """

    def make(self, steps: int, model: nnx.Module) -> optax.GradientTransformation:
        """The optimizer, without the penalties, which are part of the loss.

        Args:
            steps: Of the whole run. Durations must be in steps by now.
            model: The network or, from `nnx.eval_shape`, its shapes.

        Returns:
            A transformation for `nnx.to_pure_dict(nnx.state(model, nnx.Param))`; its
            `update` needs the parameters. With only a learning rate in the config it is
            Optax's own.

        Raises:
            TypeError: If a duration is still a text.
            ValueError: If there is no such schedule, a pattern fits no parameter, or a
                setting would have no effect.

        Example:
            >>> import jax
            >>> import jax.numpy as jnp
            >>> from flax import nnx
            >>> from hypersphere import nn, recipes
            >>> model = nn.SphereLinear(4, 3, rngs=nnx.Rngs(0))
            >>> params = nnx.to_pure_dict(nnx.state(model, nnx.Param))
            >>> optimizer = recipes.SGD(learning_rate=0.5, frozen=("bias",)).make(
            ...     10, model
            ... )
            >>> gradients = jax.tree.map(jnp.ones_like, params)
            >>> updates, _ = optimizer.update(gradients, optimizer.init(params), params)
            >>> print(updates["bias"], updates["kernel"][0])
            [0. 0. 0.] [-0.5 -0.5 -0.5]
        """
        ranks = ranks_of(model)
        frozen = fitting("frozen", self.frozen, ranks)
        trained = [path for path in ranks if path not in frozen]
        if not trained:
            raise ValueError(
                "`config.optim.frozen` must leave a parameter to train, got "
                f"{self.frozen!r}, which is all {len(ranks)}."
            )
        spherical = frozenset(nn.directions(model))
        kernels = {path for path, rank in ranks.items() if is_kernel(path) and rank > 1}
        decayed = _decayed(self, ranks, kernels - spherical, frozen)
        weights = optax.add_decayed_weights(self.weight_decay, mask(decayed))
        optimizer = optax.chain(
            *([optax.clip_by_global_norm(self.clip_norm)] if self.clip_norm else []),
            *self.stepping(
                Groups(kernels - frozen, spherical - frozen, decayed),
                [weights] if decayed else [],
                functools.partial(_by_rate, self, steps, trained),
            ),
            *_unit_norm(self, spherical - frozen, decayed),
            *_kept_norm(self, inner(kernels) - frozen, decayed),
        )
        if not frozen:
            return optimizer
        return optax.partition(
            {"trained": optimizer, "frozen": optax.set_to_zero()},
            by_path(lambda path, _: "frozen" if path in frozen else "trained"),
        )

    def make_schedule(self, steps: int) -> optax.Schedule:
        """The learning rate of each step.

        It rises linearly from zero during `warmup` steps, and goes on by the schedule.

        Args:
            steps: Of the whole run. Durations must be in steps by now.

        Returns:
            A function from the step, counted from 0, to the learning rate.

        Raises:
            TypeError: If a duration is still a text.
            ValueError: If the durations do not fit the run.

        Example:
            >>> from hypersphere import recipes
            >>> config = recipes.SGD(learning_rate=0.1, warmup=10)
            >>> config.schedule = recipes.Cosine()
            >>> rate = config.make_schedule(110)
            >>> [round(float(rate(step)), 3) for step in (0, 5, 10, 60, 110)]
            [0.0, 0.05, 0.1, 0.05, 0.0]
        """
        warmup = in_steps("warmup", self.warmup)
        if not 0 <= warmup < steps:
            raise ValueError(
                "`config.optim.warmup` must be shorter than `config.steps`, got "
                f"{warmup} and {steps} steps."
            )
        after = self.schedule.make(self.learning_rate, warmup=warmup, steps=steps)
        if warmup == 0:
            return after
        rise = optax.linear_schedule(0.0, self.learning_rate, warmup)
        return optax.join_schedules([rise, after], [warmup])

    def refuse_unused(self) -> None:
        """Raises if a field is set that an optimizer of one's own leaves unused.

        The learning rate and its schedule are no such fields: that one may read them.
        """
        shaping = ("frozen", "rates", "clip_norm", "weight_decay", "decay")
        given = self.set_fields()
        for name in (*shaping, "unit_norm_every", "keep_norm_every"):
            if name in given:
                raise ValueError(
                    f"`config.optim.{name}={given[name]!r}` has no effect with an "
                    "optimizer of your own in `Parts`: make it part of that one."
                )


@dataclasses.dataclass(kw_only=True)
class Optimizer(Stepping):
    """An optimizer that makes a direction, which the decay and the rate follow."""

    @abc.abstractmethod
    def direction(
        self, kernels: Collection[str], decay: Transformations
    ) -> Transformations:
        """The algorithm, with the decay where it belongs.

        Args:
            kernels: The paths of all kernels.
            decay: What adds the decay; empty for none.
        """

    def stepping(
        self, groups: "Groups", decay: Transformations, by_rate: ByRate
    ) -> Transformations:
        """The direction, and then the rate."""
        rate = by_rate(optax.scale_by_learning_rate)
        return [*self.direction(groups.kernels, decay), rate]


class Groups(NamedTuple):
    """The paths of parameters that are trained, by what they are.

    Attributes:
        kernels: All kernels.
        spherical: Those of spherical filters.
        decayed: What the weight decay acts on.
    """

    kernels: Collection[str]
    spherical: Collection[str]
    decayed: Collection[str]


def _decayed(
    config: Stepping, paths: Collection[str], default: set[str], frozen: set[str]
) -> set[str]:
    if config.weight_decay:
        chosen = fitting("decay", config.decay, paths) if config.decay else default
        if decayed := chosen - frozen:
            return decayed
        raise ValueError(
            f"`config.optim.weight_decay={config.weight_decay!r}` has no parameter to "
            "act on: all kernels are spherical or frozen. Name some in "
            "`config.optim.decay`, or set it to 0."
        )
    if config.decay:
        raise ValueError(
            "`config.optim.decay` needs a positive `config.optim.weight_decay`, got "
            f"{config.weight_decay!r}."
        )
    return set()


def _by_rate(
    config: Stepping,
    steps: int,
    trained: Sequence[str],
    make: Callable[[optax.Schedule], optax.GradientTransformation],
) -> optax.GradientTransformation:
    """One rate for all, or one for each group of parameters."""
    schedules: dict[str, optax.Schedule] = {"": config.make_schedule(steps)}
    groups: dict[str, str] = {}
    for text in config.rates:
        pattern, changed = _parse_rate(text, config, steps)
        chosen = fitting("rates", [pattern], trained) - set(groups)
        if not chosen:
            raise ValueError(
                f"`config.optim.rates` has {text!r}, which comes too late: patterns "
                "before it take all its parameters. Put the narrower one first."
            )
        groups |= dict.fromkeys(chosen, text)
        schedules[text] = changed.make_schedule(steps)
    if not groups:
        return make(schedules[""])
    return optax.partition(
        {group: make(schedule) for group, schedule in schedules.items()},
        by_path(lambda path, _: groups.get(path, "")),
    )


def _parse_rate(text: str, config: Stepping, steps: int) -> tuple[str, Stepping]:
    """The pattern, and the config as it is for what it fits."""
    parts = re.fullmatch(r"\s*(\S+)\s*:\s*([\d.e+-]+)(?:\s+(\w+))?\s*", text)
    try:
        share = float(parts[2]) if parts else 0.0
    except ValueError:
        share = 0.0
    if not parts or not 0 < share < math.inf:
        raise ValueError(
            "`config.optim.rates` needs entries `PATTERN: SHARE` or `PATTERN: SHARE "
            f"SCHEDULE` with a positive share, such as 'head.*: 10', got {text!r}. "
            "What is not to be trained belongs into `config.optim.frozen`."
        )
    changed = copy.deepcopy(config)
    changed.learning_rate *= share
    if parts[3]:
        choose("optim.rates", parts[3], SCHEDULES)
        changed.schedule.name = parts[3]  # what both have is kept
        name = "config.optim.schedule"
        changed.schedule = resolve_section(changed.schedule, name, steps)
    return parts[1], changed


def _unit_norm(
    config: Stepping, spherical: Collection[str], decayed: Collection[str]
) -> list[optax.GradientTransformation]:
    every = config.unit_norm_every
    if not every:
        return []
    name = f"`config.optim.unit_norm_every={every!r}`"
    if not spherical:
        raise ValueError(
            f"{name} needs spherical filters that are trained, and there are none. Set "
            "it to 0."
        )
    if every == 1:  # else it acts until lengths are brought back
        refuse_decay(name, config.weight_decay, spherical, decayed)
    return [optax.masked(optim.keep_unit_norm(every=every), mask(spherical))]


def _kept_norm(
    config: Stepping, kernels: Collection[str], decayed: Collection[str]
) -> list[optax.GradientTransformation]:
    every = config.keep_norm_every
    if not every:
        return []
    name = f"`config.optim.keep_norm_every={every!r}`"
    if config.unit_norm_every:
        raise ValueError(
            f"{name} and `config.optim.unit_norm_every={config.unit_norm_every!r}` "
            "bring the same filters to different lengths. Set one of them to 0."
        )
    if not kernels:
        raise ValueError(
            f"{name} needs kernels outside of `head` that are trained, and there are "
            "none. Set it to 0."
        )
    refuse_decay(name, config.weight_decay, kernels, decayed)
    return [optax.masked(optim.keep_norm(every=every), mask(kernels))]


def refuse_decay(
    who: str, decay: float, kept: Collection[str], decayed: Collection[str]
) -> None:
    """Raises if something decays whose length is kept."""
    if held := sorted(set(kept) & set(decayed)):
        raise ValueError(
            f"`config.optim.weight_decay={decay!r}` acts on {held[0]}, whose length "
            f"{who} keeps: it would do nothing. Name others in `config.optim.decay`, "
            "or set it to 0."
        )
