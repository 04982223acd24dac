"""Configs with parameters."""

import difflib
import functools
import itertools
from collections.abc import Callable, Iterable
from typing import Any

from hypersphere.training import TrainConfig

Choices = dict[str, Any]

SCALES = ("paper", "small")
"""As published, for an accelerator; and cut down to minutes on two CPU cores."""


class Family:
    """A `get_config` with parameters, of which each combination is one run.

    `train.py` calls it with the text behind the file's name, as in
    `--config=configs/ablation_loss.py:operator=sigmoid,loss=ga`. What the text leaves
    out is the first value of its axis.

    Args:
        make: (one keyword per axis, and `scale`) -> the config.
        axes: Name -> values, at least one each.

    Raises:
        ValueError: If a value appears twice or cannot be written in such a text.

    Example:
        >>> from hypersphere import experiments, training
        >>> @experiments.family(depth=(9, 45))
        ... def get_config(depth, scale):
        ...     config = training.TrainConfig(steps=10 if scale == "small" else 64_000)
        ...     config.model.depth = depth
        ...     return config
        >>> get_config("depth=45").model.depth, get_config().steps
        (45, 64000)
        >>> get_config.variants("scale=small")
        [{'depth': 9, 'scale': 'small'}, {'depth': 45, 'scale': 'small'}]
    """

    def __init__(
        self, make: Callable[..., TrainConfig], axes: dict[str, tuple[Any, ...]]
    ):
        _check_axes(axes)
        functools.update_wrapper(self, make)
        self._make = make
        self._values = {**axes, "scale": SCALES}

    def __call__(self, text: str = "") -> TrainConfig:
        """The config of a combination.

        Args:
            text: `NAME=VALUE` pairs with commas between them.

        Raises:
            ValueError: If there is no such parameter or value.
        """
        defaults = {name: values[0] for name, values in self._values.items()}
        return self._make(**(defaults | self.parse(text)))

    def parse(self, text: str) -> Choices:
        """The choices that a text makes, each value of its axis's own type."""
        choices = {}
        for pair in filter(None, (part.strip() for part in text.split(","))):
            name, sign, value = pair.partition("=")
            if not sign:
                raise ValueError(
                    "A config's parameters are NAME=VALUE pairs with commas between "
                    f"them, got {pair!r}. {self._help()}"
                )
            if name not in self._values:
                raise ValueError(
                    f"The config has no parameter {name!r}.{_hint(name, self._values)} "
                    f"{self._help()}"
                )
            by_text = {str(each).lower(): each for each in self._values[name]}
            if value.lower() not in by_text:
                raise ValueError(
                    f"The config's parameter {name!r} must be one of "
                    f"{', '.join(by_text)}, got {value!r}."
                    f"{_hint(value.lower(), by_text)}"
                )
            choices[name] = by_text[value.lower()]
        return choices

    def variants(self, text: str = "") -> list[Choices]:
        """Every combination that agrees with a text, which without a scale is `paper`.

        Args:
            text: `NAME=VALUE` pairs with commas between them.
        """
        fixed = {"scale": SCALES[0]} | self.parse(text)
        values = [
            (fixed[name],) if name in fixed else axis
            for name, axis in self._values.items()
        ]
        return [
            dict(zip(self._values, combination, strict=True))
            for combination in itertools.product(*values)
        ]

    def _help(self) -> str:
        parameters = "; ".join(
            f"{name}={'|'.join(map(str, values))}"
            for name, values in self._values.items()
        )
        return f"There are: {parameters}."


def family(**axes: tuple[Any, ...]) -> Callable[[Callable[..., TrainConfig]], Family]:
    """Makes a function of one keyword per axis, and `scale`, a `Family`.

    Args:
        axes: Name -> values, the default first.
    """
    return lambda make: Family(make, axes)


def _check_axes(axes: dict[str, tuple[Any, ...]]) -> None:
    """Raises where a text could not say which value is meant."""
    if "scale" in axes:
        raise ValueError("A family has the axis `scale` by itself; leave it out.")
    for name, values in axes.items():
        texts = [str(value).lower() for value in values]
        if not texts or len(set(texts)) < len(texts):
            raise ValueError(f"The axis {name!r} needs values, each once: {values}.")
        if found := [text for text in texts if set(text) & set(",=/")]:
            raise ValueError(
                f"The axis {name!r} has {found[0]!r}, which cannot be written among "
                "NAME=VALUE pairs. Leave out commas, equals signs and slashes."
            )


def _hint(word: str, known: Iterable[str]) -> str:
    close = difflib.get_close_matches(word, list(known), n=1)
    return f" Did you mean {close[0]!r}?" if close else ""
