"""Margins that are added to an angle or to a cosine."""

import math

import jax.numpy as jnp
from jax.typing import ArrayLike
from jaxtyping import Array, Float

from hypersphere._checks import check_floating
from hypersphere.ops._angles import accumulation_dtype, angle, clip_cosine
from hypersphere.ops._similarity import Cosine, margin_response

PAST_PI = ("continuous", "clip", "pml", "plain")
"""What an answer may be where its angle with a margin is past pi."""


def additive_margin(
    cos: Float[Array, "..."],
    *,
    angular: ArrayLike = 0.0,
    cosine: ArrayLike = 0.0,
    times: ArrayLike = 1.0,
    past_pi: str = "continuous",
) -> Float[Array, "..."]:
    """The cosine after a margin in radians: `cos(times * theta + angular) - cosine`.

    From the angle `theta_0 = (pi - angular) / times` on, where the cosine would rise
    again, it goes on as `past_pi` says; by default in a continuous line that never
    rises.

    Args:
        cos: Cosines, any shape, meant to lie in [-1, 1].
        angular: What is added to the angle, in radians, in [0, pi]; a number or an
            array that broadcasts with `cos`.
        cosine: What is taken from the cosine, dimensionless, at least 0; likewise.
        times: What the angle is multiplied by, dimensionless, positive; likewise.
        past_pi: Past `theta_0`, less `cosine`: `continuous` gives `cos(theta) - 1 -
            cos(theta_0)`; `clip` gives -1, with slope zero; `pml` gives `cos(theta) -
            (pi - theta_0) sin(theta_0)`, which jumps; `plain` the formula above, which
            rises again.

    Returns:
        The answers, of the shape that the arguments broadcast to, in the dtype of
        `cos` and at least float32. Their slope is finite everywhere.

    Raises:
        TypeError: If `cos` is not real floating point.
        ValueError: If there is no such `past_pi`.

    Example:
        >>> import jax.numpy as jnp
        >>> from hypersphere import ops
        >>> cos = jnp.array([1.0, 0.0, -1.0])
        >>> answers = ops.additive_margin(cos, angular=0.5)
        >>> [round(float(each), 3) for each in answers]
        [0.878, -0.479, -1.122]

    References:
        Deng et al., ArcFace, CVPR 2019, equation 4. https://arxiv.org/abs/1801.07698
        The continuous form is that of Wang et al., wespeaker, ICASSP 2023; `pml` that
        of Musgrave et al., PyTorch Metric Learning, 2020.
        Differs: ArcFace's paper leaves open what comes past pi.
    """
    check_floating("additive_margin", cos=cos)
    if past_pi not in PAST_PI:
        raise ValueError(
            f"`additive_margin` needs `past_pi` to be one of {', '.join(PAST_PI)}, got "
            f"{past_pi!r}."
        )
    wide = cos.astype(accumulation_dtype(cos))
    angular, times = jnp.asarray(angular), jnp.asarray(times)
    moved = times * angle(wide) + angular
    last = (math.pi - angular) / times  # theta_0
    # As a sum of angles, whose slope holds where the cosine is one and no margin.
    multiplied = margin_response(wide, margin=times, similarity=Cosine())
    inside = multiplied * jnp.cos(angular) - jnp.sin(moved - angular) * jnp.sin(angular)
    near = clip_cosine(wide)
    beyond = {
        "continuous": lambda: near - 1 - jnp.cos(last),
        "clip": lambda: -jnp.ones_like(moved),
        "pml": lambda: near - (math.pi - last) * jnp.sin(last),
        "plain": lambda: jnp.cos(moved),
    }[past_pi]()
    answer = jnp.where(moved > math.pi, beyond, inside)
    return (answer - cosine).astype(wide.dtype)
