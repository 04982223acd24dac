"""Magnitudes h of the decoupled operators h(|x|) g(theta): functions of a length.

Each is called as `h(norm, radius=radius)`: `norm`, float32 or float64, of any shape, is
the length of the patches in the units of the input; `radius`, a float or an array that
broadcasts against `norm`, is a length in the same units. A function of your own with
this signature is a magnitude too; with the attribute `uses_radius = True` it makes a
layer learn the radius.

The gradients of `Linear`, `Segment` and `Mix`, which grow with the length, hold to
lengths of about 1e16 in float32; beyond, their square overflows.

References:
    Liu et al., Decoupled Networks, CVPR 2018. https://arxiv.org/abs/1804.08071
"""

import dataclasses
from typing import ClassVar

import jax.numpy as jnp
from jax.typing import ArrayLike
from jaxtyping import Array, Float

from hypersphere._checks import check_positive


@dataclasses.dataclass(frozen=True)
class Sphere:
    """The constant: h = alpha, which makes the decoupled operator a SphereConv.

    Args:
        alpha: The answer at angle zero, positive.

    Raises:
        ValueError: If `alpha` is not positive and finite.

    Example:
        >>> import jax.numpy as jnp
        >>> from hypersphere.ops import magnitudes
        >>> magnitudes.Sphere()(3.0)
        1.0
    """

    alpha: float = 1.0
    uses_radius: ClassVar[bool] = False

    def __post_init__(self):
        check_positive("Sphere", alpha=self.alpha)

    def __call__(self, norm: ArrayLike, *, radius: ArrayLike = 1.0) -> float:
        """The constant, whatever the length."""
        return self.alpha


@dataclasses.dataclass(frozen=True)
class Linear:
    """The length itself: h = alpha |x|. With `Cosine`, a weight-normalized convolution.

    Args:
        alpha: The slope, positive.

    Raises:
        ValueError: If `alpha` is not positive and finite.

    Example:
        >>> import jax.numpy as jnp
        >>> from hypersphere.ops import magnitudes
        >>> print(magnitudes.Linear()(jnp.array([0.5, 3.0])))
        [0.5 3. ]
    """

    alpha: float = 1.0
    uses_radius: ClassVar[bool] = False

    def __post_init__(self):
        check_positive("Linear", alpha=self.alpha)

    def __call__(
        self, norm: Float[Array, "..."], *, radius: ArrayLike = 1.0
    ) -> Float[Array, "..."]:
        """The magnitude of lengths, in their shape."""
        return self.alpha * norm


@dataclasses.dataclass(frozen=True)
class Ball:
    """Linear inside the radius, constant outside: h = alpha min(|x| / radius, 1).

    Args:
        alpha: What is reached at the radius, positive.

    Raises:
        ValueError: If `alpha` is not positive and finite.

    Example:
        >>> import jax.numpy as jnp
        >>> from hypersphere.ops import magnitudes
        >>> print(magnitudes.Ball()(jnp.array([0.5, 3.0]), radius=2.0))
        [0.25 1.  ]
    """

    alpha: float = 1.0
    uses_radius: ClassVar[bool] = True

    def __post_init__(self):
        check_positive("Ball", alpha=self.alpha)

    def __call__(
        self, norm: Float[Array, "..."], *, radius: ArrayLike = 1.0
    ) -> Float[Array, "..."]:
        """The magnitude of lengths, broadcast against the radius."""
        return self.alpha * jnp.minimum(norm / radius, 1)


@dataclasses.dataclass(frozen=True)
class Tanh:
    """A smooth ball: h = alpha tanh(|x| / radius).

    Args:
        alpha: What is reached far outside, positive.

    Raises:
        ValueError: If `alpha` is not positive and finite.

    Example:
        >>> import jax.numpy as jnp
        >>> from hypersphere.ops import magnitudes
        >>> print(magnitudes.Tanh()(jnp.array([0.5, 3.0])).round(1))
        [0.5 1. ]
    """

    alpha: float = 1.0
    uses_radius: ClassVar[bool] = True

    def __post_init__(self):
        check_positive("Tanh", alpha=self.alpha)

    def __call__(
        self, norm: Float[Array, "..."], *, radius: ArrayLike = 1.0
    ) -> Float[Array, "..."]:
        """The magnitude of lengths, broadcast against the radius."""
        return self.alpha * jnp.tanh(norm / radius)


@dataclasses.dataclass(frozen=True)
class Log:
    """Growing ever more slowly: h = alpha log(1 + |x|).

    Args:
        alpha: The slope at zero, positive.

    Raises:
        ValueError: If `alpha` is not positive and finite.

    Example:
        >>> import jax.numpy as jnp
        >>> from hypersphere.ops import magnitudes
        >>> print(magnitudes.Log()(jnp.array([0.5, 3.0])).round(2))
        [0.41 1.39]
    """

    alpha: float = 1.0
    uses_radius: ClassVar[bool] = False

    def __post_init__(self):
        check_positive("Log", alpha=self.alpha)

    def __call__(
        self, norm: Float[Array, "..."], *, radius: ArrayLike = 1.0
    ) -> Float[Array, "..."]:
        """The magnitude of lengths, in their shape."""
        return self.alpha * jnp.log1p(norm)


@dataclasses.dataclass(frozen=True)
class Segment:
    """Two slopes that meet at the radius: alpha |x| inside, beta outside.

    Args:
        alpha: The slope inside the radius, positive.
        beta: The slope outside, positive.

    Raises:
        ValueError: If `alpha` or `beta` is not positive and finite.

    Example:
        >>> import jax.numpy as jnp
        >>> from hypersphere.ops import magnitudes
        >>> print(magnitudes.Segment()(jnp.array([0.5, 3.0])))
        [0.5 2. ]
    """

    alpha: float = 1.0
    beta: float = 0.5
    uses_radius: ClassVar[bool] = True

    def __post_init__(self):
        check_positive("Segment", alpha=self.alpha, beta=self.beta)

    def __call__(
        self, norm: Float[Array, "..."], *, radius: ArrayLike = 1.0
    ) -> Float[Array, "..."]:
        """The magnitude of lengths, broadcast against the radius."""
        inside = jnp.minimum(norm, radius)
        return self.alpha * inside + self.beta * (norm - inside)


@dataclasses.dataclass(frozen=True)
class Mix:
    """A length and its logarithm: h = alpha |x| + beta log(1 + |x|).

    Args:
        alpha: The share of the length, positive.
        beta: The share of the logarithm, positive.

    Raises:
        ValueError: If `alpha` or `beta` is not positive and finite.

    Example:
        >>> import jax.numpy as jnp
        >>> from hypersphere.ops import magnitudes
        >>> print(magnitudes.Mix()(jnp.array([0.0, 3.0])).round(1))
        [0.  4.4]
    """

    alpha: float = 1.0
    beta: float = 1.0
    uses_radius: ClassVar[bool] = False

    def __post_init__(self):
        check_positive("Mix", alpha=self.alpha, beta=self.beta)

    def __call__(
        self, norm: Float[Array, "..."], *, radius: ArrayLike = 1.0
    ) -> Float[Array, "..."]:
        """The magnitude of lengths, in their shape."""
        return self.alpha * norm + self.beta * jnp.log1p(norm)


def learned_radius(
    raw: Float[Array, " features"], mean_norm: Float[Array, ""]
) -> Float[Array, " features"]:
    """The radius that a layer learns: `(raw^2 + 1e-4) mean_norm`, positive.

    Args:
        raw: The parameter of each filter, dimensionless.
        mean_norm: The mean length of all patches, in the units of the input.

    Returns:
        Lengths in the units of the input, in the dtype of `mean_norm`.

    Example:
        >>> import jax.numpy as jnp
        >>> from hypersphere.ops import magnitudes
        >>> raw = jnp.array([0.0, 2.0])
        >>> print(magnitudes.learned_radius(raw, jnp.array(3.0)).round(1))
        [ 0. 12.]

    References:
        The authors' code of Liu et al., Decoupled Networks, CVPR 2018.
        https://arxiv.org/abs/1804.08071
    """
    return (jnp.square(raw.astype(mean_norm.dtype)) + 1e-4) * mean_norm
