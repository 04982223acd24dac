"""Softmax over class centres, of which the right one must do better by a margin."""

from collections.abc import Callable
from typing import Any, Literal

import jax
import jax.core
import jax.numpy as jnp
import numpy as np
from jax.typing import ArrayLike
from jaxtyping import Array, Float, Int, Shaped

from hypersphere import ops

Labels = Int[Array, " batch"] | Float[Array, "batch classes"]
"""The index of each example's class, or a share for every class."""

PerClass = ArrayLike | Shaped[Array, "..."]
"""A number; an array (classes,), one per class; or (batch, 1), one per example."""

PastPi = Literal["continuous", "clip", "pml", "plain"]
"""As `ops.additive_margin` has it."""

Answer = Callable[..., Array]
"""(cosines, margins...) -> responses of the right class."""


def margin_softmax(
    who: str,
    cos: Array,
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
        cos: (batch, classes).
        labels: Indices, or shares of classes.
        answer: (cosines of right classes, in their own dtype, **margins) -> responses,
            in float32 or wider.
        margins: Each a number, one per class, or one per example.
        scale: What responses are multiplied by; likewise.
        detach_margin: Whether the gradient is that of the plain cosine.
        label_smoothing: Share of the target spread over all classes, in [0, 1).
        others: (all cosines, those of right classes (batch, 1), **margins) -> responses
            of the classes that are not right; None for the cosines.
    """
    check(who, cos, labels, scale=scale, label_smoothing=label_smoothing)
    given, scale = cos, _columns(scale, cos)
    cos = ops.clip_cosine(cos.astype(jnp.promote_types(cos.dtype, jnp.float32)))

    def respond(given: Array, cos: Array, **margins: Any) -> Array:
        found = answer(given, **margins).astype(cos.dtype)
        return cos + jax.lax.stop_gradient(found - cos) if detach_margin else found

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
    is_right = right(labels, cos.shape[-1])
    index = jnp.where(labels < 0, labels + cos.shape[-1], labels)[:, None]
    own, of_given = (
        jnp.take_along_axis(x, index, axis=1, mode="fill") for x in (cos, given)
    )
    at_label = {n: _at(value, index, cos) for n, value in margins.items()}
    target = respond(of_given, own, **at_label)
    rest = cos if others is None else others(cos, own, **at_label)
    return cross_entropy(scale, jnp.where(is_right, target, rest), is_right)


def cross_entropy(scale: PerClass, responses: Array, is_right: Array) -> Array:
    """Cross entropy of `scale * responses`; infinite scales of 1e18 stay finite."""
    if jnp.ndim(scale) == 2 and jnp.shape(scale)[1] > 1:  # one per class
        logits = jnp.asarray(scale) * responses
    else:
        # The largest leaves before the product, which may round above its own maximum.
        largest = jax.lax.stop_gradient(jnp.max(responses, axis=-1, keepdims=True))
        logits = scale * (responses - largest)
    target = jnp.sum(jnp.where(is_right, logits, 0), axis=-1)
    loss = jax.nn.logsumexp(logits, axis=-1) - target
    return jnp.where(jnp.any(is_right, axis=-1), loss, jnp.nan)


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


def right(labels: Array, classes: int) -> Array:
    """Which class is the right one, (batch, classes); negative labels from the end."""
    index = jnp.arange(classes)[None, :]
    return (labels[:, None] == index) | (labels[:, None] == index - classes)


def smoothed(labels: Array, classes: int, share: float, dtype: Any) -> Array:
    """Shares of classes, of which some part is spread over all."""
    shares = labels if labels.ndim == 2 else right(labels, classes)
    return (1 - share) * shares.astype(dtype) + share / classes


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
    cos: Array,
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


def _at(value: PerClass, index: Array, cos: Array) -> Any:
    """A margin at the right classes: (batch, 1), or a number for all."""
    if jnp.ndim(value) == 0:
        return value
    if jnp.shape(value) == cos.shape[-1:]:
        return jnp.take(jnp.asarray(value), index, mode="fill")
    return _columns(value, cos)


def _columns(value: PerClass, cos: Array) -> Any:
    """A margin that broadcasts with (batch, classes), or a message with shapes."""
    batch, classes = cos.shape
    if jnp.shape(value) not in ((), (classes,), (batch, 1)):
        raise ValueError(
            "A margin or scale needs to be a number, or an array of shape (classes,) = "
            f"({classes},) or (batch, 1) = ({batch}, 1), got {jnp.shape(value)}."
        )
    return jnp.asarray(value)[None] if jnp.ndim(value) == 1 else value
