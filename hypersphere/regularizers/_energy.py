"""How evenly filters are spread over a sphere, as numbers to be made small."""

import functools
import math
from typing import Any

import jax
import jax.numpy as jnp
from jax.typing import ArrayLike
from jaxtyping import Array, Float

from hypersphere import ops
from hypersphere._checks import check_at_least_two, check_floating, check_positive
from hypersphere._dtypes import widened

_EPS = 1e-6  # filters are of length one, and distances of about that


def hyperspherical_energy(
    kernel: Float[Array, "*window in_features filters"],
    *,
    power: int = 1,
    angular: bool = False,
    half_space: bool = False,
    block: int = 0,
    projections: Float[Array, "count dimensions fan_in"] | None = None,
) -> Float[Array, ""]:
    """The energy of filters that repel one another: the mean of f(d) over pairs.

    f is `d**-power`, and `-log d` for power zero; d the distance of two unit filters,
    or with `angular` the angle between them in radians.

    Args:
        kernel: One filter along each entry of the last axis, at least two; their
            lengths do not count.
        power: 0, 1 or 2.
        angular: Whether d is the angle.
        half_space: Whether every filter has its opposite beside it, so that filters
            become orthogonal rather than opposite; the pairs of both count, too.
        block: Filters that are compared with all others at once; 0 for all. Memory is
            that of `block * filters` numbers, in the backward pass as well.
        projections: What maps filters to fewer dimensions; the energy is the mean of
            those of all the maps (compressive energy). Draw new ones for every step.

    Returns:
        A number in at least float32: what lies evenly has a small one.

    Raises:
        TypeError: If `kernel` is not real floating point.
        ValueError: If there are fewer than two filters, or no such power.

    Example:
        >>> import jax.numpy as jnp
        >>> from hypersphere import regularizers
        >>> triangle = jnp.array([[0.0, 0.866, -0.866], [1.0, -0.5, -0.5]])
        >>> near = jnp.array([[0.0, 0.1, 0.2], [1.0, 1.0, 1.0]])
        >>> energy = regularizers.hyperspherical_energy
        >>> round(float(energy(triangle)), 2), round(float(energy(near)), 2)
        (0.58, 8.45)

    References:
        Liu et al., Learning towards Minimum Hyperspherical Energy, NeurIPS 2018.
        https://arxiv.org/abs/1805.09298
        Lin et al., Regularizing Neural Networks via Minimizing Hyperspherical Energy,
        CVPR 2020, for projections. https://arxiv.org/abs/1906.04892
        Differs: in the authors' code angles are shares of pi, so that its angular
        energies are pi**power times these (log(pi) more for power 0); it takes the
        logarithm of the squared distance, twice ours; and it adds numbers to lengths
        and angles that change an energy in its fourth or fifth digit.
    """
    if power not in (0, 1, 2):
        raise ValueError(
            f"`hyperspherical_energy` needs `power` 0, 1 or 2, got `power={power!r}`."
        )
    filters = _unit_filters("hyperspherical_energy", kernel)
    energy = functools.partial(
        _energy, power=power, angular=angular, half_space=half_space, block=block
    )
    if projections is None:
        return energy(filters)
    projected = jnp.einsum("pkd,df->pkf", widened(projections), filters)
    units = ops.unit(projected, axis=1, eps=_EPS)
    return jnp.mean(jax.lax.map(energy, units))


def random_projections(
    key: Array, fan_in: int, *, dimensions: int = 40, count: int = 20
) -> Float[Array, "count dimensions fan_in"]:
    """Gaussian maps for a compressive `hyperspherical_energy`.

    Args:
        key: Of the draw.
        fan_in: Numbers of a filter.
        dimensions: Numbers that are left of it.
        count: How many maps.

    Returns:
        Standard normal float32 numbers.

    Example:
        >>> import jax
        >>> from hypersphere import regularizers
        >>> regularizers.random_projections(jax.random.key(0), 100).shape
        (20, 40, 100)

    References:
        Lin et al., Regularizing Neural Networks via Minimizing Hyperspherical Energy,
        CVPR 2020. https://arxiv.org/abs/1906.04892
    """
    return jax.random.normal(key, (count, dimensions, fan_in))


def separation(
    kernel: Float[Array, "*window in_features filters"],
) -> Float[Array, ""]:
    """Minus the smallest squared distance of two unit filters, in [-4, 0].

    Args:
        kernel: One filter along each entry of the last axis, at least two.

    Returns:
        A number in at least float32; of equal pairs one learns.

    Raises:
        TypeError: If `kernel` is not real floating point.
        ValueError: If there are fewer than two filters.

    Example:
        >>> import jax.numpy as jnp
        >>> from hypersphere import regularizers
        >>> print(regularizers.separation(jnp.eye(3)).round(2))
        -2.0

    References:
        Liu et al., Learning with Hyperspherical Uniformity, AISTATS 2021.
        https://arxiv.org/abs/2103.01649
    """
    filters = _unit_filters("separation", kernel)
    cos = _cosines(filters, filters)
    count = filters.shape[1]
    others = jnp.where(jnp.eye(count, dtype=bool), -jnp.inf, cos)
    nearest = jnp.argmax(jax.lax.stop_gradient(others))
    return 2 * cos[nearest // count, nearest % count] - 2


def nearest_cosine(
    kernel: Float[Array, "*window in_features filters"],
) -> Float[Array, ""]:
    """The mean cosine of filters, or class centres, to their nearest others.

    Args:
        kernel: One filter along each entry of the last axis, at least two.

    Returns:
        A number in [-1, 1], in at least float32. Which one is the nearest is not
        learned.

    Raises:
        TypeError: If `kernel` is not real floating point.
        ValueError: If there are fewer than two filters.

    Example:
        >>> import jax.numpy as jnp
        >>> from hypersphere import regularizers
        >>> print(regularizers.nearest_cosine(jnp.eye(3)).round(2))
        0.0

    References:
        Zhao, Xu and Cheng, RegularFace, CVPR 2019, which adds it to a loss.
        Differs: cosines are divided by the lengths once, as in its code.
    """
    filters = _unit_filters("nearest_cosine", kernel)
    cos = _cosines(filters, filters)
    others = jnp.where(jnp.eye(filters.shape[1], dtype=bool), -jnp.inf, cos)
    nearest = jnp.argmax(jax.lax.stop_gradient(others), axis=0)
    return jnp.mean(cos[nearest, jnp.arange(filters.shape[1])])


def length_variance(
    kernel: Float[Array, "*window in_features filters"],
) -> Float[Array, ""]:
    """A quarter of the variance of the squared lengths of filters or class centres.

    Args:
        kernel: One filter along each entry of the last axis, at least two.

    Returns:
        A number at least zero in the kernel's units to the fourth power, in at least
        float32.

    Raises:
        TypeError: If `kernel` is not real floating point.
        ValueError: If there are fewer than two filters.

    Example:
        >>> import jax.numpy as jnp
        >>> from hypersphere import regularizers
        >>> print(regularizers.length_variance(jnp.eye(3)))
        0.0

    References:
        Wu et al., Deep Face Recognition with Center Invariant Loss, 2017.
    """
    check_floating("length_variance", kernel=kernel)
    check_at_least_two("length_variance", kernel)
    flat = jnp.reshape(widened(kernel), (-1, kernel.shape[-1]))
    return jnp.var(jnp.sum(jnp.square(flat), axis=0)) / 4


def gram_determinant(
    kernel: Float[Array, "*window in_features filters"], *, jitter: float = 1e-6
) -> Float[Array, ""]:
    """Minus the logarithm of the determinant of `exp(-d**2)` of all pairs of filters.

    Args:
        kernel: One filter along each entry of the last axis, at least two.
        jitter: Added to the diagonal, which keeps equal filters finite; at least 0.

    Returns:
        A number in at least float32, at least zero.

    Raises:
        TypeError: If `kernel` is not real floating point.
        ValueError: If there are fewer than two filters.

    Example:
        >>> import jax.numpy as jnp
        >>> from hypersphere import regularizers
        >>> round(float(regularizers.gram_determinant(jnp.eye(3))), 3)
        0.051

    References:
        Liu et al., Learning with Hyperspherical Uniformity, AISTATS 2021.
        https://arxiv.org/abs/2103.01649
    """
    filters = _unit_filters("gram_determinant", kernel)
    near = jnp.exp(2 * _cosines(filters, filters) - 2)
    near = near + jitter * jnp.eye(filters.shape[1], dtype=near.dtype)
    return -jnp.linalg.slogdet(near)[1]


def polarization(
    kernel: Float[Array, "*window in_features filters"],
    pole: Float[Array, " fan_in"],
    *,
    half_space: bool = False,
) -> Float[Array, ""]:
    """The mean of `d**-2` from filters to a pole: filters ascend it, the pole descends.

    Args:
        kernel: One filter along each entry of the last axis.
        pole: A point of its own, of any length; it looks for where nothing is.
        half_space: Whether every filter has its opposite beside it.

    Returns:
        A number in at least float32, at least a quarter.

    Raises:
        TypeError: If an array is not real floating point.
        ValueError: If there are fewer than two filters.

    Example:
        >>> import jax.numpy as jnp
        >>> from hypersphere import regularizers
        >>> pole = jnp.array([0.0, 0.0, 1.0])
        >>> print(regularizers.polarization(jnp.eye(3)[:, :2], pole).round(2))
        0.5

    References:
        Liu et al., Learning with Hyperspherical Uniformity, AISTATS 2021.
        https://arxiv.org/abs/2103.01649
    """
    squares = _to_pole("polarization", kernel, pole, half_space=half_space)
    return jnp.mean(1 / (squares + _EPS**2))


def covering(
    kernel: Float[Array, "*window in_features filters"],
    pole: Float[Array, " fan_in"],
    *,
    gamma: float = 10.0,
    half_space: bool = False,
) -> Float[Array, ""]:
    """About the squared distance of a pole to the nearest filter, made smooth.

    `-log(mean(exp(-gamma d**2))) / gamma`: filters descend it, the pole ascends.

    Args:
        kernel: One filter along each entry of the last axis.
        pole: A point of its own, of any length.
        gamma: How sharp the minimum is, positive.
        half_space: Whether every filter has its opposite beside it.

    Returns:
        A number in at least float32.

    Raises:
        TypeError: If an array is not real floating point.
        ValueError: If there are fewer than two filters, or `gamma` is not positive.

    Example:
        >>> import jax.numpy as jnp
        >>> from hypersphere import regularizers
        >>> pole = jnp.array([0.0, 0.0, 1.0])
        >>> print(regularizers.covering(jnp.eye(3)[:, :2], pole).round(2))
        2.0

    References:
        Liu et al., Learning with Hyperspherical Uniformity, AISTATS 2021.
        https://arxiv.org/abs/2103.01649
    """
    check_positive("covering", gamma=gamma)
    squares = _to_pole("covering", kernel, pole, half_space=half_space)
    mean = jax.nn.logsumexp(-gamma * squares) - jnp.log(squares.size)
    return -mean / gamma


def _unit_filters(who: str, kernel: Array) -> Array:
    """Filters of length one, (fan_in, filters), in at least float32."""
    check_floating(who, kernel=kernel)
    check_at_least_two(who, kernel)
    flat = jnp.reshape(widened(kernel), (-1, kernel.shape[-1]))
    return ops.unit(flat, axis=0, eps=_EPS)


def _cosines(one: Array, other: Array) -> Array:
    return jnp.matmul(one.T, other, precision="highest")


def _to_pole(who: str, kernel: Array, pole: Array, *, half_space: bool) -> Array:
    """Squared distances of filters, and of their opposites, from a pole."""
    check_floating(who, pole=pole)
    filters = _unit_filters(who, kernel)
    cos = _cosines(filters, ops.unit(widened(pole), eps=_EPS)[:, None])[:, 0]
    cos = jnp.concatenate([cos, -cos]) if half_space else cos
    return jnp.maximum(2 - 2 * cos, 0)


def _squared(cos: Array, *, angular: bool) -> Array:
    """The squared distance, or angle, of a pair from its cosine."""
    return jnp.square(ops.angle(cos)) if angular else jnp.maximum(2 - 2 * cos, 0)


def _potential(squares: ArrayLike, power: int) -> Array:
    """The energy of a pair from its squared distance."""
    squares = jnp.asarray(squares + _EPS**2)
    return -jnp.log(squares) / 2 if power == 0 else squares ** (-power / 2)


def _energy(
    filters: Array, *, power: int, angular: bool, half_space: bool, block: int
) -> Array:
    """Of unit filters (fan_in, filters): pair by pair, some rows at once."""
    pair = lambda cos: _potential(_squared(cos, angular=angular), power)  # noqa: E731
    count = filters.shape[1]
    pairs = count * (count - 1) / 2
    size = min(block, count) or count
    padding = -count % size
    rows = jnp.pad(filters, [(0, 0), (0, padding)]).T.reshape(-1, size, len(filters))
    first = jnp.arange(len(rows)) * size

    @jax.checkpoint  # the backward pass computes a block again
    def of_rows(args: tuple[Array, Array]) -> Array:
        some, start = args
        cos = ops.clip_cosine(jnp.matmul(some, filters, precision="highest"))
        row = start + jnp.arange(size)[:, None]
        is_pair = (row < jnp.arange(count)[None]) & (row < count)
        # In place of what does not count a right angle, whose slopes are finite.
        cos = jnp.where(is_pair, cos, 0)
        energy = pair(cos) + (pair(-cos) if half_space else 0)
        return jnp.sum(jnp.where(is_pair, energy, 0))

    total: Any = jnp.sum(jax.lax.map(of_rows, (rows, first)))
    if not half_space:
        return total / pairs
    # Two of each pair and of its opposite, and every filter with its own opposite.
    opposite = _potential(math.pi**2 if angular else 4.0, power)
    return (2 * total + count * opposite) / (count * (2 * count - 1))
