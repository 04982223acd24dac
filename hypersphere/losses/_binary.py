"""SphereFace2: every class a question of its own."""

import math

import jax
import jax.numpy as jnp
from jax.typing import ArrayLike
from jaxtyping import Array, Float, Int

from hypersphere import ops
from hypersphere.losses._centres import check, check_at_least, steady
from hypersphere.losses._chunked import Cosines, need_all
from hypersphere.losses._softmax import right, widened


def sphereface2(
    cos: Cosines,
    labels: Int[Array, " batch"],
    *,
    bias: ArrayLike,
    margin_type: str = "C",
    margin: float = 0.4,
    scale: float = 40.0,
    sharpness: float = 3.0,
    positive_share: float = 0.7,
    weight: float = 50.0,
    detach_margin: bool = False,
) -> Float[Array, " batch"]:
    """A binary loss for every class: no softmax, no sum that couples classes.

    With `g(c) = 2 * ((c + 1) / 2)**sharpness - 1`, a class scores `scale * g + bias`
    with a margin: `C` takes it from the right class's g and adds it to the others',
    `A` adds it to the right class's angle in radians, `M` multiplies that angle by it;
    the angle stops at pi. The loss is `weight / scale` times the sum over classes of
    the logistic losses, the right one weighted by `positive_share` and the others by
    the rest of one.

    Args:
        cos: Cosine between each feature and each class centre, in [-1, 1].
        labels: Index of the right class, in [0, classes).
        bias: A scalar that is learned; begin with `sphereface2_bias`.
        margin_type: How the margin acts.
        margin: For `C` and `A` at least 0, for `M` at least 1.
        scale: Positive, dimensionless.
        sharpness: The exponent of g, at least 1.
        positive_share: In (0, 1).
        weight: Positive.
        detach_margin: Whether the gradient is that of plain cosines in place of g and
            its margins, as the authors' code has it.

    Returns:
        The loss of each example, at least zero.

    Raises:
        ValueError: If shapes, a label or a number do not fit.

    Example:
        >>> import jax.numpy as jnp
        >>> from hypersphere import losses
        >>> cos = jnp.array([[0.9, 0.1], [0.2, 0.8]])
        >>> loss = losses.sphereface2(cos, jnp.array([0, 1]), bias=0.0)
        >>> print(loss.round(2))
        [0.   0.08]

    References:
        Wen et al., SphereFace2, ICLR 2022, equations 7 to 10.
        https://arxiv.org/abs/2108.01513
    """
    cos = need_all("sphereface2", cos)
    check("sphereface2", cos, labels, scale=scale, only_indices=True)
    _check(margin_type, margin, sharpness, positive_share)
    wide = widened(cos)
    is_right = right(labels, cos.shape[-1])
    own, other = (
        steady(lambda c, i=i: _sides(c, margin_type, margin, sharpness)[i], cos)
        for i in range(2)
    )
    if detach_margin:
        own, other = (wide + jax.lax.stop_gradient(x - wide) for x in (own, other))
    positive = jax.nn.softplus(-(scale * own + bias))
    negative = jax.nn.softplus(scale * other + bias)
    each = jnp.where(
        is_right, positive_share * positive, (1 - positive_share) * negative
    )
    return weight / scale * jnp.sum(each, axis=-1)


def sphereface2_bias(
    classes: int,
    *,
    margin_type: str = "C",
    margin: float = 0.4,
    scale: float = 40.0,
    sharpness: float = 3.0,
    positive_share: float = 0.7,
) -> float:
    """The bias at which a network that knows nothing starts evenly.

    Where all angles are right ones, the weighted losses of the right class and of the
    wrong ones pull on the bias as strongly.

    Args:
        classes: How many, at least 2.
        margin_type: As in `sphereface2`, like the rest.
        margin: How large.
        scale: What g is multiplied by.
        sharpness: The exponent of g.
        positive_share: The weight of the right class.

    Returns:
        The bias, dimensionless.

    Raises:
        ValueError: If a number is out of range.

    Example:
        >>> from hypersphere import losses
        >>> round(losses.sphereface2_bias(1_000), 2)
        7.94

    References:
        Wen et al., SphereFace2, ICLR 2022. https://arxiv.org/abs/2108.01513
    """
    if classes < 2:
        raise ValueError(f"`sphereface2_bias` needs at least 2 classes, got {classes}.")
    _check(margin_type, margin, sharpness, positive_share)
    zero = jnp.zeros(())
    own, other = (
        scale * float(side) for side in _sides(zero, margin_type, margin, sharpness)
    )
    z = positive_share / ((1 - positive_share) * (classes - 1))
    root = math.hypot(1 - z, 2 * math.sqrt(z * math.exp(own - other)))
    return math.log(2 * z) - other - math.log(1 - z + root)


def _sides(
    cos: Array, margin_type: str, margin: float, sharpness: float
) -> tuple[Array, Array]:
    """What a class answers as the right one, and as another."""
    g = lambda c: 2 * ((ops.clip_cosine(c) + 1) / 2) ** sharpness - 1  # noqa: E731
    if margin_type == "C":
        return g(cos) - margin, g(cos) + margin
    moved = {"angular": margin} if margin_type == "A" else {"times": margin}
    return g(ops.additive_margin(cos, past_pi="clip", **moved)), g(cos)


def _check(
    margin_type: str, margin: float, sharpness: float, positive_share: float
) -> None:
    if margin_type not in ("C", "A", "M"):
        raise ValueError(
            f"`sphereface2` needs `margin_type` 'C', 'A' or 'M', got {margin_type!r}."
        )
    check_at_least("sphereface2", 1 if margin_type == "M" else 0, margin=margin)
    check_at_least("sphereface2", 1, sharpness=sharpness)
    if not 0 < positive_share < 1:
        raise ValueError(
            "`sphereface2` needs `0 < positive_share < 1`, got "
            f"`positive_share={positive_share!r}`."
        )
