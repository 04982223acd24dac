"""Angles in place of products while a Linen model that exists already is called."""

import functools
from collections.abc import Callable
from typing import Any

from flax import linen
from flax.linen.module import InterceptorContext

from hypersphere import ops
from hypersphere._checks import check_callable, check_positive
from hypersphere._select import Where, check_where, dotted, is_selected
from hypersphere.linen._product import PRODUCTS


def spherize(
    *,
    where: Where = None,
    similarity: Callable[..., Any] = ops.Cosine(),
    eps: float = 1e-2,
) -> "Spherizer":
    """An interceptor under which a model's layers answer with angles.

    Within `with flax.linen.intercept_methods(spherize()):` each `Conv` and `Dense` of
    Flax that `where` selects answers as `linen.SphereConv` and `linen.SphereDense` do,
    with its own settings and the parameters it has anyway: the same variables serve
    both. Subclasses and every other layer, `ConvTranspose` and `DenseGeneral` among
    them, do what they always did. What was changed is in the interceptor's `paths`.

    It acts while a model is traced. A function compiled earlier stays as it is, so put
    the `with` inside the function that `jax.jit` is given.

    A selected last layer answers in [-1, 1], which as logits is too small for a
    softmax: leave it out, or multiply its answer by a scale.

    Args:
        where: Which layers: a glob pattern on their path, such as "Block_*.Conv_0" or
            "*Conv*", where a star also stands for dots; a list of patterns; or a
            function `where(path, layer)` of the path as a tuple. By default all. A
            pattern that matches nothing is no error: the layers of a Linen model are
            known only while it is called.
        similarity: The function g from cosines in [-1, 1] to responses. One with
            parameters needs a layer of its own, such as `linen.SphereConv`.
        eps: The smallest length that counts, in the units of the input; positive.

    Returns:
        An interceptor for `flax.linen.intercept_methods`; its `paths` are the dotted
        paths of the layers it has changed so far, in the order they were called.

    Raises:
        TypeError: If `similarity` is a class, a module or not callable, or `where` is
            none of the above.
        ValueError: If `eps` is not positive; while a model is called, if a layer is
            selected by two such interceptors.

    Example:
        >>> import flax.linen
        >>> import jax
        >>> import jax.numpy as jnp
        >>> from hypersphere import linen
        >>> model = flax.linen.Sequential([flax.linen.Dense(8), flax.linen.Dense(2)])
        >>> x = jnp.ones((1, 4))
        >>> variables = model.init(jax.random.key(0), x)
        >>> interceptor = linen.spherize(where="layers_0")
        >>> with flax.linen.intercept_methods(interceptor):
        ...     y = model.apply(variables, x)
        >>> interceptor.paths
        ['layers_0']

    References:
        Liu et al., Deep Hyperspherical Learning, NIPS 2017.
        https://arxiv.org/abs/1711.03189
    """
    check_where("spherize", where)
    check_positive("spherize", eps=eps)
    advice = "Pass a function of cosines or an object such as `ops.Cosine()`."
    check_callable("spherize", advice, similarity=similarity)
    is_partial = isinstance(similarity, functools.partial)
    made = similarity.func if is_partial else similarity
    if isinstance(made, type | linen.Module):
        raise TypeError(
            "`spherize` needs a `similarity` without parameters, because it makes no "
            f"layers that could hold them, got `similarity={similarity!r}`. {advice} "
            "One that learns belongs to a layer such as `linen.SphereConv`."
        )
    return Spherizer(where, {"similarity": similarity, "eps": eps})


class Spherizer:
    """The interceptor that `spherize` returns."""

    def __init__(self, where: Where, answer: dict[str, Any]):
        self.where = where
        self.answer = answer
        self.paths: list[str] = []

    def __repr__(self) -> str:
        similarity = self.answer["similarity"]
        return f"spherize(where={self.where!r}, similarity={similarity!r})"

    def __call__(
        self,
        call: Callable[..., Any],
        args: tuple[Any, ...],
        kwargs: dict[str, Any],
        context: InterceptorContext,
    ) -> Any:
        """What Flax calls in place of every method of every module."""
        layer: Any = context.module
        if context.method_name != "__call__" or type(layer) not in PRODUCTS:
            return call(*args, **kwargs)
        if not is_selected(self.where, layer.path, layer):
            return call(*args, **kwargs)
        if (path := dotted(layer.path)) not in self.paths:
            self.paths.append(path)
        fields = self._fields(layer)
        kept = {name: getattr(layer, name) for name in fields}
        # A module refuses assignment. This one is the copy that Flax made for the
        # call, and it is as it was once the call is over.
        _assign(layer, fields)
        try:
            return call(*args, **kwargs)
        finally:
            _assign(layer, kept)

    def _fields(self, layer: Any) -> dict[str, Any]:
        """What to put into the layer's fields, so that its product is spherical."""
        name, plain = PRODUCTS[type(layer)]
        users, users_class = getattr(layer, name), getattr(layer, f"{name}_cls")
        if isinstance(users, _Product):
            raise ValueError(
                f"The layer {dotted(layer.path)} is selected by two interceptors, "
                f"{users.by!r} and {self!r}, and would be normalized twice. Give each "
                "a `where` of its own."
            )
        product = users_class() if users_class is not None else users or plain
        arguments = self.answer | {name: product}
        operator = ops.sphere_dot_general
        if type(layer) is linen.Conv:
            operator = ops.sphere_conv_general_dilated
            arguments["mask"] = layer.mask
        product = _Product(operator, **arguments)
        product.by = self
        return {name: product, f"{name}_cls": None}


class _Product(functools.partial):
    """A product that an interceptor has put into a layer."""

    by: Spherizer


def _assign(layer: linen.Module, fields: dict[str, Any]) -> None:
    for name, value in fields.items():
        object.__setattr__(layer, name, value)
