"""Gradient descent and Adam of filters on unit spheres."""

from typing import Any, NamedTuple

import jax
import jax.numpy as jnp
import optax
from jaxtyping import Array, Int

from hypersphere import ops
from hypersphere._checks import check_fraction, check_positive
from hypersphere._dtypes import widened
from hypersphere.optim._spheres import (
    Axis,
    Spheres,
    change,
    each_leaf,
    filter_axes,
    need_params,
    rate_at,
)


def tangent_projection(
    *, axis: Axis = None, eps: float = 1e-6
) -> optax.GradientTransformation:
    """Leaves of updates what turns a filter: for gradients, or a base's direction.

    In front of a base it makes gradients Riemannian; behind one, as in the oblique
    optimizers, it projects the direction. Parameters without filters are left alone.

    Args:
        axis: The axes along which a filter lies; None for all but the last.
        eps: The smallest length that counts, in the units of the parameters; positive.

    Returns:
        A transformation without a state, whose `update` needs the parameters.

    Raises:
        ValueError: If `eps` is not positive, or `update` gets no parameters.

    Example:
        >>> import jax.numpy as jnp
        >>> import optax
        >>> from hypersphere import optim
        >>> optimizer = optax.chain(
        ...     optim.tangent_projection(), optax.sgd(0.1), optim.keep_unit_norm()
        ... )
        >>> params = {"kernel": jnp.array([[1.0], [0.0]])}
        >>> updates, _ = optimizer.update(params, optimizer.init(params), params)
        >>> print(optax.apply_updates(params, updates)["kernel"].ravel())
        [1. 0.]

    References:
        Absil, Mahony and Sepulchre, Optimization Algorithms on Matrix Manifolds, 2008.
    """
    check_positive("tangent_projection", eps=eps)

    def update(updates: Any, state: Any, params: Any = None) -> tuple[Any, Any]:
        need_params("tangent_projection", params)

        def projected(update: Array, param: Array) -> Array:
            axes = filter_axes(param, axis)
            if not axes:
                return update
            found = ops.tangent(widened(update), widened(param), axis=axes, eps=eps)
            return found.astype(update.dtype)

        return jax.tree.map(projected, updates, params), state

    return optax.GradientTransformation(lambda params: optax.EmptyState(), update)  # pyrefly: ignore[bad-argument-type]


class RiemannianSGDState(NamedTuple):
    """How many updates there have been, and a tangent for each filter."""

    count: Int[Array, ""]
    trace: Any


def riemannian_sgd(
    learning_rate: optax.ScalarOrSchedule,
    *,
    momentum: float = 0.0,
    exact: bool = False,
    axis: Axis = None,
    starts_tangent: bool = True,
    eps: float = 1e-6,
) -> optax.GradientTransformation:
    """Gradient descent along unit spheres, one for each filter.

    A gradient loses its part along the filter; the step leads along the sphere, and the
    momentum is carried to where it ends. The first step brings filters to length one.
    Parameters without filters take ordinary steps.

    Args:
        learning_rate: Radians per unit of gradient, or a schedule of it.
        momentum: Share of the direction that a step keeps, in [0, 1).
        exact: Whether steps follow geodesics and momentum is transported in parallel,
            and not straight lines that are brought back.
        axis: The axes along which a filter lies; None for all but the last.
        starts_tangent: False for the quirk of geoopt, whose momentum begins with the
            gradient as it is and has the first one twice.
        eps: The smallest length that counts, in the units of the parameters; positive.

    Returns:
        A transformation whose `update` needs the parameters; the last of a chain.

    Raises:
        ValueError: If a number is out of range, or `update` gets no parameters.

    Example:
        >>> import jax.numpy as jnp
        >>> import optax
        >>> from hypersphere import optim
        >>> optimizer = optim.riemannian_sgd(0.5, momentum=0.9, exact=True)
        >>> params = jnp.array([[1.0], [0.0]])
        >>> gradient = jnp.array([[5.0], [-1.0]])
        >>> updates, _ = optimizer.update(gradient, optimizer.init(params), params)
        >>> print(optax.apply_updates(params, updates).ravel().round(2))
        [0.88 0.48]

    References:
        Bonnabel, Stochastic Gradient Descent on Riemannian Manifolds, 2013.
        https://arxiv.org/abs/1111.5280
        Differs: geoopt's transport along a geodesic is a projection.
    """
    check_positive("riemannian_sgd", eps=eps)
    check_fraction("riemannian_sgd", momentum=momentum)

    def init(params: Any) -> RiemannianSGDState:
        zeros = jax.tree.map(lambda x: jnp.zeros_like(widened(x)), params)
        return RiemannianSGDState(jnp.zeros((), jnp.int32), zeros if momentum else ())

    def update(updates: Any, state: Any, params: Any = None) -> tuple[Any, Any]:
        need_params("riemannian_sgd", params)
        rate = rate_at(learning_rate, state.count)

        def one(gradient: Array, param: Array, *kept: Array) -> tuple[Array, ...]:
            spheres = Spheres(filter_axes(param, axis), exact=exact, eps=eps)
            point, wide = spheres.point(widened(param)), widened(gradient)
            direction = spheres.tangent(wide, point)
            for trace in kept:
                if not starts_tangent:
                    trace = jnp.where(state.count == 0, wide, trace)
                direction = direction + momentum * trace
            step = -rate * direction
            new = spheres.move(point, step)
            carried = [spheres.carried(direction, point, step, new) for _ in kept]
            return change(new, param), *carried

        kept = [state.trace] if momentum else []
        steps, *kept = each_leaf(one, updates, params, *kept)
        return steps, RiemannianSGDState(state.count + 1, *(kept or [()]))

    return optax.GradientTransformation(init, update)  # pyrefly: ignore[bad-argument-type]


class RiemannianAdamState(NamedTuple):
    """How many updates, a tangent for each filter, and its mean square."""

    count: Int[Array, ""]
    mu: Any
    nu: Any


def riemannian_adam(
    learning_rate: optax.ScalarOrSchedule,
    *,
    b1: float = 0.9,
    b2: float = 0.999,
    exact: bool = False,
    axis: Axis = None,
    adam_eps: float = 1e-8,
    eps: float = 1e-6,
) -> optax.GradientTransformation:
    """Adam along unit spheres, with one second moment for each filter.

    Parameters without filters take Adam's ordinary steps. Else as `riemannian_sgd`.

    Args:
        learning_rate: Radians per step, about, or a schedule of it.
        b1: Share of the mean of tangents that a step keeps, in [0, 1).
        b2: Share of the mean of their squared lengths that a step keeps, in [0, 1).
        exact: As for `riemannian_sgd`.
        axis: The axes along which a filter lies; None for all but the last.
        adam_eps: What is added to the root of the mean squares; positive.
        eps: The smallest length that counts, in the units of the parameters; positive.

    Returns:
        A transformation whose `update` needs the parameters; the last of a chain.

    Raises:
        ValueError: If a number is out of range, or `update` gets no parameters.

    Example:
        >>> import jax.numpy as jnp
        >>> import optax
        >>> from hypersphere import optim
        >>> optimizer = optim.riemannian_adam(0.1)
        >>> params = jnp.array([[1.0], [0.0]])
        >>> gradient = jnp.array([[0.0], [-3.0]])
        >>> updates, _ = optimizer.update(gradient, optimizer.init(params), params)
        >>> print(optax.apply_updates(params, updates).ravel().round(1))
        [1.  0.1]

    References:
        Becigneul and Ganea, Riemannian Adaptive Optimization Methods, ICLR 2019.
        https://arxiv.org/abs/1810.00760
    """
    check_positive("riemannian_adam", eps=eps, adam_eps=adam_eps)
    check_fraction("riemannian_adam", b1=b1, b2=b2)

    def init(params: Any) -> RiemannianAdamState:
        def squares(param: Array) -> Array:
            spheres = Spheres(filter_axes(param, axis), exact=exact, eps=eps)
            return jnp.zeros_like(spheres.mean_square(widened(param)))

        return RiemannianAdamState(
            jnp.zeros((), jnp.int32),
            jax.tree.map(lambda x: jnp.zeros_like(widened(x)), params),
            jax.tree.map(squares, params),
        )

    def update(updates: Any, state: Any, params: Any = None) -> tuple[Any, Any]:
        need_params("riemannian_adam", params)
        rate = rate_at(learning_rate, state.count)
        count = state.count + 1

        def one(gradient: Array, param: Array, mu: Array, nu: Array) -> Any:
            spheres = Spheres(filter_axes(param, axis), exact=exact, eps=eps)
            point = spheres.point(widened(param))
            along = spheres.tangent(widened(gradient), point)
            mu = b1 * mu + (1 - b1) * along
            nu = b2 * nu + (1 - b2) * spheres.mean_square(along)
            powers = jnp.asarray(count, mu.dtype)
            full_mu, full_nu = 1 - b1**powers, 1 - b2**powers
            step = -rate * (mu / full_mu) / (jnp.sqrt(nu / full_nu) + adam_eps)
            new = spheres.move(point, step)
            return change(new, param), spheres.carried(mu, point, step, new), nu

        steps, mu, nu = each_leaf(one, updates, params, state.mu, state.nu)
        return steps, RiemannianAdamState(count, mu, nu)

    return optax.GradientTransformation(init, update)  # pyrefly: ignore[bad-argument-type]
