"""Softmax over class centres, of which the right one must do better by a margin."""

from collections.abc import Callable
from typing import Any

import jax
import jax.core
import jax.numpy as jnp
import numpy as np
from jax.typing import ArrayLike
from jaxtyping import Array, Float, Int, Shaped

from hypersphere import ops
from hypersphere.losses._chunked import Cosines, chunked_softmax
from hypersphere.losses._softmax import cross_entropy, right, widened

Labels = Int[Array, " batch"] | Float[Array, "batch classes"]
"""The index of each example's class, or a share for every class."""

PerClass = ArrayLike | Shaped[Array, "..."]
"""A number; an array (classes,), one per class; or (batch, 1), one per example."""

Answer = Callable[..., Array]
"""(cosines, margins...) -> responses of the right class."""


def margin_softmax(
    who: str,
    cos: Cosines,
    labels: Array,
    answer: Answer,
    margins: dict[str, PerClass],
    *,
    scale: PerClass,
    detach_margin: bool = False,
    label_smoothing: float = 0.0,
    others: Callable[..., Array] | None = None,
) -> Array:
    """The loss of each example: cross entropy of `scale` times cosines with a margin.

    Args:
        who: The loss, for messages.
        cos: (batch, classes), or what makes them in chunks.
        labels: Indices, or shares of classes.
        answer: (cosines of right classes, in float32 or wider, **margins) -> their
            responses.
        margins: Each a number, one per class, or one per example.
        scale: What responses are multiplied by; likewise.
        detach_margin: Whether the gradient is that of the plain cosine.
        label_smoothing: Share of the target spread over all classes, in [0, 1).
        others: (all cosines, those of right classes (batch, 1), **margins) -> responses
            of the classes that are not right; None for the cosines.
    """
    check(who, cos, labels, scale=scale, label_smoothing=label_smoothing)
    if isinstance(cos, ops.ChunkedCosines):
        _refuse_in_chunks(who, labels, label_smoothing, scale)
        index = labels[:, None]
        at_label = {n: _at(value, index, cos) for n, value in margins.items()}
        return chunked_softmax(
            cos,
            labels,
            lambda own, **margins: _respond(answer, own, own, detach_margin, **margins),
            others or (lambda cos, own, **margins: cos),
            at_label,
            scale=scale,
        )
    given, scale = cos, _columns(scale, cos)
    cos = ops.clip_cosine(widened(cos))

    def respond(given: Array, cos: Array, **margins: Any) -> Array:
        return _respond(answer, given, cos, detach_margin, **margins)

    if labels.ndim == 2 or label_smoothing:
        if others is not None:
            raise ValueError(
                f"`{who}` needs one right class, an index, because what it does to the "
                "other classes depends on it: give labels of shape (batch,), and no "
                "`label_smoothing`."
            )
        shares = smoothed(labels, cos.shape[-1], label_smoothing, cos.dtype)
        whole = {name: _columns(value, cos) for name, value in margins.items()}
        factor, answers = jnp.asarray(scale), respond(given, cos, **whole)
        return shared_cross_entropy(factor * cos, factor * answers, shares)
    index = jnp.where(labels < 0, labels + cos.shape[-1], labels)[:, None]
    own, of_given = (
        jnp.take_along_axis(x, index, axis=1, mode="fill") for x in (cos, given)
    )
    at_label = {n: _at(value, index, cos) for n, value in margins.items()}
    target = respond(of_given, own, **at_label)
    rest = cos if others is None else others(cos, own, **at_label)
    responses = jnp.where(right(labels, cos.shape[-1]), target, rest)
    return cross_entropy(scale, responses, labels)


def _refuse_in_chunks(who: str, labels: Array, smoothing: float, scale: Any) -> None:
    """Raises where a loss needs what only all cosines tell."""
    if labels.ndim == 2 or smoothing or jnp.ndim(scale) == 1:
        raise ValueError(
            f"`{who}` needs one right class, no `label_smoothing` and no `scale` per "
            "class where cosines come in chunks: these need all of them at once. Make "
            "the head with `chunk=0`; in a config that is `config.head.level='full'`."
        )


def _respond(
    answer: Answer, given: Array, cos: Array, is_detached: Any, **margins: Any
) -> Array:
    """What a right class answers, with the gradient of its cosine if detached."""
    found = steady(answer, given, **margins)
    return cos + jax.lax.stop_gradient(found - cos) if is_detached else found


def shared_cross_entropy(plain: Array, answers: Array, shares: Array) -> Array:
    """The sum over classes of their share times the loss with that one as right.

    Args:
        plain: Logits of classes that are not right, (batch, classes).
        answers: Logits that each would have as the right one.
        shares: Of each class.
    """
    first = jnp.argmax(plain, axis=-1, keepdims=True)
    is_first = jnp.arange(plain.shape[-1])[None, :] == first
    whole = jax.nn.logsumexp(plain, axis=-1, keepdims=True)
    but_first = jax.nn.logsumexp(
        jnp.where(is_first, -jnp.inf, plain), axis=-1, keepdims=True
    )
    # All others are at most as probable as the first one, so nothing cancels.
    part = jnp.where(is_first, 0.0, jnp.exp(plain - whole))
    rest = jnp.where(is_first, but_first, whole + jnp.log1p(-part))
    return jnp.sum(shares * (jnp.logaddexp(rest, answers) - answers), axis=-1)


def steady(function: Callable[..., Array], cos: Array, **margins: Any) -> Array:
    """A function of cosines in float32 or wider, with slopes that fit their dtype.

    In float16 its slope is the one at the last cosine before one, where an angle's is
    45: times a large scale, that at one itself would overflow. Values are exact.
    """
    wide = widened(cos)
    whole = function(wide, **margins)
    if cos.dtype != jnp.float16:
        return whole
    last = 1 - 2.0**-12
    inner = wide - jax.lax.stop_gradient(wide - jnp.clip(wide, -last, last))
    inside = function(inner, **margins)
    return inside + jax.lax.stop_gradient(whole - inside)


def smoothed(labels: Array, classes: int, share: float, dtype: Any) -> Array:
    """Shares of classes, of which some part is spread over all."""
    shares = labels if labels.ndim == 2 else right(labels, classes)
    return (1 - share) * shares.astype(dtype) + share / classes


def right_cosines(cos: Cosines, labels: Array) -> Array:
    """The cosines of the right classes, (batch, 1), in float32 or wider."""
    if isinstance(cos, ops.ChunkedCosines):
        return cos.of(labels)
    wide = widened(cos)
    is_right = right(labels, cos.shape[-1])
    return jnp.sum(jnp.where(is_right, wide, 0), axis=-1, keepdims=True)


def weighted_mean(
    loss: Float[Array, " batch"], weights: Float[Array, " batch"]
) -> Float[Array, ""]:
    """The mean of losses by weights: an example of weight zero is ignored.

    Args:
        loss: Of each example; one of weight zero may be NaN or infinite, but then
            has no finite gradient.
        weights: At least zero.

    Returns:
        The sum of their products over the sum of the weights; zero if that is zero.

    Example:
        >>> import jax.numpy as jnp
        >>> from hypersphere import losses
        >>> loss, weights = jnp.array([1.0, 3.0, jnp.nan]), jnp.array([1.0, 1.0, 0.0])
        >>> print(losses.weighted_mean(loss, weights))
        2.0
    """
    total = jnp.sum(jnp.where(weights > 0, weights * loss, 0))
    whole = jnp.sum(weights)
    return jnp.where(whole > 0, total / jnp.where(whole > 0, whole, 1), 0)


def check(
    who: str,
    cos: Any,
    labels: Array,
    *,
    scale: PerClass = 1.0,
    label_smoothing: float = 0.0,
    only_indices: bool = False,
) -> None:
    """Raises where shapes or numbers do not fit; traced ones are not seen."""
    shapes = {1: cos.shape[:1], 2: None if only_indices else cos.shape}
    if cos.ndim != 2 or labels.shape != shapes.get(labels.ndim):
        shares = "" if only_indices else ", or (batch, classes), shares"
        raise ValueError(
            f"`{who}` needs `cos` of shape (batch, classes) and `labels` of shape "
            f"(batch,), indices{shares}, got "
            f"`cos.shape={cos.shape}` and `labels.shape={labels.shape}`."
        )
    if isinstance(scale, int | float) and not 0 < scale < float("inf"):
        raise ValueError(f"`{who}` needs a finite `scale > 0`, got `scale={scale!r}`.")
    if not 0 <= label_smoothing < 1:
        raise ValueError(
            f"`{who}` needs `0 <= label_smoothing < 1`, got "
            f"`label_smoothing={label_smoothing!r}`."
        )
    given = None if isinstance(labels, jax.core.Tracer) else np.asarray(labels)
    if given is not None and given.ndim == 1 and given.size:
        classes = cos.shape[-1]
        if given.min() < 0 or given.max() >= classes:
            bad = given[(given < 0) | (given >= classes)][0]
            raise ValueError(
                f"`{who}` needs `0 <= label < {classes}`, the number of classes, got "
                f"{bad}."
            )


def check_angle(who: str, **angles: PerClass) -> None:
    """Raises unless numbers are radians in [0, pi]."""
    for name, value in angles.items():
        if isinstance(value, int | float) and not 0 <= value <= np.pi:
            hint = " Is it in degrees?" if np.pi < value <= 180 else ""
            raise ValueError(
                f"`{who}` needs `{name}` in radians, in [0, pi], got "
                f"`{name}={value!r}`.{hint}"
            )


def check_at_least(who: str, least: int, **values: PerClass) -> None:
    """Raises unless numbers are finite and not below one."""
    for name, value in values.items():
        if isinstance(value, int | float) and not least <= value < float("inf"):
            raise ValueError(
                f"`{who}` needs a finite `{name} >= {least}`, got `{name}={value!r}`."
            )


def _at(value: PerClass, index: Array, cos: Cosines) -> Any:
    """A margin at the right classes: (batch, 1), or a number for all."""
    if jnp.ndim(value) == 0:
        return value
    if jnp.shape(value) == cos.shape[-1:]:
        return jnp.take(jnp.asarray(value), index, mode="fill")
    return _columns(value, cos)


def _columns(value: PerClass, cos: Cosines) -> Any:
    """A margin that broadcasts with (batch, classes), or a message with shapes."""
    batch, classes = cos.shape
    if jnp.shape(value) not in ((), (classes,), (batch, 1)):
        raise ValueError(
            "A margin or scale needs to be a number, or an array of shape (classes,) = "
            f"({classes},) or (batch, 1) = ({batch}, 1), got {jnp.shape(value)}."
        )
    return jnp.asarray(value)[None] if jnp.ndim(value) == 1 else value
