"""How evenly features are spread, and how near those that belong together are."""

import jax
import jax.numpy as jnp
from jaxtyping import Array, Float

from hypersphere import ops
from hypersphere._checks import check_floating, check_positive
from hypersphere._dtypes import widened

_EPS = 1e-6


def alignment(
    x: Float[Array, "batch features"],
    y: Float[Array, "batch features"],
    *,
    power: float = 2.0,
) -> Float[Array, ""]:
    """How far apart the unit features of pairs are: the mean of `|x - y|**power`.

    Args:
        x: Features; their lengths do not count.
        y: Those that belong to them, row by row.
        power: Positive.

    Returns:
        A number in [0, 2**power], in at least float32.

    Raises:
        TypeError: If an array is not real floating point.
        ValueError: If `power` is not positive.

    Example:
        >>> import jax.numpy as jnp
        >>> from hypersphere import regularizers
        >>> print(regularizers.alignment(jnp.eye(2), jnp.eye(2)[::-1]).round(2))
        2.0

    References:
        Wang and Isola, Understanding Contrastive Representation Learning through
        Alignment and Uniformity on the Hypersphere, ICML 2020.
        https://arxiv.org/abs/2005.10242
    """
    check_floating("alignment", x=x, y=y)
    check_positive("alignment", power=power)
    apart = _units(x) - _units(y)
    squares = jnp.sum(jnp.square(apart), axis=-1)
    if power == 2:
        return jnp.mean(squares)
    return jnp.mean((squares + _EPS**2) ** (power / 2))


def uniformity(
    x: Float[Array, "batch features"], *, t: float = 2.0
) -> Float[Array, ""]:
    """How evenly unit features are spread: `log(mean(exp(-t |x_i - x_j|**2)))`.

    Args:
        x: Features, at least two; their lengths do not count.
        t: How fast neighbours stop to count, positive.

    Returns:
        A number in [-4 t, 0], in at least float32; of evenly spread features in many
        dimensions about -2 t.

    Raises:
        TypeError: If `x` is not real floating point.
        ValueError: If `t` is not positive, or there is one example alone.

    Example:
        >>> import jax.numpy as jnp
        >>> from hypersphere import regularizers
        >>> print(regularizers.uniformity(jnp.eye(3)).round(2))
        -4.0

    References:
        Wang and Isola, Understanding Contrastive Representation Learning through
        Alignment and Uniformity on the Hypersphere, ICML 2020.
        https://arxiv.org/abs/2005.10242
    """
    check_floating("uniformity", x=x)
    check_positive("uniformity", t=t)
    _check_several("uniformity", x)
    units = _units(x)
    cos = jnp.matmul(units, units.T, precision="highest")
    is_pair = jnp.tri(len(x), k=-1, dtype=bool)
    pairs = len(x) * (len(x) - 1) / 2
    near = jnp.where(is_pair, t * (2 * cos - 2), -jnp.inf)
    return jax.nn.logsumexp(near) - jnp.log(pairs)


def koleo(x: Float[Array, "batch features"], *, eps: float = 1e-8) -> Float[Array, ""]:
    """How near the nearest neighbours are: `-mean(log(min_j |x_i - x_j| + eps))`.

    Args:
        x: Features, at least two; their lengths do not count.
        eps: Added to each distance, positive.

    Returns:
        A number in at least float32. Which neighbour is the nearest is not learned.

    Raises:
        TypeError: If `x` is not real floating point.
        ValueError: If `eps` is not positive, or there is one example alone.

    Example:
        >>> import jax.numpy as jnp
        >>> from hypersphere import regularizers
        >>> print(regularizers.koleo(jnp.eye(3)).round(2))
        -0.35

    References:
        Sablayrolles et al., Spreading Vectors for Similarity Search, ICLR 2019.
        https://arxiv.org/abs/1806.03198
        Differs: DINOv2's code adds eps to every difference as well.
    """
    check_floating("koleo", x=x)
    check_positive("koleo", eps=eps)
    _check_several("koleo", x)
    units = _units(x)
    cos = jnp.matmul(units, units.T, precision="highest")
    others = jnp.where(jnp.eye(len(x), dtype=bool), -jnp.inf, cos)
    nearest = jnp.argmax(jax.lax.stop_gradient(others), axis=-1)
    apart = ops.l2_norm(units - units[nearest], axis=-1, eps=1e-12)
    return -jnp.mean(jnp.log(apart + eps))


def _units(x: Array) -> Array:
    return ops.unit(widened(x), axis=-1, eps=_EPS)


def _check_several(who: str, x: Array) -> None:
    if x.ndim != 2 or len(x) < 2:
        raise ValueError(
            f"`{who}` needs `x` of shape (batch, features) with at least two examples, "
            f"got `x.shape={x.shape}`."
        )
