"""Whether the fields of a config hold what they are annotated with."""

import dataclasses
import functools
import numbers
import os
import typing
from collections.abc import Callable
from typing import Any

import numpy as np

from hypersphere.training.settings._durations import Duration
from hypersphere.training.settings._fields import PerChannel
from hypersphere.training.settings._recipe import Recipe

Section = Any


def typed(section: Section, prefix: str = "") -> Section:
    """A copy of a config whose fields hold the types they are annotated with.

    What means the same is converted: numbers of NumPy, whole numbers that are floats,
    paths and lists. Anything else is refused, and nothing is guessed from text.

    Args:
        section: A config, or a section of one.
        prefix: Its path and a dot, for messages.

    Returns:
        The copy.

    Raises:
        ValueError: If a field holds another type; it names the field, and the type
            that it needs.

    Example:
        >>> import numpy as np
        >>> from hypersphere import training
        >>> from hypersphere.training.settings._types import typed
        >>> config = training.TrainConfig(steps=4.0)
        >>> config.batch_size = np.int64(8)
        >>> typed(config).batch_size, typed(config).steps
        (8, 4)
    """
    hints = _hints(type(section))
    values = {
        field.name: _converted(
            f"{prefix}{field.name}", hints[field.name], getattr(section, field.name)
        )
        for field in dataclasses.fields(section)
    }
    made = dataclasses.replace(section, **values)
    if isinstance(section, Recipe):
        made.keep_others_of(section)
    return made


@functools.cache
def _hints(kind: Any) -> dict[str, Any]:
    return typing.get_type_hints(kind, include_extras=True)


def _converted(path: str, hint: Any, value: Any) -> Any:
    if hint == Duration:
        return _duration(path, value)
    if hint == PerChannel:
        return _per_channel(path, value)
    if typing.get_origin(hint) is typing.Annotated:  # evaluations, made when set
        return tuple(typed(each, f"{path}.") for each in value)
    if typing.get_origin(hint) is tuple and ... in typing.get_args(hint):
        return _tuple(path, typing.get_args(hint)[0], value)
    if dataclasses.is_dataclass(hint):
        if not isinstance(value, kind := typing.cast("type", hint)):
            raise ValueError(_told(path, f"a `{kind.__name__}`", value))
        return typed(value, f"{path}.")
    if hint not in _KINDS:  # of a recipe of one's own, which can check it itself
        return value
    what, convert = _KINDS[hint]
    found = convert(value)
    if found is None:
        raise ValueError(_told(path, what, value))
    return found


def _tuple(path: str, inner: Any, value: Any) -> tuple[Any, ...]:
    if isinstance(value, str) or not isinstance(value, tuple | list):
        what = {str: "texts", int: "whole numbers", float: "numbers"}
        raise ValueError(_told(path, f"a tuple of {what.get(inner, 'those')}", value))
    return tuple(_converted(path, inner, each) for each in value)


def _duration(path: str, value: Any) -> Any:
    found = value if isinstance(value, str) else _whole(value)
    if found is None:
        what = "a number of steps, or a text such as '5 epochs'"
        raise ValueError(_told(path, what, value))
    return found


def _per_channel(path: str, value: Any) -> Any:
    is_many = isinstance(value, tuple | list) or np.ndim(value) == 1
    found = [_number(each) for each in value] if is_many else [_number(value)]
    if None in found or not found:
        raise ValueError(_told(path, "a number, or one for each channel", value))
    return tuple(found) if is_many else found[0]


def _boolean(value: Any) -> bool | None:
    return bool(value) if isinstance(value, bool | np.bool_) else None


def _whole(value: Any) -> int | None:
    if isinstance(value, numbers.Integral) and not isinstance(value, bool):
        return int(value)
    number = _number(value)
    is_whole = number is not None and number == number // 1
    return int(value) if is_whole else None


def _number(value: Any) -> float | None:
    is_number = isinstance(value, numbers.Real) or (
        isinstance(value, np.ndarray) and value.shape == ()
    )
    if not is_number or isinstance(value, bool | np.bool_):
        return None
    try:
        return float(value)
    except (OverflowError, ValueError, TypeError):
        return None


def _text(value: Any) -> str | None:
    if isinstance(value, os.PathLike):
        return os.fspath(value)
    return str(value) if isinstance(value, str) else None


_KINDS: dict[Any, tuple[str, Callable[[Any], Any]]] = {
    bool: ("True or False", _boolean),
    int: ("a whole number", _whole),
    float: ("a number", _number),
    str: ("a text", _text),
}


def _told(path: str, what: str, value: Any) -> str:
    kind = type(value).__name__
    hint = ""
    if isinstance(value, str):
        hint = " Without quotation marks it is no text."
    elif isinstance(value, dict):
        hint = f" Set its fields: `config.{path}.FIELD = VALUE`."
    return f"`config.{path}` needs {what}, got {value!r} ({kind}).{hint}"
