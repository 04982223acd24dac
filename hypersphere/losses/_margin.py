"""Softmax losses whose right class must answer at a multiple of its angle."""

import jax
import jax.numpy as jnp
import numpy as np
import optax
from jax.typing import ArrayLike
from jaxtyping import Array, Float, Int

from hypersphere import ops
from hypersphere.losses._chunked import Cosines
from hypersphere.losses._softmax import length, softmax_of


def ga_softmax(
    cos: Cosines,
    labels: Int[Array, " batch"],
    *,
    feature_norm: Float[Array, " batch"] | Float[Array, "batch 1"] | None = None,
    scale: ArrayLike | None = None,
    stop_norm_gradient: bool = False,
    margin: ArrayLike = 4.0,
    similarity: ops.Similarity = ops.Linear(),
    margin_weight: ArrayLike = 1.0,
) -> Float[Array, " batch"]:
    """W-Softmax whose right class answers at `margin` times its angle (GA-Softmax).

    The right class's logit is `feature_norm * psi(margin * theta)`, with psi the
    similarity continued past pi so that it never rises; the others are as in
    `w_softmax`. A margin of one is `w_softmax`. With `ops.Sigmoid` psi saturates: see
    its `at_angle`.

    Args:
        cos: Cosine between each feature and each class centre, in [-1, 1].
        labels: Index of the right class, in [0, classes). Not checked: an index past
            the end gives NaN, a negative one counts from the end.
        feature_norm: The length of each feature, in its own units, as
            `nn.AngularHead` returns it. With a margin the cheapest way to a small loss
            is to shorten all features.
        scale: A positive number that takes the place of the lengths: features then keep
            theirs. Give one of the two.
        stop_norm_gradient: Whether lengths count but are not learned.
        margin: What the right class's angle is multiplied by, dimensionless, any real
            number from one on. May be traced, and is not checked then.
        similarity: Gives g by being called, and psi by its `at_angle`.
        margin_weight: How much of the margin counts, in [0, 1], dimensionless: the
            right class answers `(1 - margin_weight) * g + margin_weight * psi`. May be
            an array of shape (), such as `losses.annealed_margin_weight` gives;
            arrays are not checked.

    Returns:
        The loss of each example in nats, at least zero. Take the mean yourself.

    Raises:
        ValueError: If `margin` is below one or no single number, `margin_weight` is a
            number outside [0, 1], `feature_norm` does not have one entry per example,
            or there are both or none of it and a positive `scale`.
        TypeError: If `similarity` has no `at_angle`.

    Example:
        >>> import jax.numpy as jnp
        >>> from hypersphere import losses
        >>> cos = jnp.array([[0.9, 0.1], [0.2, 0.8]])
        >>> norm = jnp.array([4.0, 4.0])
        >>> loss = losses.ga_softmax(
        ...     cos, jnp.array([0, 1]), feature_norm=norm, margin=2.0
        ... )
        >>> print(loss.round(2))
        [0.21 0.59]

    References:
        Liu et al., Deep Hyperspherical Learning, NIPS 2017
        https://arxiv.org/abs/1711.03189
        Liu et al., SphereFace, CVPR 2017, for the blend: lambda there is
        `1 / margin_weight - 1`. https://arxiv.org/abs/1704.08063
        Differs: the margin is any real number; SphereFace's code multiplies the
        gradient to the feature by a further factor, here it is the true one.
    """
    _check_margin("ga_softmax", margin, margin_weight)
    if not hasattr(similarity, "at_angle"):
        raise TypeError(
            "`ga_softmax` needs a `similarity` with a method `at_angle`, which "
            f"continues it past pi, got `similarity={similarity!r}`. `ops.Cosine()`, "
            "`ops.Linear()` and `ops.Sigmoid(k)` have it."
        )
    norm = length(
        "ga_softmax",
        cos,
        feature_norm=feature_norm,
        scale=scale,
        stop_gradient=stop_norm_gradient,
    )

    def answer(cos: Array) -> Array:
        response = similarity(cos)
        beyond = ops.margin_response(cos, margin=margin, similarity=similarity)
        return response + margin_weight * (beyond - response)

    return softmax_of(norm, cos, labels, similarity, answer)


def a_softmax(
    cos: Cosines,
    labels: Int[Array, " batch"],
    *,
    feature_norm: Float[Array, " batch"] | Float[Array, "batch 1"] | None = None,
    scale: ArrayLike | None = None,
    stop_norm_gradient: bool = False,
    margin: ArrayLike = 4.0,
    margin_weight: ArrayLike = 1.0,
) -> Float[Array, " batch"]:
    """`ga_softmax` with the cosine similarity: A-Softmax, the loss of SphereFace.

    Args:
        cos: Cosine between each feature and each class centre, in [-1, 1].
        labels: Index of the right class, in [0, classes); not checked.
        feature_norm: The length of each feature, in its own units.
        scale: A positive number in place of the lengths.
        stop_norm_gradient: Whether lengths count but are not learned.
        margin: What the right class's angle is multiplied by, from one on; a number,
            which may be traced.
        margin_weight: How much of the margin counts, in [0, 1].

    Returns:
        The loss of each example in nats, at least zero. Take the mean yourself.

    Raises:
        ValueError: As `ga_softmax`.

    Example:
        >>> import jax.numpy as jnp
        >>> from hypersphere import losses
        >>> cos = jnp.array([[0.9, 0.1], [0.2, 0.8]])
        >>> norm = jnp.array([4.0, 4.0])
        >>> loss = losses.a_softmax(
        ...     cos, jnp.array([0, 1]), feature_norm=norm, margin=2.0
        ... )
        >>> print(loss.round(2))
        [0.12 0.55]

    References:
        Liu et al., SphereFace, CVPR 2017. https://arxiv.org/abs/1704.08063
    """
    return ga_softmax(
        cos,
        labels,
        feature_norm=feature_norm,
        scale=scale,
        stop_norm_gradient=stop_norm_gradient,
        margin=margin,
        similarity=ops.Cosine(),
        margin_weight=margin_weight,
    )


def annealed_margin_weight(
    *,
    base: float = 1000.0,
    gamma: float = 0.12,
    power: float = 1.0,
    lambda_min: float = 5.0,
) -> optax.Schedule:
    """SphereFace's annealing, as a schedule for `margin_weight`.

    With `lambda(step) = max(lambda_min, base * (1 + gamma * step) ** -power)`, the
    weight is `1 / (1 + lambda)`: next to nothing at first, so that training gets under
    way, then up to `1 / (1 + lambda_min)`.

    Args:
        base: Lambda at step zero, dimensionless, at least zero.
        gamma: How fast it falls, per step, at least zero.
        power: The exponent of the fall, at least zero.
        lambda_min: Where it stops, dimensionless, at least zero; zero ends at the full
            margin.

    Returns:
        A function from the step (an int or an array of ints) to the weight in [0, 1].

    Raises:
        ValueError: If an argument is negative or not finite.

    Example:
        >>> from hypersphere import losses
        >>> weight = losses.annealed_margin_weight()
        >>> print((1 / weight(0)).round(), (1 / weight(100_000)).round())
        1001.0 6.0

    References:
        Liu et al., SphereFace, CVPR 2017; the defaults are those of the authors'
        configuration. https://arxiv.org/abs/1704.08063
    """
    values = {"base": base, "gamma": gamma, "power": power, "lambda_min": lambda_min}
    for name, value in values.items():
        if not 0 <= value < float("inf"):
            raise ValueError(
                f"`annealed_margin_weight` needs a finite `{name} >= 0`, got "
                f"`{name}={value!r}`."
            )

    def weight(step: ArrayLike) -> Array:
        falling = base * (1 + gamma * jnp.asarray(step, jnp.float32)) ** -power
        return 1 / (1 + jnp.maximum(lambda_min, falling))

    return weight


def margin_ramp(begin: int, end: int, *, shape: str = "exponential") -> optax.Schedule:
    """How much of a margin counts at each step: none at first, all of it in the end.

    For `margin_weight`, or to multiply a margin by. With t the share of the way from
    `begin` to `end`, it is t, or `(1 - 0.001**t) / 0.999`, which is fast at first.

    Args:
        begin: The last step without a margin, at least 0.
        end: The first step with all of it, after `begin`.
        shape: `exponential` or `linear`.

    Returns:
        A function from the step (an int or an array of ints) to the share, in [0, 1].

    Raises:
        ValueError: If `end` does not come after `begin`, or there is no such shape.

    Example:
        >>> from hypersphere import losses
        >>> share = losses.margin_ramp(100, 200)
        >>> [round(float(share(step)), 2) for step in (0, 100, 110, 150, 200, 300)]
        [0.0, 0.0, 0.5, 0.97, 1.0, 1.0]

    References:
        The margin scheduler of wespeaker.
        Differs: it arrives at one; that one stops at 0.999 and jumps.
    """
    if not 0 <= begin < end or shape not in ("exponential", "linear"):
        raise ValueError(
            "`margin_ramp` needs `0 <= begin < end` and a `shape` of 'exponential' or "
            f"'linear', got `begin={begin!r}`, `end={end!r}` and `shape={shape!r}`."
        )

    def share(step: ArrayLike) -> Array:
        passed = (jnp.asarray(step, jnp.float32) - begin) / (end - begin)
        t = jnp.clip(passed, 0, 1)
        return t if shape == "linear" else (1 - 1e-3**t) / (1 - 1e-3)

    return share


def _check_margin(who: str, margin: ArrayLike, margin_weight: ArrayLike) -> None:
    if jnp.ndim(margin):
        raise ValueError(
            f"`{who}` needs one `margin` for all, got "
            f"`margin.shape={jnp.shape(margin)}`."
        )
    is_known = not isinstance(margin, jax.core.Tracer)
    if is_known and not 1 <= np.asarray(margin) < np.inf:
        raise ValueError(
            f"`{who}` needs a finite `margin >= 1`, which multiplies the angle, got "
            f"`margin={margin!r}`. `margin=1.0` means none."
        )
    if isinstance(margin_weight, int | float) and not 0 <= margin_weight <= 1:
        raise ValueError(
            f"`{who}` needs `0 <= margin_weight <= 1`, got "
            f"`margin_weight={margin_weight!r}`. From SphereFace's lambda it is "
            "1 / (1 + lambda)."
        )
