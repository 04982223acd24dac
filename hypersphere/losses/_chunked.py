"""Losses on cosines that are never made all at once."""

from collections.abc import Callable
from typing import Any

import jax
import jax.numpy as jnp
from jax.typing import ArrayLike
from jaxtyping import Array, Float

from hypersphere import ops

Cosines = Float[Array, "batch classes"] | ops.ChunkedCosines
"""Cosines to all class centres, or what makes them chunk by chunk."""


def chunked_softmax(
    cos: ops.ChunkedCosines,
    labels: Array,
    answer: Callable[..., Array],
    others: Callable[..., Array],
    margins: dict[str, Any],
    *,
    scale: ArrayLike,
) -> Array:
    """The cross entropy of cosines that are never made all at once.

    Args:
        cos: The cosines.
        labels: Indices.
        answer: (cosines of right classes (batch, 1), **margins) -> their responses.
        others: (cosines, those of right classes, **margins) -> responses of others.
        margins: Numbers, or arrays that broadcast against (batch, 1).
        scale: Likewise.
    """

    def logits(cos: Array, own: Array, given: Any) -> Array:
        scale, margins = given
        return scale * others(cos, own, **margins)

    own, rest = cos.right_and_rest(labels, logits, (scale, margins))
    target = jnp.asarray(scale) * answer(own, **margins)
    return jax.nn.softplus(rest - target[:, 0])


def need_all(who: str, cos: Cosines) -> Array:
    """The same cosines, or a message where they are not all there."""
    if isinstance(cos, ops.ChunkedCosines):
        raise ValueError(
            f"`{who}` needs the cosines to all classes at once, got those of a head "
            "that makes them in chunks. Make the head with `chunk=0`; in a config that "
            "is `config.head.level='full'`."
        )
    return cos
