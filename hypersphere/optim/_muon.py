"""Muon's relatives: filters that move alike, and matrices that stay orthonormal."""

from typing import Any, NamedTuple

import jax
import jax.numpy as jnp
import optax
from jaxtyping import Array, Int

from hypersphere._checks import check_positive
from hypersphere._dtypes import widened
from hypersphere.optim._spheres import (
    Axis,
    change,
    each_leaf,
    filter_axes,
    length,
    need_params,
    rate_at,
)


class FilterRMSState(NamedTuple):
    """The mean square of each filter's direction so far; empty without filters."""

    square: Any


def scale_by_filter_rms(
    b2: float = 0.95, *, axis: Axis = None, eps: float = 1e-10
) -> optax.GradientTransformation:
    """Evens out how far filters move: the second half of NorMuon.

    Each filter's direction is divided by the root of its mean square over the steps,
    and the parameter's by one number that keeps the norm it came with. Behind Muon's
    direction, whose filters differ in length, it is NorMuon's. What has no filters
    stays as it is.

    Args:
        b2: Share of the mean square that a step keeps, in [0, 1); with 0 every filter
            moves as far as any other.
        axis: The axes along which a filter lies; None for all but the last.
        eps: What is added to the root, positive.

    Returns:
        A transformation of directions, in their dtype.

    Raises:
        ValueError: If `b2` or `eps` is out of range.

    Example:
        >>> import jax.numpy as jnp
        >>> from hypersphere import optim
        >>> evened = optim.scale_by_filter_rms(b2=0.0)
        >>> steps = jnp.array([[1.0, 7.0]])
        >>> print(evened.update(steps, evened.init(steps))[0])
        [[5. 5.]]

    References:
        Li et al., NorMuon, 2025. https://arxiv.org/abs/2510.05491
    """
    if not 0 <= b2 < 1:
        raise ValueError(f"`scale_by_filter_rms` needs `0 <= b2 < 1`, got `b2={b2!r}`.")
    check_positive("scale_by_filter_rms", eps=eps)

    def init(params: Any) -> FilterRMSState:
        def zeros(param: Array) -> Array:
            axes = filter_axes(param, axis)
            return jnp.zeros_like(_mean_square(param, axes) if axes else jnp.zeros(()))

        return FilterRMSState(jax.tree.map(zeros, params))

    def update(updates: Any, state: Any, params: Any = None) -> tuple[Any, Any]:
        del params

        def one(along: Array, square: Array) -> tuple[Array, Array]:
            axes = filter_axes(along, axis)
            if not axes:
                return along, square
            square = b2 * square + (1 - b2) * _mean_square(along, axes)
            evened = widened(along) / (jnp.sqrt(square) + eps)
            whole = tuple(range(along.ndim))
            before, after = length(along, whole), length(evened, whole)
            evened = evened * (before / jnp.where(after > 0, after, 1))
            return evened.astype(along.dtype), square

        steps, square = each_leaf(one, updates, state.square)
        return steps, FilterRMSState(square)

    return optax.GradientTransformation(init, update)  # pyrefly: ignore[bad-argument-type]


def _mean_square(x: Array, axes: tuple[int, ...]) -> Array:
    return jnp.mean(jnp.square(widened(x)), axis=axes, keepdims=True)


class ManifoldMuonState(NamedTuple):
    """How many updates there have been."""

    count: Int[Array, ""]


def manifold_muon(
    learning_rate: optax.ScalarOrSchedule,
    *,
    dual_rate: float = 0.01,
    dual_steps: int = 100,
    tolerance: float = 1e-6,
) -> optax.GradientTransformation:
    """Muon along matrices with orthonormal columns. Experimental.

    The step A is the one of spectral norm one that lowers the loss most among those
    tangent to the manifold, W'A + A'W = 0: A = msign(G + 2 W L) with msign(U S V') = U
    V', where the symmetric L is found by gradient ascent. Then W <- msign(W - rate A).
    A kernel is the matrix (fan_in, filters), transposed where that is wide: the rows
    are orthonormal then. The first update brings parameters there. Each of up to
    `dual_steps` rounds costs a singular value decomposition, on a TPU a slow one.
    Parameters with fewer than two axes, and gradients of zero, take steps of plain
    gradient descent.

    Args:
        learning_rate: How far a step goes, in spectral norm, or a schedule of it.
        dual_rate: The rate of the ascent, which falls linearly to zero; positive.
        dual_steps: The most rounds of it, at least one.
        tolerance: The root mean square of W'A + A'W at which it ends, at least 0.

    Returns:
        A transformation whose `update` needs the parameters; the last of a chain.

    Raises:
        ValueError: If a number is out of range, or `update` gets no parameters.

    Example:
        >>> import jax.numpy as jnp
        >>> import optax
        >>> from hypersphere import optim
        >>> optimizer = optim.manifold_muon(0.1)
        >>> params = jnp.eye(3, 2)
        >>> gradient = jnp.array([[0.0, 0.0], [0.0, 0.0], [1.0, 2.0]])
        >>> updates, _ = optimizer.update(gradient, optimizer.init(params), params)
        >>> new = params + updates
        >>> print(jnp.abs(new.T @ new - jnp.eye(2)).max() < 1e-5)
        True

    References:
        Bernstein, Modular Manifolds, 2025.
        https://thinkingmachines.ai/blog/modular-manifolds/
        Differs: singular values instead of an iteration in half precision.
    """
    check_positive("manifold_muon", dual_rate=dual_rate)
    if dual_steps < 1 or tolerance < 0:
        raise ValueError(
            "`manifold_muon` needs `dual_steps >= 1` and `tolerance >= 0`, got "
            f"`dual_steps={dual_steps!r}` and `tolerance={tolerance!r}`."
        )

    def init(params: Any) -> ManifoldMuonState:
        del params
        return ManifoldMuonState(jnp.zeros((), jnp.int32))

    def update(updates: Any, state: Any, params: Any = None) -> tuple[Any, Any]:
        need_params("manifold_muon", params)
        rate = rate_at(learning_rate, state.count)

        def one(gradient: Array, param: Array) -> Array:
            if param.ndim < 2:
                return (-rate * widened(gradient)).astype(param.dtype)
            w, g = (_tall(widened(x)) for x in (param, gradient))
            new = _moved(w, g, rate, dual_rate, dual_steps, tolerance)
            rows, columns = _matrix(param).shape
            new = new.T if rows < columns else new
            return change(jnp.reshape(new, param.shape), param)

        steps = jax.tree.map(one, updates, params)
        return steps, ManifoldMuonState(state.count + 1)

    return optax.GradientTransformation(init, update)  # pyrefly: ignore[bad-argument-type]


def _matrix(kernel: Array) -> Array:
    return jnp.reshape(kernel, (-1, kernel.shape[-1]))


def _tall(kernel: Array) -> Array:
    matrix = _matrix(kernel)
    return matrix.T if matrix.shape[0] < matrix.shape[1] else matrix


def _msign(matrix: Array) -> Array:
    left, _, right = jnp.linalg.svd(matrix, full_matrices=False)
    return jnp.matmul(left, right, precision="highest")


def _moved(
    w: Array, g: Array, rate: Any, dual_rate: float, steps: int, tolerance: float
) -> Array:
    def symmetric(x: Array, y: Array) -> Array:
        product = jnp.matmul(x.T, y, precision="highest")
        return product + product.T

    def is_far(carry: Any) -> Array:
        count, _, _, normal = carry
        rms = jnp.sqrt(jnp.mean(jnp.square(normal)))
        return (count < steps) & (rms >= tolerance)

    def answer(dual: Array) -> tuple[Array, Array, Array]:
        step = _msign(g + 2 * jnp.matmul(w, dual, precision="highest"))
        return dual, step, symmetric(w, step)

    def ascend(carry: Any) -> Any:
        count, dual, _, normal = carry
        share = 1 - (count - 1) / steps
        return count + 1, *answer(dual - dual_rate * share * normal)

    start = jnp.ones((), jnp.int32), *answer(-symmetric(w, g) / 4)
    _, _, step, _ = jax.lax.while_loop(is_far, ascend, start)
    return _msign(w - rate * jnp.where(jnp.any(g != 0), step, 0))
