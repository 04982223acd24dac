"""Angles in place of products while a Linen model that exists already is called."""

import contextlib
import dataclasses
import functools
import logging
import re
from collections.abc import Callable
from types import TracebackType
from typing import Any

import jax.numpy as jnp
from flax import errors, linen
from flax.linen.module import InterceptorContext

from hypersphere import ops
from hypersphere._checks import check_positive
from hypersphere._select import (
    Where,
    check_where,
    dotted,
    is_selected_below,
    matches_below,
    patterns,
    shown,
)
from hypersphere.linen._conv import DecoupledConv, SphereConv
from hypersphere.linen._dense import SphereDense, SphereDenseGeneral
from hypersphere.linen._product import PRODUCTS, STAND_INS
from hypersphere.linen._similarity import (
    Scaled,
    Similarity,
    check_similarity,
    make_similarity,
)
from hypersphere.linen._transpose import SphereConvTranspose

_KINDS = (*PRODUCTS, linen.ConvTranspose)
_SPHERICAL = (
    SphereConv,
    DecoupledConv,
    SphereDense,
    SphereDenseGeneral,
    SphereConvTranspose,
    *STAND_INS.values(),
)


def spherize(
    *,
    where: Where = None,
    similarity: Similarity = ops.Cosine(),
    eps: float = 1e-2,
    subclasses: bool = False,
    head: Where = None,
    head_scale: float | None = None,
    learn_head_scale: bool = False,
    strict: bool = False,
) -> "Spherizer":
    """An interceptor under which a model's layers answer with angles.

    Within `with linen.spherize():` each `Conv`, `ConvTranspose`, `Dense` and
    `DenseGeneral` of Flax that `where` selects, those of its attention among them,
    answers as the layer of this package does, with its own settings and the parameters
    it has anyway: the same variables serve both. Every other layer does what it always
    did. What was changed is in the interceptor's `paths`, what has weights and was not
    in its `plain`; both are logged at the end to the logger "hypersphere", at level
    INFO. `flax.linen.intercept_methods` takes it as well, and logs nothing.

    A similarity with parameters has them below its layer, as "similarity": call the
    model's `init` under the interceptor, too. The same holds for a learned scale.

    It acts while a model is traced. A function compiled earlier stays as it is, so put
    the `with` inside the function that `jax.jit` is given.

    A selected last layer answers in [-1, 1], which as logits is too small for a
    softmax: leave it out, or name it as `head` and give it a `head_scale`. The gates of
    recurrent cells are dense layers too, and would neither open nor close: leave them
    out.

    Args:
        where: Which layers: a glob pattern on their path, such as "Block_*.Conv_0" or
            "*Conv*", where a star also stands for dots; a list of patterns; or a
            function `where(path, layer)` of the path as a tuple. A pattern that is the
            path of a module means every layer below it. By default all.
        similarity: The function g from cosines in [-1, 1] to responses, or a module
            class such as `linen.LearnableSigmoid`.
        eps: The smallest length that counts, in the units of the input; positive.
        subclasses: Whether classes that are derived from these are changed, too; one
            that multiplies in a way of its own is refused.
        head: Which of the selected layers gives scores, like `where`.
        head_scale: What the answers of the head are multiplied by; positive. None for
            no head.
        learn_head_scale: Whether that is learned, as by `linen.Scaled`.
        strict: Whether to raise at the end of the `with` if nothing was changed, as
            where a function had been compiled before, or a pattern matched nothing. By
            default that is no error: the layers of a Linen model are known only while
            it is called.

    Returns:
        An interceptor, which is a context manager.

    Raises:
        TypeError: If `similarity` is not callable, or `where` is none of the above.
        ValueError: If a number is not positive, or `head` and `head_scale` do not come
            together; while a model is called, if a layer is selected by two such
            interceptors, or multiplies in a way of its own.

    Example:
        >>> import flax.linen
        >>> import jax
        >>> import jax.numpy as jnp
        >>> from hypersphere import linen
        >>> model = flax.linen.Sequential([flax.linen.Dense(8), flax.linen.Dense(2)])
        >>> x = jnp.ones((1, 4))
        >>> variables = model.init(jax.random.key(0), x)
        >>> with linen.spherize(where="layers_0") as interceptor:
        ...     y = model.apply(variables, x)
        >>> interceptor.paths, list(interceptor.plain)
        (['layers_0'], ['layers_1'])

    References:
        Liu et al., Deep Hyperspherical Learning, NIPS 2017.
        https://arxiv.org/abs/1711.03189
    """
    check_where("spherize", where)
    check_where("spherize", head)
    check_positive("spherize", eps=eps)
    check_similarity("spherize", similarity)
    if (head is None) != (head_scale is None):
        raise ValueError(
            "`spherize` needs both `head`, which of the layers gives scores, and "
            f"`head_scale`, such as 16, got `head={head!r}` and "
            f"`head_scale={head_scale!r}`."
        )
    scaled = similarity
    if head_scale is not None:
        check_positive("spherize", head_scale=head_scale)
        scaled = functools.partial(
            Scaled,
            similarity=similarity,
            scale=head_scale,
            learn_scale=learn_head_scale,
        )
    return Spherizer(
        where=where,
        similarity=similarity,
        eps=eps,
        subclasses=subclasses,
        head=head,
        scaled=scaled,
        strict=strict,
    )


@dataclasses.dataclass(eq=False, kw_only=True)
class Spherizer:
    """The interceptor that `spherize` returns."""

    where: Where
    similarity: Similarity
    eps: float
    subclasses: bool
    head: Where
    scaled: Similarity
    strict: bool
    paths: list[str] = dataclasses.field(default_factory=list)
    plain: dict[str, str] = dataclasses.field(default_factory=dict)

    def __post_init__(self):
        self._open: list[contextlib.ExitStack] = []
        self._met: set[tuple[Any, ...]] = set()

    def __repr__(self) -> str:
        return f"spherize(where={self.where!r}, similarity={self.similarity!r})"

    def __enter__(self) -> "Spherizer":
        stack = contextlib.ExitStack()
        stack.enter_context(linen.intercept_methods(self))
        self._open.append(stack)
        self._met.clear()
        return self

    def __exit__(
        self,
        kind: type[BaseException] | None,
        error: BaseException | None,
        trace: TracebackType | None,
    ) -> None:
        self._open.pop().close()
        if error is not None:
            return
        if self.strict:
            self._check_met()
        kept = [f"{kind} ({shown(path)})" for path, kind in self.plain.items()]
        logging.getLogger("hypersphere").info(
            "spherize changed %d layers: %s; left plain: %s",
            len(self.paths),
            ", ".join(map(shown, self.paths)) or "none",
            ", ".join(kept) or "none",
        )

    def __call__(
        self,
        call: Callable[..., Any],
        args: tuple[Any, ...],
        kwargs: dict[str, Any],
        context: InterceptorContext,
    ) -> Any:
        """What Flax calls in place of every method of every module."""
        layer: Any = context.module
        if isinstance(layer, _SPHERICAL):
            return call(*args, **kwargs)
        if self.strict and not self._open:
            raise ValueError(
                "`spherize(strict=True)` tells at the end of its `with`: write `with "
                "linen.spherize(...):` in place of `with intercept_methods(...):`."
            )
        base = self._base(layer) if context.method_name == "__call__" else None
        if base is None or not is_selected_below(self.where, layer.path, layer):
            answer = call(*args, **kwargs)
            self._note_plain(layer)
            return answer
        self._met.add(layer.path)
        if (path := dotted(layer.path)) not in self.paths:
            self.paths.append(path)
        try:
            if base is linen.ConvTranspose:
                return self._transposed(layer, *args, **kwargs)
            return self._changed(base, layer, call, *args, **kwargs)
        except errors.ScopeParamNotFoundError as error:
            error.add_note(
                f"The similarity of {path} has parameters: call `init` under the "
                "interceptor, too."
            )
            raise

    def _base(self, layer: Any) -> Any:
        """Which of Flax's layers it is, or is derived from; None if it stays."""
        for base in _KINDS:
            if type(layer) is base or (self.subclasses and isinstance(layer, base)):
                has_hook = base in PRODUCTS or type(layer).__call__ is base.__call__
                return base if has_hook else None
        return None

    def _similarity_of(self, layer: Any) -> Similarity:
        is_head = self.head is not None
        is_head = is_head and is_selected_below(self.head, layer.path, layer)
        return self.scaled if is_head else self.similarity

    def _changed(
        self, base: Any, layer: Any, call: Callable[..., Any], *args: Any, **kwargs: Any
    ) -> Any:
        """Flax's own call, with another product in the layer's fields."""
        fields = self._fields(base, layer)
        kept = {name: getattr(layer, name) for name in fields}
        # A module refuses assignment. This one is the copy that Flax made for the
        # call, and it is as it was once the call is over.
        _assign(layer, fields)
        try:
            answer = call(*args, **kwargs)
        finally:
            _assign(layer, kept)
        name = PRODUCTS[base][0]
        if not fields[name].was_used:
            raise ValueError(
                f"{shown(layer.path)}, a `{type(layer).__name__}`, does not use its "
                f"field `{name}`, and would stay plain: leave it out of `where`."
            )
        return answer

    def _transposed(self, layer: Any, inputs: Any) -> Any:
        """Flax's transposed convolution has no hook: ours is called in its place."""
        fields = {
            field.name: getattr(layer, field.name)
            for field in dataclasses.fields(linen.ConvTranspose)
            if field.init and field.name not in ("name", "parent")
        }
        similarity = self._similarity_of(layer)
        made = SphereConvTranspose(
            **fields, similarity=similarity, eps=self.eps, parent=None
        )
        return made.clone(parent=layer.scope.rewound())(inputs)

    def _fields(self, base: Any, layer: Any) -> dict[str, Any]:
        """What to put into the layer's fields, so that its product is spherical."""
        name, plain = PRODUCTS[base]
        users, users_class = getattr(layer, name), getattr(layer, f"{name}_cls")
        if isinstance(users, _Product):
            raise ValueError(
                f"The layer {dotted(layer.path)} is selected by two interceptors, "
                f"{users.by!r} and {self!r}, and would be normalized twice. Give each "
                "a `where` of its own."
            )
        arguments = {
            "eps": self.eps,
            name: users_class() if users_class is not None else users or plain,
        }
        operator = ops.sphere_dot_general
        if base is linen.Conv:
            operator = ops.sphere_conv_general_dilated
            arguments["mask"] = layer.mask
        product = _Product(operator, **arguments)
        product.by, product.features = self, layer.features
        product.similarity = self._similarity_of(layer)
        return {name: product, f"{name}_cls": None}

    def _note_plain(self, layer: Any) -> None:
        """Notes a layer that has weights of its own."""
        path = dotted(layer.path) if layer.scope else ""
        inside = re.sub(r"(\.?similarity)+$", "", path)
        if not layer.scope or {path, inside} & set(self.paths):
            return
        params = layer.variables.get("params", {})
        own = [value for value in params.values() if not isinstance(value, dict)]
        if any(jnp.ndim(getattr(value, "value", value)) > 1 for value in own):
            self.plain[path] = type(layer).__name__

    def _check_met(self) -> None:
        """Raises where nothing was changed, or a pattern matched nothing."""
        for pattern in (*patterns(self.where), *patterns(self.head)):
            if not any(matches_below(pattern, path) for path in self._met):
                kept = ", ".join(f"{shown(k)} ({v})" for k, v in self.plain.items())
                raise ValueError(
                    f"`spherize` has changed nothing that {pattern!r} matches: "
                    "no such layer was called, or the function was compiled before. "
                    f"Changed: {', '.join(map(shown, self.paths)) or 'none'}; plain: "
                    f"{kept or 'none'}."
                )
        if not self._met:
            raise ValueError(
                "`spherize` has changed nothing: no layer was called, or the function "
                "was compiled before. Put the `with` inside what `jax.jit` is given."
            )


class _Product(functools.partial):
    """A product that an interceptor has put into a layer."""

    by: Spherizer
    features: Any
    similarity: Similarity
    was_used: bool = False

    def __call__(self, *args: Any, **kwargs: Any) -> Any:
        self.was_used = True
        # Here, in the layer's own call, a module is made below the layer.
        similarity = make_similarity(self.similarity, self.features)
        return super().__call__(*args, **kwargs, similarity=similarity)


def _assign(layer: linen.Module, fields: dict[str, Any]) -> None:
    for name, value in fields.items():
        object.__setattr__(layer, name, value)
