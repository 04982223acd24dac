"""Filters kept on the unit sphere."""

from typing import Any, NamedTuple

import jax
import jax.numpy as jnp
import optax
from jaxtyping import Array, Int

from hypersphere import ops
from hypersphere._checks import check_positive
from hypersphere._dtypes import widened
from hypersphere.optim._spheres import (
    Axis,
    change,
    direction,
    filter_axes,
    length,
    need_params,
)


class KeepUnitNormState(NamedTuple):
    """How many updates there have been."""

    count: Int[Array, ""]


def keep_unit_norm(
    *, every: int = 1, axis: Axis = None, eps: float = 1e-6
) -> optax.GradientTransformation:
    """Brings filters back to unit length: the last transformation of a chain.

    The length of a filter does not change what a spherical layer answers, only how far
    a step turns it. Parameters with fewer than two axes are left alone. Leave out
    others with `optax.masked`: kernels of plain and of weighted layers, whose length
    counts, and those whose filters lie along other axes, such as a transposed kernel's.

    Args:
        every: After how many updates, at least one. The authors project every 100.
        axis: The axes along which a filter lies; None for all but the last.
        eps: The smallest length that counts, in the units of the parameters; positive.
            Filters of zeros stay zero.

    Returns:
        A transformation whose `update` needs the parameters. Its updates carry them to
        unit length, up to a rounding of the old parameter.

    Raises:
        ValueError: If `every` is below one, `eps` is not positive, or `update` is
            called without parameters.

    Example:
        >>> import jax.numpy as jnp
        >>> import optax
        >>> from hypersphere import optim
        >>> optimizer = optax.chain(optax.sgd(0.1), optim.keep_unit_norm())
        >>> params = {"kernel": jnp.array([[3.0], [4.0]])}
        >>> updates, _ = optimizer.update(
        ...     {"kernel": jnp.zeros((2, 1))}, optimizer.init(params), params
        ... )
        >>> print(optax.apply_updates(params, updates)["kernel"].ravel().round(1))
        [0.6 0.8]

    References:
        The authors' code of Liu et al., Decoupled Networks, CVPR 2018.
        https://arxiv.org/abs/1804.08071
    """
    check_every("keep_unit_norm", every)
    check_positive("keep_unit_norm", eps=eps)

    def init(params: optax.Params) -> KeepUnitNormState:
        del params
        return KeepUnitNormState(jnp.zeros((), jnp.int32))

    def update(
        updates: optax.Updates,
        state: KeepUnitNormState,
        params: optax.Params | None = None,
    ) -> tuple[optax.Updates, KeepUnitNormState]:
        need_params("keep_unit_norm", params)
        count = state.count + 1

        def projected(step: Array, param: Array) -> Array:
            axes = filter_axes(param, axis)
            if not axes:
                return step
            to_sphere = ops.unit(param + step, axis=axes, eps=eps) - param
            return jnp.where(count % every == 0, to_sphere, step)

        return jax.tree.map(projected, updates, params), KeepUnitNormState(count)

    return optax.GradientTransformation(init, update)  # pyrefly: ignore[bad-argument-type]


class KeepNormState(NamedTuple):
    """How many updates there have been, and the norms at the beginning."""

    count: Int[Array, ""]
    norms: Any


def keep_norm(*, every: int = 1) -> optax.GradientTransformation:
    """Brings parameters back to the norm they began with: the last of a chain.

    Where the length of a parameter does not count, as before a normalization, it only
    decides how far a step turns it: by about rate times step over length. Held at its
    beginning, the effective rate is that of the schedule. Normalize-and-Project does so
    for each parameter as a whole; filters are left to their own lengths among
    themselves. Parameters with fewer than two axes are left alone.

    Args:
        every: After how many updates, at least one.

    Returns:
        A transformation whose `update` needs the parameters.

    Raises:
        ValueError: If `every` is below one, or `update` is called without parameters.

    Example:
        >>> import jax.numpy as jnp
        >>> import optax
        >>> from hypersphere import optim
        >>> optimizer = optax.chain(optax.sgd(0.1), optim.keep_norm())
        >>> params = jnp.array([[3.0], [4.0]])
        >>> updates, _ = optimizer.update(params, optimizer.init(params), params)
        >>> print(optax.apply_updates(params, updates).ravel().round(1))
        [3. 4.]

    References:
        Lyle et al., Normalization and Effective Learning Rates in Reinforcement
        Learning, NeurIPS 2024. https://arxiv.org/abs/2407.01800
    """
    check_every("keep_norm", every)

    def norm(param: Array) -> Array:
        return length(param, tuple(range(param.ndim)))

    def init(params: optax.Params) -> KeepNormState:
        return KeepNormState(jnp.zeros((), jnp.int32), jax.tree.map(norm, params))

    def update(
        updates: optax.Updates,
        state: KeepNormState,
        params: optax.Params | None = None,
    ) -> tuple[optax.Updates, KeepNormState]:
        need_params("keep_norm", params)
        count = state.count + 1

        def projected(step: Array, param: Array, radius: Array) -> Array:
            if param.ndim < 2:
                return step
            moved = widened(param) + widened(step)
            axes = tuple(range(param.ndim))
            back = change(radius * direction(moved, axes), param)
            return jnp.where(count % every == 0, back, step)

        steps = jax.tree.map(projected, updates, params, state.norms)
        return steps, KeepNormState(count, state.norms)

    return optax.GradientTransformation(init, update)  # pyrefly: ignore[bad-argument-type]


def with_lengths_of(params: Any, others: Any, *, axis: Axis = None) -> Any:
    """Filters as long as other ones: averaged weights, brought back to their spheres.

    The mean of points on a sphere lies inside of it.

    Args:
        params: What keeps its directions.
        others: A tree like it, which gives the lengths.
        axis: The axes along which a filter lies; None for all but the last.

    Returns:
        A tree like `params`; what has no filters is that of `params`.

    Example:
        >>> import jax.numpy as jnp
        >>> from hypersphere import optim
        >>> mean, newest = jnp.array([[0.3], [0.4]]), jnp.array([[1.0], [0.0]])
        >>> print(optim.with_lengths_of(mean, newest).ravel())
        [0.6 0.8]
    """

    def one(param: Array, other: Array) -> Array:
        axes = filter_axes(param, axis)
        if not axes:
            return param
        return (length(other, axes) * direction(param, axes)).astype(param.dtype)

    return jax.tree.map(one, params, others)


def check_every(who: str, every: int) -> None:
    """Raises unless it is a number of updates."""
    if every < 1:
        raise ValueError(f"`{who}` needs `every >= 1`, got `every={every!r}`.")
