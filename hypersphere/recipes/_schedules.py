"""Schedules of the learning rate by name."""

import abc
import dataclasses
from typing import ClassVar

import optax

from hypersphere.training.settings import Duration, Recipe, number


@dataclasses.dataclass(kw_only=True)
class Schedule(Recipe, abc.ABC):
    """How the learning rate goes on after its warm-up."""

    path: ClassVar[str] = "optim.schedule"

    @abc.abstractmethod
    def make(self, peak: float, *, warmup: int, steps: int) -> optax.Schedule:
        """The rate of each step after the warm-up, counted from 0.

        Args:
            peak: The highest rate.
            warmup: Steps before.
            steps: Of the whole run. What falls ends here, at the step after the last.
        """


@dataclasses.dataclass(kw_only=True)
class Constant(Schedule):
    """The rate stays."""

    def make(self, peak: float, *, warmup: int, steps: int) -> optax.Schedule:
        """The same rate at every step."""
        del warmup, steps
        return optax.constant_schedule(peak)


@dataclasses.dataclass(kw_only=True)
class Piecewise(Schedule):
    """The rate is multiplied by a factor now and then.

    Args:
        boundaries: When.
        factor: By what, positive.
    """

    boundaries: tuple[Duration, ...] = ()
    factor: float = number(0.1, 0, ends="()")

    def make(self, peak: float, *, warmup: int, steps: int) -> optax.Schedule:
        """The rate of each step; a shortened run may end before a boundary."""
        del steps
        boundaries = [in_steps("schedule.boundaries", each) for each in self.boundaries]
        in_order = [warmup, *boundaries]
        if not boundaries or in_order != sorted(set(in_order)):
            raise ValueError(
                "`config.optim.schedule.boundaries` must be at least one step, rising, "
                f"after `config.optim.warmup`, got {tuple(boundaries)!r} after "
                f"{warmup}."
            )
        factors = {each - warmup: self.factor for each in boundaries}
        return optax.piecewise_constant_schedule(peak, factors)


@dataclasses.dataclass(kw_only=True)
class Cosine(Schedule):
    """The rate falls along half a cosine.

    Args:
        final: Share of the rate at which it ends.
    """

    final: float = 0.0

    def make(self, peak: float, *, warmup: int, steps: int) -> optax.Schedule:
        """The rate of each step."""
        return optax.cosine_decay_schedule(peak, steps - warmup, self.final)


@dataclasses.dataclass(kw_only=True)
class Polynomial(Schedule):
    """The rate falls as `(1 - t)**power`.

    Args:
        power: The exponent, positive.
        final: Share of the rate at which it ends.
    """

    power: float = number(1.0, 0, ends="()")
    final: float = 0.0

    def make(self, peak: float, *, warmup: int, steps: int) -> optax.Schedule:
        """The rate of each step."""
        end = self.final * peak
        return optax.polynomial_schedule(peak, end, self.power, steps - warmup)


@dataclasses.dataclass(kw_only=True)
class Trapezoid(Schedule):
    """The rate stays, and falls in a straight line at the end.

    Args:
        cooldown: How long it falls.
        final: Share of the rate at which it ends.
    """

    cooldown: Duration = "20%"
    final: float = 0.0

    def make(self, peak: float, *, warmup: int, steps: int) -> optax.Schedule:
        """The rate of each step."""
        cooldown = in_steps("schedule.cooldown", self.cooldown)
        flat = steps - warmup - cooldown
        if cooldown < 1 or flat < 0:
            raise ValueError(
                "`config.optim.schedule.cooldown` must be at least one step, and fit "
                f"into `config.steps` after `config.optim.warmup`, got {cooldown} of "
                f"{steps} steps and a warm-up of {warmup}."
            )
        fall = optax.linear_schedule(peak, self.final * peak, cooldown)
        return optax.join_schedules([optax.constant_schedule(peak), fall], [flat])


SCHEDULES: dict[str, type[Schedule]] = {
    "constant": Constant,
    "piecewise": Piecewise,
    "cosine": Cosine,
    "polynomial": Polynomial,
    "trapezoid": Trapezoid,
}


def in_steps(field: str, duration: Duration) -> int:
    """A duration of `config.optim`, which must be in steps by now."""
    if not isinstance(duration, int):
        raise TypeError(
            f"`config.optim.{field}` must be in steps here, got {duration!r}. Call "
            "`resolve` on the config first."
        )
    return duration
