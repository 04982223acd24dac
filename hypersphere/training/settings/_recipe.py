"""Sections of a config that are one of several dataclasses, chosen by name."""

import copy
import dataclasses
import functools
from collections.abc import Mapping
from typing import Any, ClassVar

from absl import logging

from hypersphere.training.settings._fields import choose


@dataclasses.dataclass
class Section:
    """A dataclass that knows its fields, of which some may be recipes.

    A recipe is set as such, or by its name: `config.loss = "w_softmax"` is short for
    `config.loss.name = "w_softmax"`.

    Attributes:
        path: Where it stands in a config, such as `optim`; empty for the whole.
    """

    path: ClassVar[str] = ""

    def __setattr__(self, field: str, value: Any) -> None:
        fields = fields_of(type(self))
        if field not in fields:
            raise AttributeError(unknown_field(self.path, field))
        if isinstance(value, list):
            value = tuple(value)
        if path := fields[field].metadata.get("family"):
            value = _chosen(path, value, vars(self).get(field))
        object.__setattr__(self, field, value)


@dataclasses.dataclass
class Recipe(Section):
    """What a name in a config means: the fields that go with it, and what they make.

    Its subclasses are dataclasses, and those of one family are the choices of one
    section: `config.loss` is a `recipes.Softmax` or a `recipes.GASoftmax`, and has the
    fields of that one alone.

    `config.loss.name = "ga_softmax"` makes another one of it. What was set and both
    have is kept. A field that only others of the family have can be set as well, before
    the name is, so that the order does not matter; if none of these is chosen in the
    end, `refuse_others` names them.

    Attributes:
        path: Of the family's section in a config.
        moved: Fields that have moved into a section of this one: name -> section.
    """

    moved: ClassVar[Mapping[str, str]] = {}

    @property
    def name(self) -> str:
        """The recipe's name in its family."""
        return {kind: name for name, kind in family(self.path).items()}[type(self)]

    @name.setter
    def name(self, name: str) -> None:
        kept = self.set_fields() | self._others()
        kind = choose(f"{self.path}.name", name, family(self.path))
        vars(self).clear()
        object.__setattr__(self, "__class__", kind)
        vars(self).update(vars(kind()))
        for field, value in kept.items():
            setattr(self, field, value)

    def check(self) -> None:
        """Raises where fields do not go together; their ranges are theirs to tell."""

    def set_fields(self) -> dict[str, Any]:
        """The fields that do not have their default."""
        default = defaults(type(self))
        return {
            name: value
            for name, value in vars(self).items()
            if name in default
            and (value != default[name] or getattr(value, "_other", None))
        }

    def refuse_others(self) -> None:
        """Raises if a field is set that only others of the family have.

        Raises:
            ValueError: If it is set to something else than the default of them all.
        """
        for field, value in self._others().items():
            owners = owners_of(self.path, field)
            if any(value != default for default in owners.values()):
                path, names = f"config.{self.path}", " and ".join(owners)
                raise ValueError(
                    f"`{path}.{field}={value!r}` has no effect with `{path}.name="
                    f"{self.name!r}`: it is a field of {names}. Choose one of them, "
                    "or leave it out."
                )

    def __setattr__(self, field: str, value: Any) -> None:
        if field == "name":
            object.__setattr__(self, field, value)
        elif field in self.moved:
            setattr(getattr(self, self.moved[field]), field, value)
        elif field not in fields_of(type(self)) and owners_of(self.path, field):
            value = tuple(value) if isinstance(value, list) else value
            vars(self).setdefault("_other", {})[field] = value
        else:
            super().__setattr__(field, value)

    def __getattr__(self, field: str) -> Any:  # only where there is no such attribute
        if field in type(self).moved:
            return getattr(getattr(self, self.moved[field]), field)
        if field in self._others():
            return self._others()[field]
        if field.startswith("_"):
            raise AttributeError(field)
        raise AttributeError(self.lacking(field))

    def lacking(self, field: str) -> str:
        """The message for a field that this recipe does not have."""
        if owners := owners_of(self.path, field):
            return (
                f"`config.{self.path}` is {self.name!r} and has no `{field}`: it is a "
                f"field of {' and '.join(owners)}."
            )
        return unknown_field(self.path, field)

    def keep_others_of(self, before: "Recipe") -> None:
        """Takes over the fields that only others of the family have."""
        if others := before._others():
            vars(self)["_other"] = dict(others)

    def _others(self) -> dict[str, Any]:
        return vars(self).get("_other", {})


def recipe(path: str) -> Any:
    """A dataclass field that holds a recipe of a family; by default its first one.

    Args:
        path: The section's path in a config.

    Returns:
        What stands behind the field's annotation.
    """
    return dataclasses.field(
        default_factory=lambda: make_recipe(path, {}), metadata={"family": path}
    )


def family(path: str) -> Mapping[str, type[Recipe]]:
    """The recipes that a section of a config can be, by name, the default first.

    The training program, which knows no name, looks them up here and nowhere else.
    """
    return _families()[path]


def sections() -> tuple[str, ...]:
    """The paths of all sections that are recipes."""
    return tuple(_families())


def _families() -> Mapping[str, Mapping[str, type[Recipe]]]:
    from hypersphere import recipes

    return recipes.FAMILIES


def make_recipe(path: str, values: Mapping[str, Any]) -> Recipe:
    """A recipe from plain values, as JSON has them.

    Args:
        path: The section's path in a config.
        values: `name`, the default where there is none, and fields. Those that only
            others of the family have are left out: configs were once stored with the
            fields of all. One that is not its default is told. Then an empty text stood
            for the default of a field that needs a word.

    Returns:
        The recipe.

    Raises:
        ValueError: If there is no such name or field.
    """
    fields, known = dict(values), family(path)
    made = choose(f"{path}.name", fields.pop("name", next(iter(known))), known)()
    for field, value in fields.items():
        if value == "" and "" not in owners_of(path, field).values():
            continue
        try:
            setattr(made, field, value)
        except AttributeError as error:
            raise ValueError(str(error)) from error
    _forget_others(made)
    return made


def _forget_others(made: Recipe) -> None:
    """Leaves out what only others of the family have, here and in sections inside."""
    for field, value in vars(made).pop("_other", {}).items():
        owners = owners_of(made.path, field)
        if value not in owners.values():
            logging.warning(
                "Left out of `config.%s`, as when it was stored: %s=%r, a field of %s.",
                *(made.path, field, value, " and ".join(owners)),
            )
    for value in vars(made).values():
        if isinstance(value, Recipe):
            _forget_others(value)


def owners_of(path: str, field: str) -> dict[str, Any]:
    """The recipes of a family that have a field, and its default in each."""
    every = {name: defaults(kind) for name, kind in family(path).items()}
    return {name: default[field] for name, default in every.items() if field in default}


@functools.cache
def fields_of(kind: Any) -> dict[str, dataclasses.Field[Any]]:
    """The fields of a dataclass by name."""
    return {field.name: field for field in dataclasses.fields(kind)}


def defaults(kind: Any) -> dict[str, Any]:
    """The default of each field of a dataclass, all of which have one."""
    return {
        name: field.default_factory()
        if field.default_factory is not dataclasses.MISSING
        else field.default
        for name, field in fields_of(kind).items()
    }


def unknown_field(path: str, field: str) -> str:
    """The message for a field that does not exist, with the nearest that do."""
    from hypersphere.training.settings._text import unknown_path

    return unknown_path(f"{path}.{field}" if path else field)


def _chosen(path: str, value: Any, before: Recipe | None) -> Any:
    """The recipe that a field is set to: as such, by name, or by JSON's values."""
    if isinstance(value, Mapping):
        return make_recipe(path, value)
    if isinstance(value, str):
        made = copy.deepcopy(before) or make_recipe(path, {})
        made.name = value
        return made
    kinds = tuple(family(path).values())
    if type(value) not in kinds:
        names = ", ".join(f"recipes.{kind.__name__}()" for kind in kinds)
        raise TypeError(f"`config.{path}` needs one of {names}, got {value!r}.")
    return value
