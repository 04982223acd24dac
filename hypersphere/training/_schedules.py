"""How the learning rate changes over a run."""

import optax

from hypersphere.training._config import OptimConfig
from hypersphere.training._durations import Duration
from hypersphere.training._validate import choose


def make_schedule(config: OptimConfig, steps: int) -> optax.Schedule:
    """The learning rate of each step.

    The rate rises linearly from zero to `learning_rate` during `warmup` steps. After
    that it stays (`constant`), is multiplied by `factor` at each of the `boundaries`
    (`piecewise`), or falls to `final * learning_rate`: along half a cosine (`cosine`),
    as `(1 - t)**power` (`polynomial`), or in a straight line during the last
    `cooldown` steps (`trapezoid`).

    Args:
        config: Its durations in steps, as `resolve` makes them.
        steps: Of the whole run. What falls ends here, at the step after the last.

    Returns:
        A function from the step, counted from 0, to the learning rate.

    Raises:
        TypeError: If a duration is still a text.
        ValueError: If there is no such schedule, or its durations do not fit the run.

    Example:
        >>> from hypersphere.training._config import OptimConfig
        >>> from hypersphere.training._schedules import make_schedule
        >>> config = OptimConfig(learning_rate=0.1, schedule="cosine", warmup=10)
        >>> rate = make_schedule(config, 110)
        >>> [round(float(rate(step)), 3) for step in (0, 5, 10, 60, 110)]
        [0.0, 0.05, 0.1, 0.05, 0.0]
    """
    make = choose("optim.schedule", config.schedule, SCHEDULES)
    warmup = _in_steps("warmup", config.warmup)
    if not 0 <= warmup < steps:
        raise ValueError(
            "`config.optim.warmup` must be shorter than `config.steps`, got "
            f"{warmup} and {steps} steps."
        )
    schedule = make(config, warmup, steps)
    if warmup == 0:
        return schedule
    rise = optax.linear_schedule(0.0, config.learning_rate, warmup)
    return optax.join_schedules([rise, schedule], [warmup])


def _constant(config: OptimConfig, warmup: int, steps: int) -> optax.Schedule:
    del warmup, steps
    return optax.constant_schedule(config.learning_rate)


def _piecewise(config: OptimConfig, warmup: int, steps: int) -> optax.Schedule:
    boundaries = [_in_steps("boundaries", each) for each in config.boundaries]
    del steps  # a shortened run may end before a boundary
    in_order = [warmup, *boundaries]
    if not boundaries or in_order != sorted(set(in_order)):
        raise ValueError(
            "`config.optim.boundaries` must be at least one step, rising, after "
            f"`config.optim.warmup`, got {tuple(boundaries)!r} after {warmup}."
        )
    return optax.piecewise_constant_schedule(
        config.learning_rate, {each - warmup: config.factor for each in boundaries}
    )


def _cosine(config: OptimConfig, warmup: int, steps: int) -> optax.Schedule:
    return optax.cosine_decay_schedule(
        config.learning_rate, steps - warmup, config.final
    )


def _polynomial(config: OptimConfig, warmup: int, steps: int) -> optax.Schedule:
    rate = config.learning_rate
    return optax.polynomial_schedule(
        rate, config.final * rate, config.power, steps - warmup
    )


def _trapezoid(config: OptimConfig, warmup: int, steps: int) -> optax.Schedule:
    cooldown = _in_steps("cooldown", config.cooldown)
    flat = steps - warmup - cooldown
    if cooldown < 1 or flat < 0:
        raise ValueError(
            "`config.optim.cooldown` must be at least one step, and fit into "
            f"`config.steps` after `config.optim.warmup`, got {cooldown} of {steps} "
            f"steps and a warm-up of {warmup}."
        )
    rate = config.learning_rate
    fall = optax.linear_schedule(rate, config.final * rate, cooldown)
    return optax.join_schedules([optax.constant_schedule(rate), fall], [flat])


SCHEDULES = {
    "constant": _constant,
    "piecewise": _piecewise,
    "cosine": _cosine,
    "polynomial": _polynomial,
    "trapezoid": _trapezoid,
}


def _in_steps(field: str, duration: Duration) -> int:
    if not isinstance(duration, int):
        raise TypeError(
            f"`make_schedule` needs `config.optim.{field}` in steps, got {duration!r}. "
            "Call `resolve` on the config first."
        )
    return duration
