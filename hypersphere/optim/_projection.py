"""Filters kept on the unit sphere."""

from typing import NamedTuple

import jax
import jax.numpy as jnp
import optax
from jaxtyping import Array, Int

from hypersphere import ops
from hypersphere._checks import check_positive


class KeepUnitNormState(NamedTuple):
    """How many updates there have been."""

    count: Int[Array, ""]


def keep_unit_norm(
    *, every: int = 1, eps: float = 1e-6
) -> optax.GradientTransformation:
    """Brings filters back to unit length: the last transformation of a chain.

    The length of a filter does not change what a spherical layer answers, only how far
    a step turns it. Filters lie along the last axis; parameters with fewer than two
    axes are left alone. Leave out others with `optax.masked`: kernels of plain and of
    weighted layers, whose length counts, and those whose last axis is not that of the
    filters, such as a transposed kernel's.

    Args:
        every: After how many updates, at least one. The authors project every 100.
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
    check_positive("keep_unit_norm", eps=eps)
    if every < 1:
        raise ValueError(f"`keep_unit_norm` needs `every >= 1`, got `every={every!r}`.")

    def init(params: optax.Params) -> KeepUnitNormState:
        del params
        return KeepUnitNormState(jnp.zeros((), jnp.int32))

    def update(
        updates: optax.Updates,
        state: KeepUnitNormState,
        params: optax.Params | None = None,
    ) -> tuple[optax.Updates, KeepUnitNormState]:
        if params is None:
            raise ValueError(
                "`keep_unit_norm` needs the parameters: call "
                "`optimizer.update(gradients, state, params)`."
            )
        count = state.count + 1

        def projected(step: Array, param: Array) -> Array:
            if param.ndim < 2:
                return step
            axes = tuple(range(param.ndim - 1))
            to_sphere = ops.unit(param + step, axis=axes, eps=eps) - param
            return jnp.where(count % every == 0, to_sphere, step)

        return jax.tree.map(projected, updates, params), KeepUnitNormState(count)

    return optax.GradientTransformation(init, update)  # pyrefly: ignore[bad-argument-type]
