"""Durations in steps, epochs, examples or percent."""

import dataclasses
import difflib
import math
import re
import typing
from collections.abc import Callable
from fractions import Fraction
from typing import Annotated, Any, TypeVar

# An int or a str; Any to type checkers, because `resolve` leaves ints alone.
Duration = Annotated[Any, "a number of steps, or a number and a unit"]
Config = TypeVar("Config", bound=Any)

_NUMBER = r"[+-]?(?:\d[\d_]*\.?\d*|\.\d+)(?:e[+-]?\d+)?"
_UNITS = {
    "": "steps", "step": "steps", "steps": "steps", "epoch": "epochs",
    "epochs": "epochs", "example": "examples", "examples": "examples",
    "%": "%", "percent": "%",
}  # fmt: skip


_MOST = 2**31 - 1  # of an int32


def to_steps(
    name: str,
    duration: Duration,
    *,
    batch_size: int,
    examples: int,
    total: int | None = None,
) -> int:
    """How many steps a duration is.

    Args:
        name: The field that holds it, for messages: `config.optim.warmup`.
        duration: A number of steps, at least 0, or a text: a number with one of the
            units `steps`, `epochs`, `examples`, `percent` or `%`, or with none, which
            means steps.
        batch_size: Examples per step, positive.
        examples: Examples per epoch.
        total: Steps that are 100 percent; None where there is no whole.

    Returns:
        The nearest number of steps, the larger one of two, and at least 1 if the
        duration is positive.

    Raises:
        TypeError: If the duration is neither a whole number nor a text.
        ValueError: If it is negative, has no number, two units or an unknown one, or is
            a percentage where there is no `total`.

    Example:
        >>> from hypersphere.training.settings._durations import to_steps
        >>> data = {"batch_size": 100, "examples": 5_000, "total": 2_000}
        >>> [to_steps("d", d, **data) for d in (7, "3 epochs", "1000 examples", "5%")]
        [7, 150, 10, 100]
    """
    number, unit = _parse(name, duration)
    if number < 0:
        raise ValueError(f"`{name}` needs at least 0 steps, got {duration!r}.")
    if unit == "%" and total is None:
        raise ValueError(
            f"`{name}` needs steps, epochs or examples, got {duration!r}. There is "
            "nothing that this could be a percentage of."
        )
    steps_per_unit = {
        "steps": Fraction(1),
        "epochs": Fraction(examples, batch_size),
        "examples": Fraction(1, batch_size),
        "%": Fraction(total or 0, 100),
    }
    nearest = math.floor(number * steps_per_unit[unit] + Fraction(1, 2))
    if nearest > _MOST:
        raise ValueError(
            f"`{name}` needs at most {_MOST:,} steps, which is all that they are "
            f"counted to, got {duration!r}, which are {float(nearest):.3g}."
        )
    return max(nearest, 1 if number > 0 else 0)


def _parse(name: str, duration: Duration) -> tuple[Fraction, str]:
    """The exact number, so that 0.1 epochs are a tenth, and the unit."""
    if isinstance(duration, bool) or not isinstance(duration, int | str):
        raise TypeError(
            f"`{name}` needs a whole number of steps, or a text such as '5 epochs', "
            f"got {duration!r}."
        )
    if isinstance(duration, int):
        return Fraction(duration), "steps"
    text = duration.strip().lower()
    parts = re.fullmatch(rf"({_NUMBER})\s*(.*)", text)
    if not parts:
        raise ValueError(
            f"`{name}` needs a number and a unit, such as '5 epochs' or '2.5%', got "
            f"{duration!r}."
        )
    number, unit = parts.groups()
    if unit not in _UNITS:
        raise ValueError(_wrong_unit(name, duration, unit))
    return Fraction(number), _UNITS[unit]


def _wrong_unit(name: str, duration: str, unit: str) -> str:
    """The message for two units, or for one that does not exist."""
    if re.search(_NUMBER, unit):
        return (
            f"`{name}` needs one number and one unit, such as '5 epochs', got "
            f"{duration!r}. Write the sum in one of its units."
        )
    close = difflib.get_close_matches(unit, _UNITS, n=1, cutoff=0.0)[0]
    return (
        f"`{name}` needs one of the units steps, epochs, examples or percent, got "
        f"{duration!r}. Did you mean {_UNITS[close]!r}?"
    )


def resolve(config: Config, examples: int) -> Config:
    """A copy of a `TrainConfig` whose durations are all whole numbers of steps.

    Percentages are of `config.steps`. A config that is resolved stays as it is.

    Args:
        config: With durations of any unit.
        examples: Training images, which make an epoch.

    Returns:
        The copy.

    Raises:
        TypeError: If a duration is neither a whole number nor a text.
        ValueError: If one has a wrong unit or is negative, `config.steps` is a
            percentage, or an evaluation is due every 0 steps.

    Example:
        >>> from hypersphere.training.settings._config import TrainConfig
        >>> from hypersphere.training.settings._durations import resolve
        >>> config = TrainConfig(steps="4 epochs", batch_size=50, log_every="10%")
        >>> resolved = resolve(config, examples=1_000)
        >>> resolved.steps, resolved.log_every, resolved.optim.warmup
        (80, 8, 0)
    """
    data = {"batch_size": config.batch_size, "examples": examples}
    total = to_steps("config.steps", config.steps, **data)

    def in_steps(name: str, duration: Duration) -> int:
        return to_steps(name, duration, **data, total=total)

    resolved = _resolved(config, "config", in_steps)
    for there, here in zip(config.evaluators, resolved.evaluators, strict=True):
        if here.every == 0:
            raise ValueError(
                "`config.evaluators` needs a duration of at least one step, got "
                f"'{there}'. Leave the entry out for no such evaluation."
            )
    return resolved


def resolve_section(section: Config, name: str, total: int) -> Config:
    """A copy of one section whose durations are in steps, of texts in percent.

    Args:
        section: A dataclass, such as a schedule.
        name: Its path, for messages: `config.optim.schedule`.
        total: Steps of the whole run.

    Raises:
        ValueError: If a duration is a text in another unit than percent or steps.
    """
    return _resolved(
        section,
        name,
        lambda path, duration: to_steps(
            path, duration, batch_size=1, examples=1, total=total
        ),
    )


def _resolved(config: Any, name: str, in_steps: Callable[[str, Duration], int]) -> Any:
    """A copy with the fields that are annotated as durations in steps."""
    hints = typing.get_type_hints(type(config), include_extras=True)
    changes = {}
    for field in dataclasses.fields(config):
        value, hint = getattr(config, field.name), hints[field.name]
        path = f"{name}.{field.name}"
        if dataclasses.is_dataclass(value):
            changes[field.name] = _resolved(value, path, in_steps)
        elif hint == Duration:
            changes[field.name] = in_steps(path, value)
        elif hint == tuple[Duration, ...]:
            changes[field.name] = tuple(in_steps(path, each) for each in value)
        elif isinstance(value, tuple) and value and dataclasses.is_dataclass(value[0]):
            changes[field.name] = tuple(_resolved(e, path, in_steps) for e in value)
    return dataclasses.replace(config, **changes)
