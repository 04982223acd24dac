"""Any optimizer, kept on spheres of the length that parameters begin with."""

from typing import Any, NamedTuple

import jax
import jax.numpy as jnp
import optax
from jaxtyping import Array, Int

from hypersphere._dtypes import widened
from hypersphere.optim._spheres import (
    Axis,
    change,
    direction,
    filter_axes,
    length,
    need_params,
    rate_at,
)


class HyperballState(NamedTuple):
    """What the base remembers, how many updates there have been, the lengths."""

    base: Any
    count: Int[Array, ""]
    radius: Any


def hyperball(
    base: optax.GradientTransformation,
    learning_rate: optax.ScalarOrSchedule,
) -> optax.GradientTransformation:
    """Any optimizer on matrices of a constant length: W <- R n(W - rate R n(u)).

    n divides by the Frobenius norm of the whole parameter, R is the norm it begins
    with, and u the base's direction, of which the length does not count. With
    `optax.scale_by_adam()` it is AdamH, with Muon's direction MuonH. A step turns the
    parameter by an angle of about the learning rate, whatever the gradient. Weight
    decay would change nothing. Parameters with fewer than two axes go by the base, at
    this rate.

    Args:
        base: Makes a direction of gradients, to be subtracted: a transformation without
            a learning rate.
        learning_rate: The angle of a step in radians, or a schedule of it.

    Returns:
        A transformation whose `update` needs the parameters; the last of a chain.

    Raises:
        ValueError: If `update` gets no parameters.

    Example:
        >>> import jax.numpy as jnp
        >>> import optax
        >>> from hypersphere import optim
        >>> optimizer = optim.hyperball(optax.scale_by_adam(), 0.1)
        >>> params = jnp.array([[3.0, 0.0], [0.0, 4.0]])
        >>> gradient = jnp.array([[0.0, 1.0], [0.0, 0.0]])
        >>> updates, _ = optimizer.update(gradient, optimizer.init(params), params)
        >>> print(jnp.linalg.norm(params + updates).round(4))
        5.0

    References:
        Hyperball, 2026. https://arxiv.org/abs/2606.16899
    """
    return _on_spheres("hyperball", base, learning_rate, whole=True)


def spherical(
    base: optax.GradientTransformation,
    learning_rate: optax.ScalarOrSchedule,
    *,
    axis: Axis = None,
) -> optax.GradientTransformation:
    """`hyperball` for each filter: every one turns by about the learning rate.

    A filter keeps the length that it begins with.

    Args:
        base: Makes a direction of gradients, to be subtracted.
        learning_rate: The angle of a step in radians, or a schedule of it.
        axis: The axes along which a filter lies; None for all but the last.

    Returns:
        A transformation whose `update` needs the parameters; the last of a chain.

    Raises:
        ValueError: If `update` gets no parameters.

    Example:
        >>> import jax.numpy as jnp
        >>> import optax
        >>> from hypersphere import optim
        >>> optimizer = optim.spherical(optax.identity(), 0.1)
        >>> params = jnp.array([[1.0, 0.0], [0.0, 2.0]])
        >>> gradient = jnp.array([[0.0, 5.0], [1.0, 0.0]])
        >>> updates, _ = optimizer.update(gradient, optimizer.init(params), params)
        >>> print(jnp.linalg.norm(params + updates, axis=0).round(4))
        [1. 2.]

    References:
        Hyperball, 2026. https://arxiv.org/abs/2606.16899
        Differs: one sphere for each filter.
    """
    return _on_spheres("spherical", base, learning_rate, axis=axis)


def _on_spheres(
    who: str,
    base: optax.GradientTransformation,
    learning_rate: optax.ScalarOrSchedule,
    *,
    axis: Axis = None,
    whole: bool = False,
) -> optax.GradientTransformation:
    def axes_of(param: Array) -> tuple[int, ...]:
        found = filter_axes(param, axis)
        return tuple(range(param.ndim)) if whole and found else found

    def radius_of(param: Array) -> Array:
        axes = axes_of(param)
        return length(param, axes) if axes else jnp.ones(())

    def init(params: Any) -> HyperballState:
        radius = jax.tree.map(radius_of, params)
        return HyperballState(base.init(params), jnp.zeros((), jnp.int32), radius)

    def update(updates: Any, state: Any, params: Any = None) -> tuple[Any, Any]:
        need_params(who, params)
        directions, inner = base.update(updates, state.base, params)
        rate = rate_at(learning_rate, state.count)

        def one(along: Array, param: Array, radius: Array) -> Array:
            axes = axes_of(param)
            if not axes:
                return (-rate * widened(along)).astype(param.dtype)
            new = direction(param, axes) - rate * direction(along, axes)
            return change(radius * direction(new, axes), param)

        steps = jax.tree.map(one, directions, params, state.radius)
        return steps, HyperballState(inner, state.count + 1, state.radius)

    return optax.GradientTransformation(init, update)  # pyrefly: ignore[bad-argument-type]
