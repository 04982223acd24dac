"""What a field of a config may be, said where the field is."""

import dataclasses
import difflib
import math
from collections.abc import Collection, Mapping
from typing import Annotated, Any, NamedTuple

# Any to type checkers, because `std > 0` is asked of numbers elsewhere.
PerChannel = Annotated[Any, "a number, or one for each channel"]


class Range(NamedTuple):
    """Between which numbers a field lies.

    Attributes:
        low: The least; `(` in `brackets` leaves it out.
        high: The most; `)` in `brackets` leaves it out.
        brackets: Of the interval, as in `[)`.
        hint: What a message ends with.
    """

    low: float | int
    high: float | int
    brackets: str
    hint: str = ""

    def refuse_others(self, path: str, value: float | int) -> None:
        """Raises unless a number lies here.

        Args:
            path: Of the field, such as `data.flip`, for the message.
            value: Its number.

        Raises:
            ValueError: If it lies outside.
        """
        is_above = value > self.low or (self.brackets[0] == "[" and value == self.low)
        is_below = value < self.high or (self.brackets[1] == "]" and value == self.high)
        if not (is_above and is_below and math.isfinite(value)):
            raise ValueError(
                f"`config.{path}` must be {self._told()}, got {value!r}.{self.hint}"
            )

    def _told(self) -> str:
        if self.high < math.inf:
            high = "pi" if self.high == math.pi else self.high
            return f"in {self.brackets[0]}{self.low}, {high}{self.brackets[1]}"
        return "positive" if self.brackets[0] == "(" else f"at least {self.low}"


def number(
    default: Any, low: float | int, high: float | int = math.inf, ends: str = "[]"
) -> Any:
    """A dataclass field that holds a finite number of an interval.

    Args:
        default: Its default.
        low: The least number.
        high: The largest.
        ends: `(` where `low` is not among them, `)` where `high` is not.

    Returns:
        What stands behind the field's annotation.

    Example:
        >>> import dataclasses
        >>> from hypersphere.training import settings
        >>> @dataclasses.dataclass
        ... class Noise:
        ...     share: float = settings.number(0.1, 0, 1, "[)")
        >>> Noise()
        Noise(share=0.1)
    """
    return dataclasses.field(
        default=default, metadata={"range": Range(low, high, ends)}
    )


def radians(default: float) -> Any:
    """A dataclass field that holds an angle from 0 to pi.

    Args:
        default: Its default, in radians.

    Returns:
        What stands behind the field's annotation.

    Example:
        >>> import dataclasses
        >>> from hypersphere.training import settings
        >>> @dataclasses.dataclass
        ... class Turn:
        ...     angle: float = settings.radians(0.5)
        >>> Turn()
        Turn(angle=0.5)
    """
    hint = " It is in radians; is this in degrees?"
    return dataclasses.field(
        default=default, metadata={"range": Range(0, math.pi, "[]", hint)}
    )


def option(default: str, among: Collection[str]) -> Any:
    """A dataclass field that holds one of some words.

    Args:
        default: Its default.
        among: The words.

    Returns:
        What stands behind the field's annotation.

    Example:
        >>> import dataclasses
        >>> from hypersphere.training import settings
        >>> @dataclasses.dataclass
        ... class Noise:
        ...     kind: str = settings.option("white", ("white", "pink"))
        >>> Noise().kind
        'white'
    """
    return dataclasses.field(default=default, metadata={"among": tuple(among)})


def check_field(path: str, field: dataclasses.Field[Any], value: Any) -> None:
    """Raises unless a value is what its field may be.

    Args:
        path: Of the field in a config, for the message.
        field: Of a dataclass.
        value: What it holds.

    Raises:
        ValueError: If it lies outside of the field's range or words.
    """
    if "range" in field.metadata:
        for each in value if isinstance(value, tuple) else (value,):
            field.metadata["range"].refuse_others(path, each)
    if "among" in field.metadata:
        choose(path, value, dict.fromkeys(field.metadata["among"]))


def choose(path: str, name: Any, table: Mapping[str, Any]) -> Any:
    """The entry of a table, or a message that lists them all.

    Args:
        path: Of the field in a config that has the name.
        name: The entry's.
        table: All entries.

    Returns:
        The entry.

    Raises:
        ValueError: If there is none of that name; it tells the nearest.
    """
    if name not in table:
        close = difflib.get_close_matches(str(name), table, n=1)
        hint = f" Did you mean {close[0]!r}?" if close else ""
        raise ValueError(
            f"`config.{path}` needs one of {', '.join(map(repr, table))}, got "
            f"{name!r}.{hint}"
        )
    return table[name]
