"""Softmax losses on cosines, with and without an angular margin."""

import math
from collections.abc import Callable

import jax
import jax.numpy as jnp
import optax
from jax.typing import ArrayLike
from jaxtyping import Array, Float, Int

from hypersphere import _dtypes, ops
from hypersphere.losses._chunked import Cosines, chunked_softmax


def softmax(
    logits: Float[Array, "batch classes"],
    labels: Int[Array, " batch"],
    *,
    label_smoothing: float = 0.0,
    floor: float = 0.0,
) -> Float[Array, " batch"]:
    """Cross entropy of a plain softmax, with the two safeguards of the authors' code.

    With p the softmax of the logits and t the smoothed target, `-sum(t * log(p +
    floor))`.

    Args:
        logits: Class scores, dimensionless.
        labels: Index of the right class, in [0, classes). Not checked: an index outside
            counts as no class at all.
        label_smoothing: Share of the target spread evenly over all classes, in [0, 1).
        floor: What is added to every probability, at least 0; the sum is not made one
            again, so that the loss may fall below zero by at most `log(1 + floor)`.

    Returns:
        The loss of each example in nats. Take the mean yourself.

    Raises:
        ValueError: If `label_smoothing` or `floor` is out of its range.

    Example:
        >>> import jax.numpy as jnp
        >>> from hypersphere import losses
        >>> logits = jnp.array([[2.0, 0.0], [1.0, 3.0]])
        >>> print(losses.softmax(logits, jnp.array([0, 1])).round(2))
        [0.13 0.13]

    References:
        The authors of Liu et al., Deep Hyperspherical Learning, NIPS 2017, train with
        `label_smoothing=0.01, floor=1e-4`. https://arxiv.org/abs/1711.03189
    """
    if not 0 <= label_smoothing < 1 or not 0 <= floor < float("inf"):
        raise ValueError(
            "`softmax` needs `0 <= label_smoothing < 1` and a finite `floor >= 0`, got "
            f"`label_smoothing={label_smoothing!r}` and `floor={floor!r}`."
        )
    wide = widened(logits)
    log_p = jax.nn.log_softmax(wide)
    if floor:
        log_p = jnp.logaddexp(log_p, math.log(floor))
    one_hot = jax.nn.one_hot(labels, logits.shape[-1], dtype=log_p.dtype)
    target = optax.smooth_labels(one_hot, label_smoothing)
    return -jnp.sum(target * log_p, axis=-1)


def w_softmax(
    cos: Cosines,
    labels: Int[Array, " batch"],
    *,
    feature_norm: Float[Array, " batch"] | Float[Array, "batch 1"] | None = None,
    scale: ArrayLike | None = None,
    stop_norm_gradient: bool = False,
    similarity: Callable[[Float[Array, "..."]], Float[Array, "..."]] = ops.Cosine(),
) -> Float[Array, " batch"]:
    """Cross entropy of a softmax with normalized class centres (W-Softmax).

    The logit of class j is `feature_norm * similarity(cos_j)`.

    Args:
        cos: Cosine between each feature and each class centre, in [-1, 1].
        labels: Index of the right class, in [0, classes). Not checked: an index past
            the end gives NaN, a negative one counts from the end.
        feature_norm: The length of each feature, in its own units, as
            `nn.AngularHead` returns it.
        scale: A positive number that takes the place of the lengths. Give one of the
            two.
        stop_norm_gradient: Whether lengths count but are not learned.
        similarity: The function g from cosines to responses.

    Returns:
        The loss of each example in nats, at least zero. Take the mean yourself.

    Raises:
        ValueError: If `feature_norm` does not have one entry per example, or there are
            both or none of it and a positive `scale`.

    Example:
        >>> import jax.numpy as jnp
        >>> from hypersphere import losses
        >>> cos = jnp.array([[0.9, 0.1], [0.2, 0.8]])
        >>> norm = jnp.array([4.0, 4.0])
        >>> print(losses.w_softmax(cos, jnp.array([0, 1]), feature_norm=norm).round(2))
        [0.04 0.09]

    References:
        Liu et al., Deep Hyperspherical Learning, NIPS 2017
        https://arxiv.org/abs/1711.03189
    """
    norm = length(
        "w_softmax",
        cos,
        feature_norm=feature_norm,
        scale=scale,
        stop_gradient=stop_norm_gradient,
    )
    return softmax_of(norm, cos, labels, similarity)


def softmax_of(
    scale: Array,
    cos: Cosines,
    labels: Array,
    similarity: Callable[..., Array],
    answer: Callable[..., Array] | None = None,
) -> Array:
    """Cross entropy of `scale` times a function of cosines.

    Args:
        scale: A number, or (batch, 1).
        cos: (batch, classes), or what makes them in chunks.
        labels: Indices.
        similarity: The function.
        answer: Another one for right classes; None for the same.
    """
    if isinstance(cos, ops.ChunkedCosines):
        others = lambda cos, own: similarity(cos)  # noqa: E731
        return chunked_softmax(
            cos, labels, answer or similarity, others, {}, scale=scale
        )
    cos = widened(cos)
    responses = similarity(cos)
    if answer is not None:
        responses = jnp.where(right(labels, cos.shape[-1]), answer(cos), responses)
    return cross_entropy(scale, responses, labels)


def cross_entropy(scale: ArrayLike, response: Array, labels: Array) -> Array:
    """Cross entropy of `scale * response`, finite for scales up to 1e18.

    Args:
        scale: A number, (batch, 1) or (1, classes).
        response: (batch, classes).
        labels: Indices; one past the end gives NaN, a negative one counts from there.
    """
    response = widened(response)
    is_per_class = jnp.ndim(scale) == 2 and jnp.shape(scale)[1] > 1
    # The largest response leaves before the product: compiled, a product may round
    # differently from its own maximum, and past 1e9 by enough to overflow `exp`.
    largest = jax.lax.stop_gradient(jnp.max(response, axis=-1, keepdims=True))
    wide = jnp.asarray(scale, _dtypes.common(scale, response))
    logits = wide * (response if is_per_class else response - largest)
    return optax.softmax_cross_entropy_with_integer_labels(logits, labels)


def widened(x: Array) -> Array:
    """An array in float32 or wider, whose gradient fits into its own dtype.

    A scale of some thousands times the slope of an angle is more than float16 can hold:
    there the gradient is the largest number that it can. That needs a derivative of its
    own, which forward mode cannot have.
    """
    return _from_float16(x) if x.dtype == jnp.float16 else _dtypes.widened(x)


@jax.custom_vjp
def _from_float16(x: Array) -> Array:
    return _dtypes.widened(x)


def _fitting(_: None, slope: Array) -> tuple[Array]:
    most = float(jnp.finfo(jnp.float16).max)
    return (jnp.clip(slope, -most, most).astype(jnp.float16),)


_from_float16.defvjp(lambda x: (_dtypes.widened(x), None), _fitting)


def right(labels: Array, classes: int) -> Array:
    """Which class is the right one, (batch, classes); negative labels from the end."""
    index = jnp.arange(classes)[None, :]
    return (labels[:, None] == index) | (labels[:, None] == index - classes)


def one_column(who: str, feature_norm: Array, cos: Cosines) -> Array:
    """The feature norms, shape (batch, 1), or a message that names both shapes."""
    if feature_norm.shape not in (cos.shape[:1], (*cos.shape[:1], 1)):
        raise ValueError(
            f"`{who}` needs one `feature_norm` per example, of shape "
            f"({cos.shape[0]},) or ({cos.shape[0]}, 1), got "
            f"`feature_norm.shape={feature_norm.shape}` and `cos.shape={cos.shape}`."
        )
    return jnp.reshape(feature_norm, (-1, 1))


def length(
    who: str,
    cos: Cosines,
    *,
    feature_norm: Array | None,
    scale: ArrayLike | None,
    stop_gradient: bool,
) -> Array:
    """What responses are multiplied by: lengths (batch, 1), or a scale instead."""
    is_bad = isinstance(scale, int | float) and not 0 < scale < float("inf")
    if scale is not None and stop_gradient:
        raise ValueError(
            f"`{who}` needs lengths for `stop_norm_gradient=True`, got a `scale`, "
            "which is no length. Leave one out."
        )
    if (feature_norm is None) == (scale is None) or is_bad:
        got = "no `feature_norm`" if feature_norm is None else "a `feature_norm`"
        raise ValueError(
            f"`{who}` needs either the features' lengths as `feature_norm` or a finite "
            f"`scale > 0`, got {got} and `scale={scale!r}`."
        )
    if feature_norm is None:
        return jnp.asarray(scale)
    lengths = one_column(who, feature_norm, cos)
    return jax.lax.stop_gradient(lengths) if stop_gradient else lengths
