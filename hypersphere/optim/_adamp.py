"""Optimizers that leave out of a step what only makes a filter longer."""

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
    each_leaf,
    filter_axes,
    need_params,
    rate_at,
)


class AdamPState(NamedTuple):
    """How many updates there have been, and Adam's two moments."""

    count: Int[Array, ""]
    mu: Any
    nu: Any


def adamp(
    learning_rate: optax.ScalarOrSchedule,
    *,
    b1: float = 0.9,
    b2: float = 0.999,
    adam_eps: float = 1e-8,
    weight_decay: float = 0.0,
    delta: float = 0.1,
    decay_ratio: float = 0.1,
    nesterov: bool = False,
    axis: Axis = None,
) -> optax.GradientTransformation:
    """Adam that slows scale-invariant filters down less and less: AdamP.

    Where gradients are nearly orthogonal to the parameters, which tells that their
    length does not count, the step loses its part along them, and with it their growth;
    the weight decay is then smaller. Looked at filter by filter, and else for the
    parameter as a whole. It has a weight decay of its own: chain no other.

    Args:
        learning_rate: As for Adam, or a schedule of it.
        b1: Share of the mean of gradients that a step keeps, in [0, 1).
        b2: Share of the mean of their squares that a step keeps, in [0, 1).
        adam_eps: What is added to the root of these; positive.
        weight_decay: Times the rate, the share that a parameter loses in a step.
        delta: How small the largest cosine of gradient and parameter has to be, times
            the root of the filter's size.
        decay_ratio: What the decay is multiplied by then, in [0, 1].
        nesterov: Whether the momentum looks ahead.
        axis: The axes along which a filter lies; None for all but the last.

    Returns:
        A transformation whose `update` needs the parameters; the last of a chain.
        Parameters without filters take Adam's ordinary steps.

    Raises:
        ValueError: If a number is out of range, or `update` gets no parameters.

    Example:
        >>> import jax.numpy as jnp
        >>> import optax
        >>> from hypersphere import optim
        >>> optimizer = optim.adamp(0.1)
        >>> params = jnp.array([[1.0], [0.0]])
        >>> gradient = jnp.array([[1e-9], [1.0]])
        >>> updates, _ = optimizer.update(gradient, optimizer.init(params), params)
        >>> print(updates.ravel().round(3))  # Adam's would be (-0.009, -0.1)
        [-0.  -0.1]

    References:
        Heo et al., AdamP, ICLR 2021. https://arxiv.org/abs/2006.08217
    """
    check_positive("adamp", adam_eps=adam_eps, delta=delta)
    check_fraction("adamp", b1=b1, b2=b2, decay_ratio=decay_ratio)

    def init(params: Any) -> AdamPState:
        zeros = jax.tree.map(lambda x: jnp.zeros_like(widened(x)), params)
        return AdamPState(jnp.zeros((), jnp.int32), zeros, zeros)

    def update(updates: Any, state: Any, params: Any = None) -> tuple[Any, Any]:
        need_params("adamp", params)
        rate = rate_at(learning_rate, state.count)
        count = state.count + 1

        def one(update: Array, param: Array, mu: Array, nu: Array) -> Any:
            gradient, point = widened(update), widened(param)
            mu = b1 * mu + (1 - b1) * gradient
            nu = b2 * nu + (1 - b2) * jnp.square(gradient)
            powers = jnp.asarray(count, mu.dtype)
            ahead = b1 * mu + (1 - b1) * gradient if nesterov else mu
            root = jnp.sqrt(nu / (1 - b2**powers)) + adam_eps
            direction = ahead / (1 - b1**powers) / root
            axes = filter_axes(param, axis)
            direction, ratio = _turned(direction, gradient, point, axes, delta)
            decay = weight_decay * jnp.where(ratio, decay_ratio, 1.0).astype(mu.dtype)
            return (-rate * (direction + decay * point)).astype(param.dtype), mu, nu

        steps, mu, nu = each_leaf(one, updates, params, state.mu, state.nu)
        return steps, AdamPState(count, mu, nu)

    return optax.GradientTransformation(init, update)  # pyrefly: ignore[bad-argument-type]


class SGDPState(NamedTuple):
    """How many updates there have been, and the momentum."""

    count: Int[Array, ""]
    trace: Any


def sgdp(
    learning_rate: optax.ScalarOrSchedule,
    *,
    momentum: float = 0.0,
    nesterov: bool = False,
    weight_decay: float = 0.0,
    delta: float = 0.1,
    decay_ratio: float = 0.1,
    axis: Axis = None,
) -> optax.GradientTransformation:
    """Gradient descent that slows scale-invariant filters down less and less: SGDP.

    As `adamp`, with the direction of gradient descent with momentum.

    Args:
        learning_rate: As for gradient descent, or a schedule of it.
        momentum: Share of the direction that a step keeps, in [0, 1).
        nesterov: Whether the momentum looks ahead.
        weight_decay: Times the rate over one minus the momentum, the share that a
            parameter loses in a step.
        delta: As for `adamp`.
        decay_ratio: As for `adamp`.
        axis: The axes along which a filter lies; None for all but the last.

    Returns:
        A transformation whose `update` needs the parameters; the last of a chain.

    Raises:
        ValueError: If a number is out of range, or `update` gets no parameters.

    Example:
        >>> import jax.numpy as jnp
        >>> import optax
        >>> from hypersphere import optim
        >>> optimizer = optim.sgdp(0.1)
        >>> params = jnp.array([[1.0], [0.0]])
        >>> gradient = jnp.array([[0.01], [1.0]])
        >>> updates, _ = optimizer.update(gradient, optimizer.init(params), params)
        >>> print(updates.ravel().round(3))
        [-0.  -0.1]

    References:
        Heo et al., AdamP, ICLR 2021. https://arxiv.org/abs/2006.08217
    """
    check_positive("sgdp", delta=delta)
    check_fraction("sgdp", momentum=momentum, decay_ratio=decay_ratio)

    def init(params: Any) -> SGDPState:
        zeros = jax.tree.map(lambda x: jnp.zeros_like(widened(x)), params)
        return SGDPState(jnp.zeros((), jnp.int32), zeros)

    def update(updates: Any, state: Any, params: Any = None) -> tuple[Any, Any]:
        need_params("sgdp", params)
        rate = rate_at(learning_rate, state.count)

        def one(update: Array, param: Array, trace: Array) -> Any:
            gradient, point = widened(update), widened(param)
            trace = momentum * trace + gradient
            direction = gradient + momentum * trace if nesterov else trace
            axes = filter_axes(param, axis)
            direction, ratio = _turned(direction, gradient, point, axes, delta)
            decay = jnp.where(ratio, decay_ratio, 1.0).astype(trace.dtype)
            decay = weight_decay / (1 - momentum) * decay
            return (-rate * (direction + decay * point)).astype(param.dtype), trace

        steps, trace = each_leaf(one, updates, params, state.trace)
        return steps, SGDPState(state.count + 1, trace)

    return optax.GradientTransformation(init, update)  # pyrefly: ignore[bad-argument-type]


_EPS = 1e-8  # of the authors' lengths


def _turned(
    direction: Array, gradient: Array, point: Array, axes: tuple[int, ...], delta: float
) -> tuple[Array, Array]:
    """A direction without its part along the filters, and whether it lost that.

    Filters first, then the parameter as one; whichever is orthogonal enough.
    """
    if not axes:
        return direction, jnp.zeros((), bool)
    was_turned = jnp.zeros((), bool)
    for view in (axes, tuple(range(point.ndim))):
        size = 1
        for axis in view:
            size *= point.shape[axis]
        lengths = [
            ops.l2_norm(x, axis=view, eps=_EPS, keepdims=True)
            for x in (gradient, point)
        ]
        dots = jnp.sum(gradient * point, axis=view, keepdims=True)
        cos = jnp.max(jnp.abs(dots) / lengths[0] / lengths[1])
        is_free = (cos < delta / size**0.5) & ~was_turned
        along = ops.tangent(direction, point, axis=view, eps=_EPS)
        direction = jnp.where(is_free, along, direction)
        was_turned = was_turned | is_free
    return direction, was_turned
