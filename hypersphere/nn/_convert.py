"""One layer of Flax's as its spherical twin, and back."""

import contextvars
import functools
import inspect
import math
from typing import Any, NamedTuple

import jax
import jax.numpy as jnp
import numpy as np
from flax import nnx

from hypersphere.nn._conv import SphereConv
from hypersphere.nn._einsum import SphereEinsum
from hypersphere.nn._linear import SphereLinear, SphereLinearGeneral
from hypersphere.nn._similarity import Similarity, make_similarity
from hypersphere.nn._transpose import SphereConvTranspose
from hypersphere.ops import einsum_filters


class Twin(NamedTuple):
    """What a layer of Flax's becomes.

    Attributes:
        spherical: The class.
        product: The attribute of what it multiplies with; empty if it has none.
    """

    spherical: type
    product: str


TWINS = {
    nnx.Conv: Twin(SphereConv, "conv_general_dilated"),
    nnx.ConvTranspose: Twin(SphereConvTranspose, ""),
    nnx.Linear: Twin(SphereLinear, "dot_general"),
    nnx.LinearGeneral: Twin(SphereLinearGeneral, "dot_general"),
    nnx.Einsum: Twin(SphereEinsum, "einsum_op"),
}
_FLAX = {twin.spherical: plain for plain, twin in TWINS.items()}


def base_of(layer: Any) -> type | None:
    """Which of Flax's layers a plain one is, or is derived from."""
    if hasattr(type(layer), "directions"):
        return None
    return next((base for base in TWINS if isinstance(layer, base)), None)


def why_not(layer: Any, *, subclasses: bool) -> str:
    """Why a layer cannot be changed; empty if it can."""
    kind, base = type(layer), base_of(layer)
    if hasattr(kind, "directions"):
        return "is spherical already"
    if base is None:
        names = ", ".join(f"nnx.{base.__name__}" for base in TWINS)
        return f"is none of {names}"
    if kind is not base and not subclasses:
        return f"is derived from nnx.{base.__name__}: see `subclasses=True`"
    if base is nnx.Einsum:
        try:
            einsum_filters(layer.einsum_str, layer.kernel_shape)
        except ValueError as error:
            return f"has the einsum {layer.einsum_str!r}. {error}".rstrip(".")
    if not TWINS[base].product and kind.__call__ is not base.__call__:
        return f"has a `__call__` of its own, and nnx.{base.__name__} no hook in it"
    return ""


def spherical_of(
    plain: Any, *, similarity: Similarity, eps: float, rngs: nnx.Rngs
) -> nnx.Module:
    """The spherical layer with the settings and the very variables of a plain one."""
    base = base_of(plain)
    if base is None:
        raise TypeError(f"A {type(plain).__name__} {why_not(plain, subclasses=True)}.")
    sizes = _sizes(plain, base)
    layer = TWINS[base].spherical(
        **_settings(plain, base) | sizes.arguments,
        similarity=_similarity(similarity, sizes, rngs, plain.kernel),
        eps=eps,
        rngs=rngs,
        kernel_init=_nothing,
        bias_init=_nothing,
    )
    return _finished(layer, plain, _class_of(base, type(plain)))


def plain_of(spherical: Any) -> nnx.Module:
    """The layer of Flax's with the settings and the very variables of a spherical one.

    Parameters of its similarity are left behind.
    """
    kind = type(spherical)
    base = base_of_spherical(kind)
    product = TWINS[base].product
    settings = _settings(spherical, base)
    settings |= {product: spherical.dot_products} if product else {}
    layer = base(
        **settings,
        rngs=nnx.Rngs(0),
        kernel_init=_nothing,
        bias_init=_nothing,
    )
    own = {"similarity", "eps", "dot_products"}
    was = getattr(kind, "plain_class", base)
    return _finished(layer, spherical, was, without=own)


def become(node: Any, other: Any) -> None:
    """The object itself changes, so that all that hold it hold the other layer."""
    object.__setattr__(node, "__class__", type(other))
    vars(node).clear()
    vars(node).update(vars(other))


def _nothing(key: Any, shape: tuple[int, ...], dtype: Any) -> np.ndarray:
    """What a layer begins with whose variables are those of another one."""
    return np.broadcast_to(np.zeros((), dtype), shape)


def _settings(layer: Any, base: type) -> dict[str, Any]:
    """What Flax's class is made with: a setting is an attribute of its name."""
    names = set(inspect.signature(base.__init__).parameters)
    names -= {"self", "rngs", "kernel_init", "bias_init"}
    return {name: getattr(layer, name) for name in names if hasattr(layer, name)}


def _finished(layer: Any, old: Any, kind: type, without: Any = ()) -> Any:
    """With the old one's variables, and what its owner has put on it."""
    layer.kernel, layer.bias = old.kernel, old.bias
    for name, value in vars(old).items():
        if not hasattr(layer, name) and name not in without:
            try:
                setattr(layer, name, value)
            except ValueError:  # it holds variables, as `nnx.data` allows
                setattr(layer, name, nnx.data(value))
    object.__setattr__(layer, "__class__", kind)
    return layer


class _Sizes(NamedTuple):
    """Of a layer: arguments, what the filters are, and how often it is stacked."""

    arguments: dict[str, Any]
    features: Any
    stack: tuple[int, ...]


def _sizes(plain: Any, base: type) -> _Sizes:
    """As the kernel has them.

    The layer's own attributes may be out of date, or it is one of many: `nnx.vmap` and
    layers for `nnx.scan` stack parameters along a first axis.
    """
    shape = tuple(plain.kernel.shape)
    if base is nnx.Einsum:
        rank = len(plain.kernel_shape)
    elif base is nnx.LinearGeneral:
        axes = plain.batch_axis, plain.in_features, plain.out_features
        rank = sum(map(len, axes))
    else:
        rank = 2 if base is nnx.Linear else len(plain.kernel_size) + 2
    stack, own = shape[: len(shape) - rank], shape[len(shape) - rank :]
    if base is nnx.Einsum:
        features = einsum_filters(plain.einsum_str, own)
        return _Sizes({"kernel_shape": own}, features, stack)
    if base is nnx.LinearGeneral:
        first = len(plain.batch_axis)
        middle = first + len(plain.in_features)
        ins, outs = own[first:middle], own[middle:]
        features = outs[0] if len(outs) == 1 else outs
        return _Sizes({"in_features": ins, "out_features": outs}, features, stack)
    is_turned = getattr(plain, "transpose_kernel", False)
    ins, outs = own[:-3:-1] if is_turned else own[-2:]
    if stack and outs != plain.out_features:
        raise ValueError(
            "`spherize` needs stacked layers whose first axis is the stack's, got a "
            f"kernel of shape {shape} for {plain.out_features} filters."
        )
    ins *= getattr(plain, "feature_group_count", 1)
    return _Sizes({"in_features": ins, "out_features": outs}, outs, stack)


def _similarity(
    similarity: Similarity, sizes: _Sizes, rngs: nnx.Rngs, kernel: Any
) -> Any:
    """A layer's own similarity, stacked like its kernel, abstract where that is."""
    make = functools.partial(make_similarity, "spherize", similarity, sizes.features)
    stack = sizes.stack

    def stacked(rngs: nnx.Rngs) -> Any:
        made = make(rngs)
        if not stack or made is similarity or not isinstance(made, nnx.Module):
            return made
        more = [make(rngs) for _ in range(math.prod(stack) - 1)]
        states = [nnx.state(one) for one in (made, *more)]
        join = lambda *x: jnp.reshape(jnp.stack(x), (*stack, *x[0].shape))  # noqa: E731
        nnx.update(made, jax.tree.map(join, *states))
        return made

    is_abstract = isinstance(kernel.get_raw_value(), jax.ShapeDtypeStruct)
    if is_abstract and isinstance(make(nnx.Rngs(0)), nnx.Module):
        return nnx.eval_shape(lambda: stacked(nnx.Rngs(0)))
    return stacked(rngs)


@functools.cache
def _class_of(base: type, kind: type) -> type:
    """The spherical class for one of Flax's, or for one that is derived from it."""
    spherical, product = TWINS[base]
    if kind is base:
        return spherical
    return type(spherical)(
        f"Sphere{kind.__name__}",
        (_Watched, spherical, kind),
        {
            "__module__": kind.__module__,
            "__doc__": kind.__doc__,
            "plain_class": kind,
            product or "_": _watched(getattr(spherical, product, None)),
        },
    )


_WAS_USED = contextvars.ContextVar("_WAS_USED", default=False)
_KNOWN: set[type] = set()


def _watched(product: Any) -> Any:
    """A layer's product that notes when it is asked for."""
    if product is None:
        return None

    def get(layer: Any) -> Any:
        _WAS_USED.set(True)
        return product.fget(layer)

    return property(get, product.fset)


def _blank(base: type, kind: type) -> Any:
    """A layer of a class that no module has, before it gets its attributes."""
    return object.__new__(_class_of(base, kind))


class _Watched(nnx.Module):
    """What is derived from Flax's layer might multiply in a way of its own."""

    plain_class: type

    def __reduce_ex__(self, protocol: Any) -> Any:
        """For pickle, which looks a class up by its name."""
        _, _, *rest = super().__reduce_ex__(protocol)
        base = base_of_spherical(type(self))
        return _blank, (base, self.plain_class), *rest

    def __call__(self, *args: Any, **kwargs: Any) -> Any:
        kind: Any = type(self)
        call: Any = super().__call__  # pyrefly: ignore[missing-attribute]
        product = TWINS[base_of_spherical(kind)].product
        if not product or kind in _KNOWN:
            return call(*args, **kwargs)
        token = _WAS_USED.set(False)
        try:
            answer = call(*args, **kwargs)
            was_used = _WAS_USED.get()
        finally:
            _WAS_USED.reset(token)
        if not was_used:
            raise ValueError(
                f"`spherize` has changed a `{kind.plain_class.__name__}`, whose "
                f"`__call__` does not use `self.{product}`: it would stay plain. Use "
                "that in it, or leave the layer out."
            )
        _KNOWN.add(kind)
        return answer


def base_of_spherical(kind: type) -> type:
    """The layer of Flax's that a spherical class has become of."""
    return next(_FLAX[each] for each in kind.__mro__ if each in _FLAX)
