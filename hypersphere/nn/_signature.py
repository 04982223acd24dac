"""What `help` and editors show of a layer that hands arguments on to Flax's."""

import inspect
from collections.abc import Callable
from typing import TypeVar

Layer = TypeVar("Layer", bound=type)


def shows_arguments_of(flax_layer: type) -> Callable[[Layer], Layer]:
    """A decorator: a class's own arguments, and those of Flax's layer that it takes."""

    def shown(layer: Layer) -> Layer:
        own = _arguments(layer)
        more = {k: v for k, v in _arguments(flax_layer).items() if k not in own}
        last = [own.pop("rngs")] if "rngs" in own else []
        parameters = [*own.values(), *more.values(), *last]
        layer.__signature__ = inspect.Signature(sorted(parameters, key=_kind))  # pyrefly: ignore[missing-attribute]
        return layer

    return shown


def _arguments(layer: type) -> dict[str, inspect.Parameter]:
    """By name, without `self` and what is handed on."""
    found = list(inspect.signature(layer.__init__).parameters.values())[1:]
    return {each.name: each for each in found if each.kind is not each.VAR_KEYWORD}


def _kind(parameter: inspect.Parameter) -> int:
    return parameter.kind
