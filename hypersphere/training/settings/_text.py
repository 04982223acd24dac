"""Configs as JSON and back, and mistakes in them told by the nearest field."""

import dataclasses
import difflib
import functools
import json
import re
import typing
from collections.abc import Iterable, Mapping
from pathlib import Path
from typing import Any

from hypersphere.training.settings._config import TrainConfig
from hypersphere.training.settings._recipe import Recipe, family, make_recipe


def to_json(config: TrainConfig) -> str:
    """The config as readable JSON text."""
    return json.dumps(_plain(config), indent=2) + "\n"


def _plain(value: Any) -> Any:
    """Dictionaries and lists for dataclasses and tuples; a recipe's name first."""
    if isinstance(value, tuple | list):
        return [_plain(each) for each in value]
    if not dataclasses.is_dataclass(value):
        return value
    name = {"name": value.name} if isinstance(value, Recipe) else {}
    fields = dataclasses.fields(value)
    return name | {field.name: _plain(getattr(value, field.name)) for field in fields}


def from_json(text: str) -> TrainConfig:
    """The config that `to_json` wrote.

    Args:
        text: JSON text of one object.

    Returns:
        The config.

    Raises:
        ValueError: If the text has fields that a config does not have.

    Example:
        >>> from hypersphere import training
        >>> training.from_json('{"steps": 3, "optim": {"name": "sgd"}}').optim
        SGD(...)
    """
    values = json.loads(text)
    if isinstance(values, dict) and values.get("compare") == []:
        del values["compare"]  # of a run from before a family of configs did that
    if not isinstance(values, dict):
        raise ValueError(f"a config is an object of fields, got {values!r:.40}")
    return _build(TrainConfig, values, "")


def set_field(config: Any, path: str, value: Any) -> None:
    """Sets a field by its dotted path."""
    *sections, name = path.split(".")
    setattr(functools.reduce(getattr, sections, config), name, value)


def _reads_files(stored: Mapping[str, Any]) -> bool:
    source = stored.get("data", {}).get("source", "")
    return source.startswith(("folder:", "tar:", "tfds:"))


SINCE = {
    "optim.freeze_averages": lambda stored: stored.get("optim", {}).get("frozen"),
    "data.orient": _reads_files,
}
"""Fields that are True by default, where earlier releases did what False means.

By path; with (a stored config) -> whether it makes a difference there.
"""


def kept_from_before(text: str) -> dict[str, Any]:
    """Fields that a stored config lacks and that mean another thing than their default.

    Args:
        text: The JSON text of a whole config.

    Returns:
        Path -> what the release that stored it did.

    Example:
        >>> from hypersphere.training.settings._text import kept_from_before
        >>> kept_from_before('{"optim": {"frozen": ["stages.*"]}}')
        {'optim.freeze_averages': False}
    """
    stored = json.loads(text)
    sections = {path: path.partition(".") for path in SINCE}
    return {
        path: False
        for path, (section, _, field) in sections.items()
        if field not in stored.get(section, {}) and SINCE[path](stored)
    }


def _build(kind: Any, values: Mapping[str, Any], prefix: str) -> Any:
    hints = typing.get_type_hints(kind)
    arguments = {}
    for name, value in values.items():
        if name not in hints:
            raise ValueError(unknown_path(prefix + name))
        if isinstance(hints[name], type) and issubclass(hints[name], Recipe):
            value = make_recipe(prefix + name, value)
        elif dataclasses.is_dataclass(hints[name]):
            value = _build(hints[name], value, f"{prefix}{name}.")
        arguments[name] = tuple(value) if isinstance(value, list) else value
    return kind(**arguments)


def flat(config: Any, prefix: str = "") -> dict[str, Any]:
    """Every field by its dotted path, and the names of recipes."""
    name = {f"{prefix}name": config.name} if isinstance(config, Recipe) else {}
    fields = {}
    for field in dataclasses.fields(config):
        value = getattr(config, field.name)
        path = prefix + field.name
        nested = dataclasses.is_dataclass(value)
        fields |= flat(value, f"{path}.") if nested else {path: value}
    return name | fields


def known_paths(kind: Any = TrainConfig, prefix: str = "") -> dict[str, str]:
    """Every path that a config can have, whatever its recipes, to that of its field."""
    found = {f"{prefix}name": f"{prefix}name"} if issubclass(kind, Recipe) else {}
    hints = typing.get_type_hints(kind)
    for field in dataclasses.fields(kind):
        path, hint = prefix + field.name, hints[field.name]
        if "family" in field.metadata:
            found[path] = path
            for each in family(field.metadata["family"]).values():
                found |= known_paths(each, f"{path}.")
        elif dataclasses.is_dataclass(hint):
            found |= known_paths(hint, f"{path}.")
        else:
            found[path] = path
    for field, section in getattr(kind, "moved", {}).items():
        found[prefix + field] = f"{prefix}{section}.{field}"
    return found


# What fields are called elsewhere.
_ELSEWHERE = {
    "arch": "name",
    "bn": "batch_norm",
    "bs": "batch_size",
    "dataset": "source",
    "epochs": "steps",
    "lr": "learning_rate",
    "wd": "weight_decay",
}


def unknown_path(path: str) -> str:
    """The message for a field that does not exist, with the nearest that do."""
    known = list(dict.fromkeys(known_paths().values()))
    close = difflib.get_close_matches(path, known, n=3, cutoff=0.5)
    last = path.rsplit(".", 1)[-1]
    names = dict.fromkeys(name.rsplit(".", 1)[-1] for name in known)
    wanted = [_ELSEWHERE.get(last.lower(), last)]
    wanted += difflib.get_close_matches(last, names, n=3)
    if not close and not wanted[1:]:
        wanted += difflib.get_close_matches(last, names, n=3, cutoff=0.0)
    found = [p for name in wanted for p in known if p.rsplit(".", 1)[-1] == name]
    near = [*found, *close] if last.lower() in _ELSEWHERE else [*close, *found]
    nearest = list(dict.fromkeys(near))[:3]
    return (
        f"The config has no field `config.{path}`. Did you mean "
        f"{' or '.join(f'`config.{name}`' for name in nearest)}?"
    )


def check_command_line(arguments: Iterable[str]) -> None:
    """Raises at the first `--config.FIELD` that no config has, or a missing file.

    Args:
        arguments: The words of the command line.

    Raises:
        ValueError: If a field does not exist; it names the nearest ones.
        FileNotFoundError: If the file of `--config=FILE` does not exist.

    Example:
        >>> from hypersphere import training
        >>> training.check_command_line(["--config.optim.learning_rate=0.1"])
    """
    known = known_paths()
    for argument in arguments:
        file = re.match(r"--?config=([^:]+)", argument)
        if file and not Path(file[1]).is_file():
            there = ", ".join(map(str, sorted(Path("configs").glob("*.py"))))
            raise FileNotFoundError(
                f"`--config` needs a file, got `{file[1]}`, which is none. "
                f"There are: {there or 'none in ./configs'}."
            )
        match = re.match(r"--?(no)?config\.([^=]+)", argument)
        if match and match[2] not in known:
            raise ValueError(unknown_path(match[2]))


def describe(error: Exception) -> str:
    """A message for a config file that sets a field which no config has.

    Args:
        error: What loading the file raised.

    Returns:
        The nearest fields, where the error is about a field, else its own text.

    Example:
        >>> from hypersphere import training
        >>> try:
        ...     training.TrainConfig(stpes=3)
        ... except TypeError as error:
        ...     print(training.describe(error)[:34])
        The config has no field `config.st
    """
    field = re.search(
        r"(?:unexpected keyword argument|Config' object has no attribute) '(\w+)'",
        str(error),
    )
    return unknown_path(field[1]) if field else str(error)
