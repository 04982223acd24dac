"""Parameters in half precision that small steps still move."""

from typing import Any, NamedTuple

import jax
import jax.numpy as jnp
import optax
from jaxtyping import Array, Int

_ROUNDING = 0x726F756E  # so that no other draw of the same seed is the same


class InFloat32State(NamedTuple):
    """How many updates there have been, and what the optimizer remembers."""

    count: Int[Array, ""]
    inner: Any


def in_float32(
    optimizer: optax.GradientTransformation, *, seed: int = 0
) -> optax.GradientTransformation:
    """An optimizer in float32 for parameters that are stored in bfloat16.

    What it remembers and what it computes is in float32. A step is then rounded so that
    the parameter it leads to is one of the two nearest of its dtype, the nearer one
    more often: on average nothing of a step is lost, however small it is. Parameters of
    other dtypes get the steps of the optimizer.

    Args:
        optimizer: Any transformation of Optax.
        seed: Of the rounding, which is a function of it and of the count of steps.

    Returns:
        A transformation whose `update` needs the parameters.

    Raises:
        ValueError: If `update` is called without parameters.

    Example:
        >>> import jax, jax.numpy as jnp
        >>> import optax
        >>> from hypersphere import optim
        >>> optimizer = optim.in_float32(optax.sgd(1e-3))
        >>> params = jnp.ones(10_000, jnp.bfloat16)  # a step of 0.001 is a quarter bit
        >>> updates, _ = optimizer.update(
        ...     jnp.ones_like(params), optimizer.init(params), params
        ... )
        >>> after = optax.apply_updates(params, updates)
        >>> print(after.dtype, (1 - after.astype(jnp.float32).mean()).round(3))
        bfloat16 0.001
    """

    def init(params: Any) -> InFloat32State:
        return InFloat32State(
            jnp.zeros((), jnp.int32), optimizer.init(jax.tree.map(_wide, params))
        )

    def update(
        updates: Any, state: InFloat32State, params: Any = None
    ) -> tuple[Any, InFloat32State]:
        if params is None:
            raise ValueError(
                "`in_float32` needs the parameters: call "
                "`optimizer.update(gradients, state, params)`."
            )
        wide = jax.tree.map(_wide, params)
        steps, inner = optimizer.update(jax.tree.map(_wide, updates), state.inner, wide)
        own = jax.random.fold_in(jax.random.key(seed), _ROUNDING)
        key = jax.random.fold_in(own, state.count)
        leaves, structure = jax.tree.flatten(steps)
        keys = structure.unflatten(jax.random.split(key, len(leaves)))
        rounded = jax.tree.map(_rounded, steps, params, keys)
        return rounded, InFloat32State(state.count + 1, inner)

    return optax.GradientTransformation(init, update)  # pyrefly: ignore[bad-argument-type]


def _wide(x: Any) -> Any:
    return x.astype(jnp.float32) if x.dtype == jnp.bfloat16 else x


def _rounded(step: Array, param: Array, key: Array) -> Array:
    """The step to one of the two bfloat16 that are nearest to where it leads."""
    if param.dtype != jnp.bfloat16:
        return step
    before = param.astype(jnp.float32)
    bits = jax.lax.bitcast_convert_type(before + step, jnp.uint32)
    noise = jax.random.bits(key, bits.shape, jnp.uint16).astype(jnp.uint32)
    # bfloat16 is the upper half of float32: what is below carries over, or is cut off.
    moved = jnp.where(jnp.isfinite(before + step), bits + noise, bits)
    moved = moved & jnp.uint32(0xFFFF0000)
    return jax.lax.bitcast_convert_type(moved, jnp.float32) - before
