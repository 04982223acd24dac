"""Losses on plain scores whose probabilities are made without an exponential."""

import math

import jax
import jax.numpy as jnp
from jaxtyping import Array, Float, Int

from hypersphere import ops
from hypersphere._checks import check_positive
from hypersphere.losses._centres import check
from hypersphere.losses._softmax import widened


def spherical_softmax(
    logits: Float[Array, "batch classes"],
    labels: Int[Array, " batch"],
    *,
    eps: float = 1e-3,
) -> Float[Array, " batch"]:
    """Cross entropy of probabilities that go by squares: `o**2 + eps` over its sum.

    A class is named by a score far from zero, of either sign.

    Args:
        logits: Class scores o, dimensionless.
        labels: Index of the right class, in [0, classes).
        eps: What is added to each square, positive.

    Returns:
        The loss of each example in nats, at least zero. Take the mean yourself.

    Raises:
        ValueError: If shapes or a label do not fit, or `eps` is not positive.

    Example:
        >>> import jax.numpy as jnp
        >>> from hypersphere import losses
        >>> logits = jnp.array([[2.0, 1.0], [1.0, 3.0]])
        >>> print(losses.spherical_softmax(logits, jnp.array([0, 1])).round(2))
        [0.22 0.11]

    References:
        de Brebisson and Vincent, An Exploration of Softmax Alternatives Belonging to
        the Spherical Loss Family, ICLR 2016, equation 5.
        https://arxiv.org/abs/1511.05042
    """
    check("spherical_softmax", logits, labels, only_indices=True)
    check_positive("spherical_softmax", eps=eps)
    return _of_squares(widened(logits), labels, eps)


def taylor_softmax(
    logits: Float[Array, "batch classes"], labels: Int[Array, " batch"]
) -> Float[Array, " batch"]:
    """Cross entropy of probabilities `1 + o + o**2 / 2` over its sum.

    The exponential of a softmax up to its second order, which is never below a half. A
    score below -1 makes its class more probable again.

    Args:
        logits: Class scores o, dimensionless.
        labels: Index of the right class, in [0, classes).

    Returns:
        The loss of each example in nats, at least zero. Take the mean yourself.

    Raises:
        ValueError: If shapes or a label do not fit.

    Example:
        >>> import jax.numpy as jnp
        >>> from hypersphere import losses
        >>> logits = jnp.array([[2.0, 0.0], [1.0, 3.0]])
        >>> print(losses.taylor_softmax(logits, jnp.array([0, 1])).round(1))
        [0.2 0.3]

    References:
        de Brebisson and Vincent, An Exploration of Softmax Alternatives Belonging to
        the Spherical Loss Family, ICLR 2016, equation 6.
        https://arxiv.org/abs/1511.05042
    """
    check("taylor_softmax", logits, labels, only_indices=True)
    # 2 + 2 o + o^2 = (o + 1)^2 + 1
    return _of_squares(widened(logits) + 1, labels, 1.0)


def spherical_logits(
    logits: Float[Array, "batch classes"], *, eps: float = 1e-3
) -> Float[Array, "batch classes"]:
    """Scores of which the softmax is the spherical one: `log(o**2 + eps)`.

    Those of the Taylor softmax are these of `o + 1` with an eps of one.

    Args:
        logits: Class scores o, dimensionless.
        eps: What is added to each square, positive.

    Returns:
        In at least float32, finite for every finite score.

    Raises:
        ValueError: If `eps` is not positive.

    Example:
        >>> import jax
        >>> import jax.numpy as jnp
        >>> from hypersphere import losses
        >>> scores = losses.spherical_logits(jnp.array([[2.0, -2.0, 0.0]]), eps=1e-6)
        >>> print(jax.nn.softmax(scores).round(1))
        [[0.5 0.5 0. ]]

    References:
        de Brebisson and Vincent, An Exploration of Softmax Alternatives Belonging to
        the Spherical Loss Family, ICLR 2016. https://arxiv.org/abs/1511.05042
    """
    check_positive("spherical_logits", eps=eps)
    return 2 * jnp.log(jnp.hypot(widened(logits), math.sqrt(eps)))


def z_loss(
    logits: Float[Array, "batch classes"],
    labels: Int[Array, " batch"],
    *,
    sharpness: float = 1.0,
    target: float = 2.0,
    eps: float = 1e-3,
) -> Float[Array, " batch"]:
    """How far the right class's score is below `target` deviations above the mean.

    With z the right class's score less the mean, over the standard deviation of the
    scores, `softplus(sharpness * (target - z)) / sharpness`. Adding to all scores, or
    multiplying them, changes nothing.

    Args:
        logits: Class scores, dimensionless.
        labels: Index of the right class, in [0, classes).
        sharpness: How sharply the loss bends at the target, positive.
        target: In standard deviations; z is at most `sqrt(classes - 1)`.
        eps: The smallest deviation that counts, in the units of the scores; positive.

    Returns:
        The loss of each example, at least zero, in deviations. Take the mean yourself.

    Raises:
        ValueError: If shapes or a label do not fit, or a number is not positive.

    Example:
        >>> import jax.numpy as jnp
        >>> from hypersphere import losses
        >>> logits = jnp.array([[2.0, 0.0], [1.0, 3.0]])
        >>> print(losses.z_loss(logits, jnp.array([0, 1])).round(2))
        [1.31 1.31]

    References:
        de Brebisson and Vincent, The Z-loss, 2016. https://arxiv.org/abs/1604.08859
    """
    check("z_loss", logits, labels, only_indices=True)
    check_positive("z_loss", sharpness=sharpness, eps=eps)
    wide, root = widened(logits), math.sqrt(logits.shape[-1])
    size = jax.lax.stop_gradient(jnp.max(jnp.abs(wide), axis=-1, keepdims=True))
    wide = wide / jnp.where(size > 1e15, size, 1)  # where `eps` is nothing
    mean = jnp.sum(wide / logits.shape[-1], axis=-1, keepdims=True)
    z = root * _at(ops.unit(wide - mean, eps=root * eps), labels)
    return jax.nn.softplus(sharpness * (target - z)) / sharpness


def _of_squares(x: Array, labels: Array, add: float) -> Array:
    """Minus the logarithm of the right one's share of `x**2 + add`."""
    size = jnp.max(jnp.abs(x), axis=-1, keepdims=True)
    size = jax.lax.stop_gradient(jnp.maximum(size, math.sqrt(add)))
    # Divided by the largest, no square overflows; what underflows is far below it.
    squares = jnp.square(x / size) + jnp.maximum(add / size / size, 1e-30)
    return jnp.log(jnp.sum(squares, axis=-1)) - jnp.log(_at(squares, labels))


def _at(x: Array, labels: Array) -> Array:
    return jnp.take_along_axis(x, labels[:, None], axis=-1)[:, 0]
