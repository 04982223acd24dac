"""Scales and margins that fit themselves to the batch.

State in, state out, as Optax does.
"""

import math
from typing import NamedTuple

import jax
import jax.numpy as jnp
from jaxtyping import Array, Float, Int

from hypersphere import ops
from hypersphere.losses._centres import check, margin_softmax, right_cosines
from hypersphere.losses._chunked import Cosines, need_all
from hypersphere.losses._softmax import cross_entropy, right, widened

_LARGEST_SCALE = 1000.0


class AdaCosState(NamedTuple):
    """What `adacos` knows of the step before.

    Args:
        scale: Its scale, a scalar, in [1, 1000] after the first step.

    Example:
        >>> from hypersphere import losses
        >>> losses.adacos_start(11)
        AdaCosState(scale=3.256347067030294)
    """

    scale: Array | float


def adacos_start(classes: int) -> AdaCosState:
    """The scale that AdaCos begins with: `sqrt(2) * log(classes - 1)`.

    Args:
        classes: How many, at least 3: with two the scale would be zero.

    Returns:
        The state for `adacos`.

    Raises:
        ValueError: If there are fewer than three classes.

    Example:
        >>> from hypersphere import losses
        >>> round(losses.adacos_start(11).scale, 3)
        3.256
    """
    if classes < 3:
        raise ValueError(
            "`adacos` needs at least 3 classes, or its scale would begin at zero, got "
            f"{classes}. Use `normface` with a scale of your own."
        )
    return AdaCosState(math.sqrt(2) * math.log(classes - 1))


def adacos(
    cos: Cosines,
    labels: Int[Array, " batch"],
    state: AdaCosState,
) -> tuple[Float[Array, " batch"], AdaCosState]:
    """`normface` with a scale that follows the angles: nothing to be chosen.

    The new scale is `log(B) / cos(min(pi / 4, theta))`, with theta the median angle of
    right classes (the lower one of two) and B the mean over the batch of the sum of
    `exp(scale * c)` over the wrong classes, with the scale of the step before.

    Args:
        cos: Cosine between each feature and each class centre, in [-1, 1]; of all
            classes, and of the whole batch on all devices.
        labels: Index of the right class, in [0, classes).
        state: Of the step before; `adacos_start(classes)` at first.

    Returns:
        The loss of each example in nats, by the new scale, and the new state.

    Raises:
        ValueError: If shapes or a label do not fit.

    Example:
        >>> import jax.numpy as jnp
        >>> from hypersphere import losses
        >>> cos = jnp.array([[0.9, 0.1, 0.2], [0.2, 0.8, 0.1]])
        >>> state = losses.adacos_start(3)
        >>> loss, state = losses.adacos(cos, jnp.array([0, 1]), state)
        >>> round(float(state.scale), 3)
        1.0

    References:
        Zhang et al., AdaCos, CVPR 2019, equations 12 to 14.
        https://arxiv.org/abs/1905.00292
        Differs: the scale is at least 1 (of few classes with wide angles it would
        become negative) and at most 1000: where wrong classes are as near as the right
        one it would grow by a factor of up to 1.4 at every step, without end.
    """
    cos = need_all("adacos", cos)
    check("adacos", cos, labels, only_indices=True)
    wide = jax.lax.stop_gradient(widened(cos))
    is_right = right(labels, cos.shape[-1])
    wrong = jnp.where(is_right, -jnp.inf, state.scale * wide)
    mean = jax.nn.logsumexp(wrong) - math.log(len(cos))
    angles = ops.angle(right_cosines(wide, labels)[:, 0])
    scale = mean / jnp.cos(jnp.minimum(math.pi / 4, _lower_median(angles)))
    scale = jnp.clip(scale, 1, _LARGEST_SCALE)
    loss = margin_softmax("adacos", cos, labels, lambda cos: cos, {}, scale=scale)
    return loss, AdaCosState(scale)


def madacos(
    cos: Cosines,
    labels: Int[Array, " batch"],
    *,
    share: float = 0.02,
    least_scale: float = 32.0,
    classes: int = 0,
) -> Float[Array, " batch"]:
    """`cosface` whose scale and margin are those of the batch's median example.

    With c the median of the right classes' cosines (the lower one of two), the scale is
    `log((classes - 1) * (1 - share) / share) / (1 - c)`, and at least `least_scale`:
    it grows as the classes become tighter. The margin then brings the right class of
    the median example to the probability `share`; it is at least 0. No gradient goes
    through either. It depends on the batch, in an evaluation too.

    Args:
        cos: Cosine between each feature and each class centre, in [-1, 1]; of all
            classes, and of the whole batch on all devices.
        labels: Index of the right class, in [0, classes).
        share: Of the probability that the median example is to give its class, (0, 1).
        least_scale: Positive.
        classes: What counts as the number of classes; 0 for that of `cos`. The
            published code has 10,000,000 whatever the set.

    Returns:
        The loss of each example in nats, at least zero.

    Raises:
        ValueError: If shapes, a label or a number do not fit.

    Example:
        >>> import jax.numpy as jnp
        >>> from hypersphere import losses
        >>> cos = jnp.array([[0.9, 0.1], [0.2, 0.8]])
        >>> print(losses.madacos(cos, jnp.array([0, 1])).round(4))
        [0.0783 3.912 ]

    References:
        Zhu et al., Coarse-to-Fine Compact Discriminative (CFCD), ICCV 2023.
        https://arxiv.org/abs/2308.04008
    """
    cos = need_all("madacos", cos)
    check("madacos", cos, labels, scale=least_scale, only_indices=True)
    if not 0 < share < 1:
        raise ValueError(f"`madacos` needs `0 < share < 1`, got `share={share!r}`.")
    wide = jax.lax.stop_gradient(widened(cos))
    is_right = right(labels, cos.shape[-1])
    own = right_cosines(wide, labels)[:, 0]
    median = _lower_median(own)
    others = max((classes or cos.shape[-1]) - 1, 1)
    odds = math.log(others * (1 - share) / share)
    gap = jnp.maximum(1 - median, float(jnp.finfo(cos.dtype).eps))
    scale = jnp.maximum(odds / gap, least_scale)
    which = jnp.argmax(own == median)
    wrong = jnp.where(is_right[which], -jnp.inf, scale * wide[which])
    reach = jax.nn.logsumexp(wrong) + math.log(share / (1 - share))
    margin = jnp.maximum(median - reach / scale, 0)
    responses = cos.astype(wide.dtype) - jnp.where(is_right, margin, 0)
    return cross_entropy(scale, responses, labels)


def _lower_median(values: Array) -> Array:
    return jnp.sort(values)[(values.size - 1) // 2]
