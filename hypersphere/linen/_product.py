"""How Flax's own layers are made to compute with another product."""

import dataclasses
import functools
from collections.abc import Callable
from typing import Any

from flax import linen
from jax import lax
from jaxtyping import Array

from hypersphere._checks import check_features

# What each layer multiplies with, under the name of its field.
PRODUCTS: dict[type, tuple[str, Callable[..., Array]]] = {
    linen.Conv: ("conv_general_dilated", lax.conv_general_dilated),
    linen.Dense: ("dot_general", lax.dot_general),
    linen.DenseGeneral: ("dot_general", lax.dot_general),
}


class _Conv(linen.Conv):
    """Not `linen.Conv` itself, so that what changes those by type leaves it alone."""

    __no_type_check__ = True


class _Dense(linen.Dense):
    """Not `linen.Dense` itself."""

    __no_type_check__ = True


class _DenseGeneral(linen.DenseGeneral):
    """Not `linen.DenseGeneral` itself."""

    __no_type_check__ = True


STAND_INS = {
    linen.Conv: _Conv,
    linen.Dense: _Dense,
    linen.DenseGeneral: _DenseGeneral,
}


def call_with(
    operator: Callable[..., Array],
    layer: linen.Conv | linen.Dense | linen.DenseGeneral,
    inputs: Array,
) -> Array:
    """Flax's own call of a layer on its own parameters, with `operator` as product.

    What the layer itself multiplies with, the user's function if there is one, is
    handed to the operator under the name of Flax's field.
    """
    base = next(base for base in PRODUCTS if isinstance(layer, base))
    kind, (name, default) = STAND_INS[base], PRODUCTS[base]
    fields: dict[str, Any] = {
        field.name: getattr(layer, field.name)
        for field in dataclasses.fields(kind)
        if field.init and field.name not in ("name", "parent")
    }
    users, users_class = fields[name], fields[f"{name}_cls"]
    product = users_class() if users_class is not None else users or default
    fields[f"{name}_cls"] = lambda: functools.partial(operator, **{name: product})
    # Not `super().__call__` with a property as the field: a clone would then take the
    # property's value for the user's function. In the layer's own scope the plain layer
    # finds, and makes, the layer's own parameters. Rewound, as Flax does after every
    # call, so that a layer may be called once more.
    scope: Any = layer.scope and layer.scope.rewound()
    return kind(**fields, parent=None).clone(parent=scope)(inputs)


def check_inputs(
    who: str, layer: linen.Module, inputs: Array, *, axis: int = -2, groups: int = 1
) -> None:
    """Raises unless the input has the features that the kernel was made for."""
    kernel = layer.get_variable("params", "kernel")
    if kernel is not None:
        in_features = linen.meta.unbox(kernel).shape[axis] * groups
        check_features(who, inputs.shape, in_features)
