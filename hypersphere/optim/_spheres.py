"""Which numbers of a parameter make up a point on a sphere."""

from collections.abc import Callable, Sequence
from typing import Any

import jax
import jax.numpy as jnp
import optax
from jaxtyping import Array

from hypersphere import ops
from hypersphere._dtypes import widened

Axis = int | Sequence[int] | None


def filter_axes(param: Any, axis: Axis) -> tuple[int, ...]:
    """The axes of a parameter along which a filter lies; none if it has no filters.

    Args:
        param: Any array.
        axis: As the user has it; None for all axes but the last.
    """
    if axis is None:
        return tuple(range(param.ndim - 1))
    given = (axis,) if isinstance(axis, int) else tuple(axis)
    if any(not -param.ndim <= each < param.ndim for each in given):
        return ()
    return tuple(each % param.ndim for each in given)


def need_params(who: str, params: Any) -> None:
    """Raises where `update` was called without parameters."""
    if params is None:
        raise ValueError(
            f"`{who}` needs the parameters: call "
            "`optimizer.update(gradients, state, params)`."
        )


def rate_at(learning_rate: optax.ScalarOrSchedule, count: Array) -> Any:
    """The learning rate of a step."""
    return learning_rate(count) if callable(learning_rate) else learning_rate


class Spheres:
    """The spheres that the filters of a parameter lie on, all of radius one.

    Without filters it is flat space: steps are as they always were.

    Args:
        axes: As `filter_axes` gives them.
        exact: Whether steps follow geodesics, and not straight lines that are brought
            back.
        eps: The smallest length that counts; positive.
    """

    def __init__(self, axes: tuple[int, ...], *, exact: bool, eps: float):
        self.axes, self._exact, self._eps = axes, exact, eps

    def point(self, param: Array) -> Array:
        """A parameter on its spheres."""
        return ops.unit(param, axis=self.axes, eps=self._eps) if self.axes else param

    def tangent(self, vector: Array, point: Array) -> Array:
        """What of a vector leads along the spheres."""
        if not self.axes:
            return vector
        return ops.tangent(vector, point, axis=self.axes, eps=self._eps)

    def move(self, point: Array, step: Array) -> Array:
        """Where a tangent step leads."""
        if not self.axes:
            return point + step
        if self._exact:
            return self.point(ops.exponential_map(point, step, axis=self.axes))
        return self.point(point + step)

    def carried(self, vector: Array, point: Array, step: Array, new: Array) -> Array:
        """A tangent that is taken along."""
        if not self.axes:
            return vector
        if self._exact:
            vector = ops.transport(vector, point, step, axis=self.axes)
        return self.tangent(vector, new)

    def mean_square(self, vector: Array) -> Array:
        """One number per sphere, its squared length; each number's square without."""
        square = jnp.square(vector)
        return jnp.sum(square, axis=self.axes, keepdims=True) if self.axes else square


_EPS = 1e-6  # beside lengths between one and the root of how many numbers there are


def length(x: Array, axes: tuple[int, ...]) -> Array:
    """The length along axes, which stay, of vectors of any size."""
    scaled, largest = _scaled(x, axes)
    return largest * ops.l2_norm(scaled, axis=axes, eps=_EPS, keepdims=True)


def direction(x: Array, axes: tuple[int, ...]) -> Array:
    """The unit vector of one of any size; zero of zero."""
    return ops.unit(_scaled(x, axes)[0], axis=axes, eps=_EPS)


def _scaled(x: Array, axes: tuple[int, ...]) -> tuple[Array, Array]:
    """Vectors whose largest number is one, and what it was; 1 where all are zero."""
    wide = widened(x)
    largest = jnp.max(jnp.abs(wide), axis=axes, keepdims=True)
    largest = jax.lax.stop_gradient(jnp.where(largest > 0, largest, 1))
    return wide / largest, largest


def each_leaf(function: Callable[..., Any], tree: Any, *rest: Any) -> tuple[Any, ...]:
    """Trees of the first, the second, ... thing that a function returns of leaves.

    It returns as many as there are other trees: an update, and what is remembered.
    """
    leaves, structure = jax.tree.flatten(tree)
    if not leaves:  # all are masked
        return tree, *rest[1:]
    others = [structure.flatten_up_to(each) for each in rest]
    found = [function(*each) for each in zip(leaves, *others, strict=True)]
    return tuple(map(structure.unflatten, zip(*found, strict=True)))


def change(new: Array, param: Array) -> Array:
    """What is added to a parameter to have a new one, in its dtype."""
    return (new - widened(param)).astype(param.dtype)
