"""How the class centres of a head start, whichever API it is written in."""

import math
from collections.abc import Callable
from typing import Any

import jax
import jax.numpy as jnp

from hypersphere import ops
from hypersphere._checks import check_positive


def check_head(
    who: str,
    *,
    num_classes: int,
    centres: int,
    shards: int,
    chunk: int,
    eps: float,
    initial_length: float | None,
    scale: float | None,
    learn_scale: bool,
) -> None:
    """Raises where a number of a head is out of its range."""
    check_positive(who, eps=eps)
    if num_classes < 1 or centres < 1 or shards < 1 or chunk < 0:
        raise ValueError(
            f"`{who}` needs `num_classes`, `centres` and `shards` of at least 1 and "
            f"`chunk >= 0`, got {num_classes}, {centres}, {shards} and {chunk}."
        )
    optional = {"initial_length": initial_length, "scale": scale}
    check_positive(who, **{k: v for k, v in optional.items() if v is not None})
    if learn_scale and scale is None:
        raise ValueError(
            f"`{who}` needs a `scale` to begin with for `learn_scale=True`, got None."
        )


def columns(num_classes: int, centres: int, shards: int) -> int:
    """How many columns a kernel has, padding among them."""
    return math.ceil(num_classes / shards) * shards * centres


def padded(
    kernel_init: Callable[..., jax.Array],
    count: int,
    initial_length: float | None,
) -> Callable[..., jax.Array]:
    """An initializer of so many columns; those that are more are zero.

    Args:
        kernel_init: Draws the columns, the same ones however many are added.
        count: Those of classes.
        initial_length: What they are brought to; None leaves them.
    """

    def init(key: Any, shape: tuple[int, int], dtype: Any) -> jax.Array:
        kernel = kernel_init(key, (shape[0], count), dtype)
        if initial_length is not None:
            kernel = (initial_length * ops.unit(kernel, axis=0, eps=1e-6)).astype(dtype)
        return jnp.pad(kernel, ((0, 0), (0, shape[1] - count)))

    return init
