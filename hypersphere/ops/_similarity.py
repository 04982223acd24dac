"""The functions g from a cosine to a response, and their continuation past pi."""

import dataclasses
import functools
import math
from typing import Any, ClassVar, Protocol, runtime_checkable

import jax
import jax.numpy as jnp
from jax.custom_derivatives import SymbolicZero
from jax.typing import ArrayLike
from jaxtyping import Array, Float

from hypersphere._checks import check_floating, check_positive
from hypersphere.ops import _curves
from hypersphere.ops._angles import (
    accumulation_dtype,
    angle,
    clip_cosine,
    inverse_sine_of,
)


@runtime_checkable
class Similarity(Protocol):
    """What the angular losses need of a similarity: one of ours, or your own.

    A layer needs less: a function of cosines. One with `takes_scale = True`, as ours
    are, is called as `similarity(dots, scale=scale)` with dot products, of which
    `scale` makes cosines; one that is derived from ours has to take it too.
    """

    def __call__(self, cos: Float[Array, "..."]) -> Float[Array, "..."]:
        """The response to cosines in [-1, 1]."""
        ...

    def at_angle(self, theta: Float[Array, "..."]) -> Float[Array, "..."]:
        """The response at angles in radians, at least zero, continued past pi."""
        ...


class _Curved:
    """A similarity without parameters: a curve by name."""

    takes_scale: ClassVar[bool] = True
    _curve: ClassVar[_curves.Curve]

    def __call__(
        self, cos: Float[Array, "..."], scale: Float[Array, "..."] | None = None
    ) -> Float[Array, "..."]:
        """The response to cosines in [-1, 1], or to `cos * scale` in place of them."""
        return _respond(type(self).__name__, self._curve, cos, scale)


@dataclasses.dataclass(frozen=True)
class Cosine(_Curved):
    """The cosine itself: g(theta) = cos(theta).

    Called on cosines (any shape, meant to lie in [-1, 1]) it returns responses in
    [-1, 1], same shape and dtype; a value that rounding carried past one is taken back,
    with slope one.

    Example:
        >>> import jax.numpy as jnp
        >>> from hypersphere import ops
        >>> print(ops.Cosine()(jnp.array([-1.0, 0.5])))
        [-1.   0.5]

    References:
        Liu et al., Deep Hyperspherical Learning, NIPS 2017
        https://arxiv.org/abs/1711.03189
    """

    _curve: ClassVar[_curves.Curve] = _curves.COSINE

    def at_angle(self, theta: Float[Array, "..."]) -> Float[Array, "..."]:
        """Cosine continued downwards: (-1)^q cos(theta) - 2q, q = floor(theta / pi).

        Args:
            theta: Radians, at least zero, any shape.

        Returns:
            One at zero, falling strictly, by 2 each half turn.
        """
        turns, rest = _half_turns(theta)
        return jnp.cos(rest) - 2 * turns


@dataclasses.dataclass(frozen=True)
class Linear(_Curved):
    """Linear in the angle: g(theta) = 1 - 2 theta / pi = (2 / pi) arcsin(cos(theta)).

    Called on cosines (any shape, in [-1, 1]) it returns responses in [-1, 1], same
    shape and dtype. The slope to the cosine is (2 / pi) / sin(theta), bounded as that
    of `arcsin`.

    Example:
        >>> import jax.numpy as jnp
        >>> from hypersphere import ops
        >>> print(ops.Linear()(jnp.array([0.0, 0.5, 1.0])).round(4))
        [0.     0.3333 1.    ]

    References:
        Liu et al., Deep Hyperspherical Learning, NIPS 2017
        https://arxiv.org/abs/1711.03189
        Differs: the authors' code writes 2 / pi with six digits; here it is exact.
    """

    _curve: ClassVar[_curves.Curve] = _curves.LINEAR

    def at_angle(self, theta: Float[Array, "..."]) -> Float[Array, "..."]:
        """The same straight line: 1 - 2 theta / pi.

        Args:
            theta: Radians, at least zero, any shape.

        Returns:
            One at zero, falling by 2 each half turn, without bound.
        """
        return 1 - theta * (2 / math.pi)


@dataclasses.dataclass(frozen=True)
class Sigmoid:
    """An S-curve of the angle: g(theta) = coth(pi / 4k) tanh((pi / 2 - theta) / 2k).

    Called on cosines (any shape, in [-1, 1]) it returns responses in [-1, 1], same
    shape and dtype.

    Args:
        k: Softness, dimensionless, positive: towards zero a step at the right angle,
            towards infinity `Linear`.

    Raises:
        ValueError: If `k` is not positive and finite.

    Example:
        >>> import jax.numpy as jnp
        >>> from hypersphere import ops
        >>> print(ops.Sigmoid(k=0.3)(jnp.array([0.0, 0.5, 1.0])).round(4))
        [0.     0.7102 1.    ]

    References:
        Liu et al., Deep Hyperspherical Learning, NIPS 2017
        https://arxiv.org/abs/1711.03189
        Differs: the same function written without exponentials of theta / k, which
        overflow float32 for k < 0.018.
    """

    k: float = 0.3
    takes_scale: ClassVar[bool] = True

    def __post_init__(self):
        check_positive("Sigmoid", k=self.k)

    def __call__(
        self, cos: Float[Array, "..."], scale: Float[Array, "..."] | None = None
    ) -> Float[Array, "..."]:
        """The response to cosines in [-1, 1], or to `cos * scale` in place of them."""
        return sigmoid(cos, k=self.k, scale=scale)

    def at_angle(self, theta: Float[Array, "..."]) -> Float[Array, "..."]:
        """The same formula past pi, where it saturates at -coth(pi / 4k).

        Its slope dies away with the distance from the right angle: at k = 0.3, four
        times the angle has no slope at all in float32 for half of the angles to pi.

        Args:
            theta: Radians, at least zero, any shape.

        Returns:
            One at zero, never rising.
        """
        hardness = 1 / jnp.asarray(self.k, accumulation_dtype(theta))
        rate, top = _curves.s_curve_scales(hardness)
        return (_monotone_tanh((math.pi / 2 - theta) * rate) * top).astype(theta.dtype)


@dataclasses.dataclass(frozen=True)
class SquaredCosine(_Curved):
    """The square of the cosine, with its sign: g(theta) = sign(cos) cos^2.

    Called on cosines (any shape, in [-1, 1]) it returns responses in [-1, 1], same
    shape and dtype.

    Example:
        >>> import jax.numpy as jnp
        >>> from hypersphere import ops
        >>> print(ops.SquaredCosine()(jnp.array([-0.5, 0.0, 1.0])))
        [-0.25  0.    1.  ]

    References:
        Liu et al., Decoupled Networks, CVPR 2018. https://arxiv.org/abs/1804.08071
    """

    _curve: ClassVar[_curves.Curve] = _curves.SQUARED_COSINE

    def at_angle(self, theta: Float[Array, "..."]) -> Float[Array, "..."]:
        """Continued downwards as `Cosine` is: (-1)^q g - 2q, q = floor(theta / pi).

        Args:
            theta: Radians, at least zero, any shape.

        Returns:
            One at zero, never rising, 2 less each half turn.
        """
        turns, rest = _half_turns(theta)
        return self(jnp.cos(rest)) - 2 * turns


def sharpened_cosine(
    cos: Float[Array, "..."],
    *,
    p: float | Float[Array, "..."],
    q: float | Float[Array, ""] = 0.0,
    norm: Float[Array, "..."] | None = None,
    floor: float = 1e-6,
) -> Float[Array, "..."]:
    """A power of the cosine, with its sign: sign(c) (|c| + floor)^p.

    Args:
        cos: Cosines in [-1, 1], any shape.
        p: The power, dimensionless, positive (not checked); broadcast against `cos`.
        q: A length, at least zero, in the units of the input, that damps the answer to
            short patches: c is `cos * norm / (norm + q)`.
        norm: The length of the patches, broadcast against `cos`; without it `q` does
            nothing.
        floor: What keeps the slope finite at c = 0, dimensionless, positive. There
            the response jumps between `-floor**p`, 0 and `floor**p`.

    Returns:
        Responses in [-1, 1], in the shape and dtype of `cos`.

    Example:
        >>> import jax.numpy as jnp
        >>> from hypersphere import ops
        >>> print(ops.sharpened_cosine(jnp.array([-0.5, 0.0, 1.0]), p=2.0).round(3))
        [-0.25  0.    1.  ]

    References:
        Pisoni, Sharpened cosine similarity.
        https://github.com/brohrer/sharpened-cosine-similarity
        Differs: a power above one leaves |c| = 1 at 1 instead of 1 + p floor.
    """
    wide = cos.astype(accumulation_dtype(cos))
    if norm is not None:
        wide = wide * (norm / (norm + q))
    response = jnp.sign(wide) * (jnp.abs(wide) + floor) ** p
    return clip_cosine(response).astype(cos.dtype)


def learned_power(raw: Float[Array, "..."]) -> Float[Array, "..."]:
    """The power of `sharpened_cosine` that a layer learns: `p = abs(raw) + 0.1`.

    Args:
        raw: The parameter, dimensionless, any shape.

    Returns:
        Powers of at least 0.1, same shape and dtype.

    Example:
        >>> import jax.numpy as jnp
        >>> from hypersphere import ops
        >>> print(ops.learned_power(jnp.array([0.4, 0.0])))
        [0.5 0.1]

    References:
        Pisoni, Sharpened cosine similarity.
        https://github.com/brohrer/sharpened-cosine-similarity
        Differs: abs(raw) + 0.1 instead of a clamp at 0.1, below which nothing is
        learned any more.
    """
    return jnp.abs(raw) + 0.1


def sigmoid(
    cos: Float[Array, "..."],
    *,
    k: float | Float[Array, "..."],
    scale: Float[Array, "..."] | None = None,
) -> Float[Array, "..."]:
    """The sigmoid similarity with a softness that may be an array, and be learned.

    Args:
        cos: Cosines in [-1, 1], any shape.
        k: Softness, dimensionless, positive (not checked); broadcast against `cos`,
            so that one value per filter has shape (filters,).
        scale: What makes cosines of `cos` where these are dot products, broadcast
            against them: their patches' inverse lengths.

    Returns:
        Responses in [-1, 1], in the shape and dtype of `cos`.

    Example:
        >>> import jax.numpy as jnp
        >>> from hypersphere import ops
        >>> k = jnp.array([0.1, 0.75])
        >>> print(ops.sigmoid(jnp.array([1.0, 0.0]), k=k))
        [1. 0.]
    """
    hardness = 1 / jnp.asarray(k, accumulation_dtype(cos))
    return _respond("sigmoid", _curves.SIGMOID, cos, scale, hardness)


def _respond(
    who: str, curve: _curves.Curve, cos: Array, scale: Array | None, *values: Array
) -> Array:
    check_floating(who, cos=cos)
    cos = jnp.asarray(cos)
    if scale is None:
        scale = jnp.ones((1,) * cos.ndim, accumulation_dtype(cos))
    return _curves.respond(curve, cos, scale, *values)


def learned_softness(raw: Float[Array, "..."]) -> Float[Array, "..."]:
    """The softness that a layer learns: `k = abs(raw) + 0.05`.

    Args:
        raw: The parameter, dimensionless, any shape.

    Returns:
        Softness of at least 0.05, same shape and dtype.

    Example:
        >>> import jax.numpy as jnp
        >>> from hypersphere import ops
        >>> print(ops.learned_softness(jnp.array([-0.7, 0.0])))
        [0.75 0.05]

    References:
        The authors' code of Liu et al., Deep Hyperspherical Learning, NIPS 2017.
        https://arxiv.org/abs/1711.03189
    """
    return jnp.abs(raw) + 0.05


def _monotone_tanh(x: Array) -> Array:
    # XLA's tanh, faster than this, wobbles by 4e-7 where it saturates.
    less = jnp.expm1(-2 * jnp.abs(x))
    return jnp.sign(x) * -less / (2 + less)


def margin_response(
    cos: Float[Array, "..."], *, margin: ArrayLike, similarity: Similarity
) -> Float[Array, "..."]:
    """The response at `margin` times the angle: psi(margin * arccos(cos)).

    Args:
        cos: Cosines in [-1, 1], any shape.
        margin: What the angle is multiplied by, dimensionless, positive (not checked
            here); a number, or an array that broadcasts with `cos`.
        similarity: Gives psi by its `at_angle`.

    Returns:
        Responses, at most one, that never rise with the angle; same shape and dtype.
        The gradient is finite everywhere: `Cosine`'s slope to the cosine,
        `margin * sin(margin * theta) / sin(theta)`, is taken to its limit `margin**2`
        at theta = 0, and sin(theta) counts as at least 1e-3 towards pi.

    Example:
        >>> import jax.numpy as jnp
        >>> from hypersphere import ops
        >>> cos = jnp.cos(jnp.array([0.0, jnp.pi / 4]))
        >>> psi = ops.margin_response(cos, margin=4.0, similarity=ops.Linear())
        >>> print(psi.round(3))
        [ 1. -1.]

    References:
        Liu et al., Deep Hyperspherical Learning, NIPS 2017.
        https://arxiv.org/abs/1711.03189
        Liu et al., SphereFace, CVPR 2017. https://arxiv.org/abs/1704.08063
    """
    if isinstance(similarity, Cosine):
        return _cosine_margin_response(margin, cos)
    return similarity.at_angle(jnp.asarray(margin * angle(cos)))


@jax.custom_jvp
def _cosine_margin_response(margin: ArrayLike, cos: Float[Array, "..."]) -> Array:
    return Cosine().at_angle(jnp.asarray(margin * angle(cos)))


@functools.partial(_cosine_margin_response.defjvp, symbolic_zeros=True)
def _cosine_margin_response_jvp(primals: tuple[Any, Any], tangents: tuple[Any, Any]):
    margin, cos = primals[0], jnp.asarray(primals[1])
    theta = angle(cos)
    _, rest = _half_turns(margin * theta)
    slope = jnp.where(
        theta < 1e-3, margin**2, margin * jnp.sin(rest) * inverse_sine_of(cos)
    )
    answer = _cosine_margin_response(margin, cos)
    slopes = (-theta * jnp.sin(rest), slope)
    moves = [
        slope.astype(answer.dtype) * tangent
        for slope, tangent in zip(slopes, tangents, strict=True)
        if not isinstance(tangent, SymbolicZero)
    ]
    return answer, functools.reduce(jnp.add, moves)


def _half_turns(theta: Array) -> tuple[Array, Array]:
    """The whole number of half turns in an angle, and the radians left, in [0, pi]."""
    turns = jnp.floor(theta / math.pi)
    return turns, theta - turns * math.pi
