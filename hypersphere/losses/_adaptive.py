"""Margins by the feature's length, and by how far training has come.

State in, state out, as Optax does.
"""

import math
from typing import NamedTuple

import jax
import jax.numpy as jnp
from jaxtyping import Array, Float, Int

from hypersphere import _dtypes, ops
from hypersphere.losses._centres import (
    PerClass,
    check,
    check_angle,
    check_at_least,
    margin_softmax,
    right_cosines,
)
from hypersphere.losses._chunked import Cosines
from hypersphere.losses._softmax import one_column

Norms = Float[Array, " batch"] | Float[Array, "batch 1"]


class AdaFaceState(NamedTuple):
    """Running mean and deviation of feature norms, scalars in their units.

    Args:
        mean: The mean.
        deviation: The standard deviation of a sample.

    Example:
        >>> from hypersphere import losses
        >>> losses.AdaFaceState()
        AdaFaceState(mean=20.0, deviation=100.0)
    """

    mean: Array | float = 20.0
    deviation: Array | float = 100.0


def adaface(
    cos: Cosines,
    labels: Int[Array, " batch"],
    state: AdaFaceState,
    *,
    feature_norm: Norms,
    margin: PerClass = 0.4,
    concentration: float = 0.333,
    scale: PerClass = 64.0,
    momentum: float = 0.99,
    eps: float = 1e-3,
) -> tuple[Float[Array, " batch"], AdaFaceState]:
    """A margin in radians that is larger for features that are longer than usual.

    With z the norm, taken relative to its running mean and deviation, times
    `concentration`, in [-1, 1], the right class answers at
    `cos(clip(theta - margin * z, eps, pi - eps)) - margin * (1 + z)`.

    Args:
        cos: Cosine between each feature and each class centre, in [-1, 1].
        labels: Index of the right class, in [0, classes).
        state: Of the step before; `AdaFaceState()` at first.
        feature_norm: The length of each feature, in its own units; no gradient goes
            there. Of the whole batch on all devices.
        margin: In radians, in [0, pi], and a cosine at once.
        concentration: What the relative norm is multiplied by, positive.
        scale: What cosines are multiplied by; as in `normface`.
        momentum: Share of the statistics that a step keeps, in [0, 1]; 0 takes those of
            the batch alone. The published code's `t_alpha` is one minus this.
        eps: Radians, and cosines, that all stay away from their ends by.

    Returns:
        The loss of each example in nats, and the new state.

    Raises:
        ValueError: If shapes, a label or a number do not fit.

    Example:
        >>> import jax.numpy as jnp
        >>> from hypersphere import losses
        >>> cos, norms = jnp.array([[0.9, 0.1], [0.2, 0.8]]), jnp.array([15.0, 30.0])
        >>> loss, state = losses.adaface(
        ...     cos, jnp.array([0, 1]), losses.AdaFaceState(), feature_norm=norms
        ... )
        >>> print(state.mean)
        20.025

    References:
        Kim et al., AdaFace, CVPR 2022, equations 13 to 16.
        https://arxiv.org/abs/2204.00964
        Differs: a batch of one has deviation 0, where the code's is NaN.
    """
    check_angle("adaface", margin=margin)
    check_at_least("adaface", 0, concentration=concentration)
    norms = one_column("adaface", feature_norm, cos)
    norms = jax.lax.stop_gradient(jnp.clip(_dtypes.widened(norms), 1e-3, 100.0))
    freedom = max(norms.size - 1, 1)
    mean = jnp.mean(norms)
    deviation = jnp.sqrt(jnp.sum(jnp.square(norms - mean)) / freedom)
    state = AdaFaceState(
        momentum * state.mean + (1 - momentum) * mean,
        momentum * state.deviation + (1 - momentum) * deviation,
    )
    relative = (norms - state.mean) / (state.deviation + eps)
    z = jnp.clip(concentration * relative, -1, 1)

    def inside(cos: Array) -> Array:
        return jnp.clip(cos.astype(norms.dtype), eps - 1, 1 - eps)

    def answer(cos: Array, margin: PerClass, z: Array) -> Array:
        theta = jnp.clip(ops.angle(inside(cos)) - margin * z, eps, math.pi - eps)
        return jnp.cos(theta) - margin * (1 + z)

    loss = margin_softmax(
        "adaface",
        cos,
        labels,
        answer,
        {"margin": margin, "z": z},
        scale=scale,
        others=lambda cos, own, margin, z: inside(cos),
    )
    return loss, state


def magface(
    cos: Cosines,
    labels: Int[Array, " batch"],
    *,
    feature_norm: Norms,
    norms: tuple[float, float] = (10.0, 110.0),
    margins: tuple[float | Array, float | Array] = (0.45, 0.8),
    scale: PerClass = 64.0,
    regularizer: float = 35.0,
    past_pi: str = "continuous",
) -> Float[Array, " batch"]:
    """A margin in radians that grows with the feature's length, and a reward for it.

    `arcface` with a margin that rises in a straight line from `margins[0]` at the
    length `norms[0]` to `margins[1]` at `norms[1]`, plus `regularizer` times `a /
    norms[1]**2 + 1 / a` with a the length, kept inside of `norms`: beyond them it has
    no gradient.

    Args:
        cos: Cosine between each feature and each class centre, in [-1, 1].
        labels: Index of the right class, in [0, classes).
        feature_norm: The length of each feature, in its own units.
        norms: The shortest and longest that count, positive.
        margins: Theirs, in radians, in [0, pi]; they may be traced.
        scale: What cosines are multiplied by; as in `normface`.
        regularizer: Weight of the reward, at least 0. Lengths move towards
            `norms[1]` if it is above `scale * k * (u * l)**2 / (u**2 - l**2)`, with l
            and u of `norms` and k the slope of the margin.
        past_pi: What comes past pi, as in `ops.additive_margin`.

    Returns:
        The loss of each example, in nats but for the reward.

    Raises:
        ValueError: If shapes, a label or a number do not fit.

    Example:
        >>> import jax.numpy as jnp
        >>> from hypersphere import losses
        >>> cos, norms = jnp.array([[0.9, 0.1], [0.2, 0.8]]), jnp.array([15.0, 30.0])
        >>> loss = losses.magface(
        ...     cos, jnp.array([0, 1]), feature_norm=norms, scale=4.0, regularizer=0.0
        ... )
        >>> print(loss.round(2))
        [0.12 0.38]

    References:
        Meng et al., MagFace, CVPR 2021, equations 4 to 6.
        https://arxiv.org/abs/2103.06627
        Differs: no `easy_margin`, which the published code has by default and which is
        not monotone.
    """
    low, high = norms
    if not 0 < low < high < math.inf:
        raise ValueError(f"`magface` needs `0 < norms[0] < norms[1]`, got {norms!r}.")
    check_angle("magface", margins_0=margins[0], margins_1=margins[1])
    check_at_least("magface", 0, regularizer=regularizer)
    length = one_column("magface", feature_norm, cos)
    length = jnp.clip(_dtypes.widened(length), low, high)
    slope = (margins[1] - margins[0]) / (high - low)
    loss = margin_softmax(
        "magface",
        cos,
        labels,
        lambda cos, margin: ops.additive_margin(cos, angular=margin, past_pi=past_pi),
        {"margin": margins[0] + slope * (length - low)},
        scale=scale,
    )
    reward = length[:, 0] / high**2 + 1 / length[:, 0]
    return loss + regularizer * reward


class CurricularFaceState(NamedTuple):
    """What `curricularface` knows of the steps before.

    Args:
        mean: The running mean of right classes' cosines, a scalar in [-1, 1].

    Example:
        >>> from hypersphere import losses
        >>> losses.CurricularFaceState()
        CurricularFaceState(mean=0.0)
    """

    mean: Array | float = 0.0


def curricularface(
    cos: Cosines,
    labels: Int[Array, " batch"],
    state: CurricularFaceState,
    *,
    margin: PerClass = 0.5,
    scale: PerClass = 64.0,
    momentum: float = 0.99,
    past_pi: str = "continuous",
) -> tuple[Float[Array, " batch"], CurricularFaceState]:
    """`arcface` with `margin` radians, where hard wrong classes count more and more.

    A wrong class whose cosine is above that of the right one with its margin answers
    `c * (t + c)`, with t the running mean of the right classes' cosines.

    Args:
        cos: Cosine between each feature and each class centre, in [-1, 1].
        labels: Index of the right class, in [0, classes).
        state: Of the step before; `CurricularFaceState()` at first.
        margin: In radians, in [0, pi]; as in `arcface`.
        scale: What cosines are multiplied by; as in `normface`.
        momentum: Share of the mean that a step keeps, in [0, 1].
        past_pi: What comes past pi, as in `ops.additive_margin`.

    Returns:
        The loss of each example in nats, and the new state, of the whole batch.

    Raises:
        ValueError: If shapes, a label or a number do not fit.

    Example:
        >>> import jax.numpy as jnp
        >>> from hypersphere import losses
        >>> cos = jnp.array([[0.9, 0.1], [0.2, 0.8]])
        >>> loss, state = losses.curricularface(
        ...     cos, jnp.array([0, 1]), losses.CurricularFaceState(), scale=4.0
        ... )
        >>> print(loss.round(2), state.mean)
        [0.14 0.35] 0.0085

    References:
        Huang et al., CurricularFace, CVPR 2020, equations 5 to 8.
        https://arxiv.org/abs/2004.00288
    """
    check_angle("curricularface", margin=margin)
    check("curricularface", cos, labels, scale=scale, only_indices=True)
    own = right_cosines(cos, labels)
    mean = (1 - momentum) * jax.lax.stop_gradient(jnp.mean(own))
    state = CurricularFaceState(mean + momentum * state.mean)

    def harder(cos: Array, own: Array, margin: PerClass) -> Array:
        moved = ops.additive_margin(own, angular=margin, past_pi="plain")
        return jnp.where(cos > moved, cos * (state.mean + cos), cos)

    loss = margin_softmax(
        "curricularface",
        cos,
        labels,
        lambda cos, margin: ops.additive_margin(cos, angular=margin, past_pi=past_pi),
        {"margin": margin},
        scale=scale,
        others=harder,
    )
    return loss, state
