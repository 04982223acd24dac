"""The margin losses of face and speaker recognition, on cosines to class centres.

Which one? Sweep `scale` first: with the best scale a margin often adds little outside
of sets with many classes and few examples each, and `normface` is enough. `arcface`
and `cosface` are the ones to begin with; `sphereface` multiplies the angle. A margin is
in radians where it moves an angle, and a cosine where it is taken from one.
"""

import functools
from collections.abc import Callable

import jax.numpy as jnp
from jaxtyping import Array, Float

from hypersphere import ops
from hypersphere.losses._centres import (
    Labels,
    PerClass,
    check_angle,
    check_at_least,
    margin_softmax,
)
from hypersphere.losses._chunked import Cosines
from hypersphere.losses._softmax import widened


def normface(
    cos: Cosines,
    labels: Labels,
    *,
    scale: PerClass = 16.0,
    label_smoothing: float = 0.0,
) -> Float[Array, " batch"]:
    """Cross entropy of a scaled cosine, without a margin (NormFace; COCO is the same).

    Args:
        cos: Cosine between each feature and each class centre, in [-1, 1].
        labels: Index of the right class, in [0, classes), or shares of all classes.
        scale: What cosines are multiplied by, positive, dimensionless; a number, also a
            traced one, an array (classes,), or (batch, 1) such as feature norms. Below
            about `log(classes)` the loss cannot become small.
        label_smoothing: Share of the target spread over all classes, in [0, 1).

    Returns:
        The loss of each example in nats, at least zero. Take the mean yourself.

    Raises:
        ValueError: If shapes, a label or a number do not fit.

    Example:
        >>> import jax.numpy as jnp
        >>> from hypersphere import losses
        >>> cos = jnp.array([[0.9, 0.1], [0.2, 0.8]])
        >>> print(losses.normface(cos, jnp.array([0, 1]), scale=4.0).round(2))
        [0.04 0.09]

    References:
        Wang et al., NormFace, 2017, equation 7. https://arxiv.org/abs/1704.06369
        Liu et al., COCO, 2017. https://arxiv.org/abs/1710.00870
    """
    return margin_softmax(
        "normface",
        cos,
        labels,
        lambda cos: cos,
        {},
        scale=scale,
        label_smoothing=label_smoothing,
    )


def cosface(
    cos: Cosines,
    labels: Labels,
    *,
    margin: PerClass = 0.35,
    scale: PerClass = 64.0,
    detach_margin: bool = False,
    label_smoothing: float = 0.0,
) -> Float[Array, " batch"]:
    """`normface` whose right class answers less by a margin in cosine (CosFace).

    Also known as AM-Softmax and LMCL.

    Args:
        cos: Cosine between each feature and each class centre, in [-1, 1].
        labels: Index of the right class, in [0, classes), or shares of all classes.
        margin: Taken from the right class's cosine, at least 0, dimensionless; a
            number, also a traced one, an array (classes,), or (batch, 1).
        scale: What cosines are multiplied by; as in `normface`.
        detach_margin: Whether the gradient is that of the plain cosine; here it is
            anyway.
        label_smoothing: Share of the target spread over all classes, in [0, 1).

    Returns:
        The loss of each example in nats, at least zero. Take the mean yourself.

    Raises:
        ValueError: If shapes, a label or a number do not fit.

    Example:
        >>> import jax.numpy as jnp
        >>> from hypersphere import losses
        >>> cos = jnp.array([[0.9, 0.1], [0.2, 0.8]])
        >>> loss = losses.cosface(cos, jnp.array([0, 1]), scale=4.0)
        >>> [round(float(each), 2) for each in loss]
        [0.15, 0.31]

    References:
        Wang et al., CosFace, CVPR 2018, equation 4. https://arxiv.org/abs/1801.09414
        Wang et al., Additive Margin Softmax, 2018. https://arxiv.org/abs/1801.05599
    """
    check_at_least("cosface", 0, margin=margin)
    return margin_softmax(
        "cosface",
        cos,
        labels,
        lambda cos, margin: widened(cos) - margin,
        {"margin": margin},
        scale=scale,
        detach_margin=detach_margin,
        label_smoothing=label_smoothing,
    )


def combined_margin(
    cos: Cosines,
    labels: Labels,
    *,
    times: PerClass = 1.0,
    angular: PerClass = 0.3,
    cosine: PerClass = 0.2,
    scale: PerClass = 64.0,
    past_pi: str = "continuous",
    detach_margin: bool = False,
    label_smoothing: float = 0.0,
) -> Float[Array, " batch"]:
    """`normface` whose right class answers at `cos(times * theta + angular) - cosine`.

    `angular` is in radians. ArcFace's combined margin, of which `arcface` and `cosface`
    are special cases.

    Args:
        cos: Cosine between each feature and each class centre, in [-1, 1].
        labels: Index of the right class, in [0, classes), or shares of all classes.
        times: What the angle is multiplied by, at least 1, dimensionless; a number,
            also a traced one, an array (classes,), or (batch, 1).
        angular: What is added to the angle, in radians, in [0, pi]; likewise.
        cosine: What is taken from the cosine, at least 0, dimensionless; likewise.
        scale: What cosines are multiplied by; as in `normface`.
        past_pi: What comes past pi, as in `ops.additive_margin`.
        detach_margin: Whether the gradient is that of the plain cosine.
        label_smoothing: Share of the target spread over all classes, in [0, 1).

    Returns:
        The loss of each example in nats, at least zero. Take the mean yourself.

    Raises:
        ValueError: If shapes, a label or a number do not fit.

    Example:
        >>> import jax.numpy as jnp
        >>> from hypersphere import losses
        >>> cos = jnp.array([[0.9, 0.1], [0.2, 0.8]])
        >>> print(losses.combined_margin(cos, jnp.array([0, 1]), scale=4.0).round(2))
        [0.16 0.39]

    References:
        Deng et al., ArcFace, CVPR 2019, equation 4. https://arxiv.org/abs/1801.07698
    """
    check_angle("combined_margin", angular=angular)
    check_at_least("combined_margin", 0, cosine=cosine)
    check_at_least("combined_margin", 1, times=times)
    return margin_softmax(
        "combined_margin",
        cos,
        labels,
        lambda cos, **margins: ops.additive_margin(cos, past_pi=past_pi, **margins),
        {"times": times, "angular": angular, "cosine": cosine},
        scale=scale,
        detach_margin=detach_margin,
        label_smoothing=label_smoothing,
    )


def arcface(
    cos: Cosines,
    labels: Labels,
    *,
    margin: PerClass = 0.5,
    scale: PerClass = 64.0,
    past_pi: str = "continuous",
    detach_margin: bool = False,
    label_smoothing: float = 0.0,
) -> Float[Array, " batch"]:
    """`normface` whose right class answers at an angle larger by `margin` radians.

    Args:
        cos: Cosine between each feature and each class centre, in [-1, 1].
        labels: Index of the right class, in [0, classes), or shares of all classes.
        margin: What is added to the right class's angle, in radians, in [0, pi]; a
            number, also a traced one, an array (classes,), or (batch, 1).
        scale: What cosines are multiplied by; as in `normface`.
        past_pi: What comes past pi, as in `ops.additive_margin`.
        detach_margin: Whether the gradient is that of the plain cosine: the value is
            the same, and no angle is in the backward pass.
        label_smoothing: Share of the target spread over all classes, in [0, 1).

    Returns:
        The loss of each example in nats, at least zero. Take the mean yourself.

    Raises:
        ValueError: If shapes, a label or a number do not fit.

    Example:
        >>> import jax.numpy as jnp
        >>> from hypersphere import losses
        >>> cos = jnp.array([[0.9, 0.1], [0.2, 0.8]])
        >>> print(losses.arcface(cos, jnp.array([0, 1]), scale=4.0).round(2))
        [0.14 0.35]

    References:
        Deng et al., ArcFace, CVPR 2019, equation 3. https://arxiv.org/abs/1801.07698
        Differs: `past_pi`; the authors' code lets the cosine rise again.
    """
    check_angle("arcface", margin=margin)
    return margin_softmax(
        "arcface",
        cos,
        labels,
        lambda cos, margin: ops.additive_margin(cos, angular=margin, past_pi=past_pi),
        {"margin": margin},
        scale=scale,
        detach_margin=detach_margin,
        label_smoothing=label_smoothing,
    )


def sphereface(
    cos: Cosines,
    labels: Labels,
    *,
    margin: PerClass = 1.7,
    scale: PerClass = 30.0,
    detach_margin: bool = False,
    label_smoothing: float = 0.0,
) -> Float[Array, " batch"]:
    """`normface` whose right class answers at a multiple of its angle (SphereFace).

    With k the number of times that `margin * theta` has passed pi, the answer is
    `(-1)**k * cos(margin * theta) - 2 * k`, which never rises. With feature norms as
    the `scale` it is `a_softmax`.

    Args:
        cos: Cosine between each feature and each class centre, in [-1, 1].
        labels: Index of the right class, in [0, classes), or shares of all classes.
        margin: What the angle is multiplied by, any real number from 1 on,
            dimensionless; a number, also a traced one, an array (classes,), or
            (batch, 1).
        scale: What cosines are multiplied by; as in `normface`.
        detach_margin: Whether the gradient is that of the plain cosine.
        label_smoothing: Share of the target spread over all classes, in [0, 1).

    Returns:
        The loss of each example in nats, at least zero. Take the mean yourself.

    Raises:
        ValueError: If shapes, a label or a number do not fit.

    Example:
        >>> import jax.numpy as jnp
        >>> from hypersphere import losses
        >>> cos = jnp.array([[0.9, 0.1], [0.2, 0.8]])
        >>> print(losses.sphereface(cos, jnp.array([0, 1]), scale=4.0).round(1))
        [0.1 0.3]

    References:
        Liu et al., SphereFace, CVPR 2017, equation 7. https://arxiv.org/abs/1704.08063
        The defaults are those of OpenSphere.
        Differs: the margin is any real number, and the scale is fixed.
    """
    check_at_least("sphereface", 1, margin=margin)
    return margin_softmax(
        "sphereface",
        cos,
        labels,
        _multiplied,
        {"margin": margin},
        scale=scale,
        detach_margin=detach_margin,
        label_smoothing=label_smoothing,
    )


def _multiplied(cos: Array, margin: PerClass) -> Array:
    return ops.margin_response(cos, margin=margin, similarity=ops.Cosine())


def sphereface_r(
    cos: Cosines,
    labels: Labels,
    *,
    version: str = "v1",
    margin: PerClass = 1.5,
    scale: PerClass = 30.0,
    weight: float = 50.0,
    detach_margin: bool = False,
) -> Float[Array, " batch"]:
    """SphereFace again, with hard feature normalization and three ways to a margin.

    The angle of the right class is multiplied by `margin`: `v0` goes on below -1 as
    `sphereface` does, `v1` stops at pi; `v2` divides the angles of the wrong classes
    instead. The loss is `weight / scale` times the cross entropy.

    Args:
        cos: Cosine between each feature and each class centre, in [-1, 1].
        labels: Index of the right class, in [0, classes); or, but for `v2`, shares.
        version: Which.
        margin: At least 1, dimensionless; as in `sphereface`.
        scale: What cosines are multiplied by; as in `normface`.
        weight: Positive, dimensionless.
        detach_margin: Whether the gradient is that of the plain cosine; not for `v2`.

    Returns:
        The loss of each example, at least zero.

    Raises:
        ValueError: If there is no such version, or shapes, a label or a number do not
            fit.

    Example:
        >>> import jax.numpy as jnp
        >>> from hypersphere import losses
        >>> cos = jnp.array([[0.9, 0.1], [0.2, 0.8]])
        >>> loss = losses.sphereface_r(cos, jnp.array([0, 1]), scale=4.0)
        >>> [round(float(each), 2) for each in loss]
        [0.8, 2.57]

    References:
        Liu et al., SphereFace Revived, TPAMI 2022. https://arxiv.org/abs/2109.05565
        Differs: the variants with soft normalization are left out.
    """
    check_at_least("sphereface_r", 1, margin=margin)
    if jnp.ndim(scale) == 1:
        raise ValueError(
            "`sphereface_r` divides by its `scale`, and needs a number or one per "
            f"example, (batch, 1), got shape {jnp.shape(scale)}."
        )
    if version not in ("v0", "v1", "v2") or (version == "v2" and detach_margin):
        raise ValueError(
            "`sphereface_r` needs `version` to be 'v0', 'v1' or, without "
            f"`detach_margin`, 'v2', got {version!r}."
        )
    answer: Callable[..., Array] = _multiplied
    others: Callable[..., Array] | None = None
    if version == "v1":
        answer = functools.partial(_times, past_pi="clip")
    if version == "v2":
        answer = lambda cos, margin: cos  # noqa: E731
        others = lambda cos, own, margin: _times(cos, 1 / jnp.asarray(margin))  # noqa: E731
    loss = margin_softmax(
        "sphereface_r",
        cos,
        labels,
        answer,
        {"margin": margin},
        scale=scale,
        detach_margin=detach_margin,
        others=others,
    )
    return weight / jnp.reshape(jnp.asarray(scale), (-1,)) * loss


def _times(cos: Array, margin: PerClass, past_pi: str = "continuous") -> Array:
    return ops.additive_margin(cos, times=margin, past_pi=past_pi)
