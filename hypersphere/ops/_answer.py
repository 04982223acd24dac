"""The one place where dot products become answers."""

from collections.abc import Callable
from typing import Any, TypeAlias

import jax.numpy as jnp
from jaxtyping import Array, Float

from hypersphere.ops._angles import clip_cosine, inverse_length, length
from hypersphere.ops.magnitudes import Sphere

ResponseFunction: TypeAlias = Callable[..., Float[Array, "..."]]
Magnitude: TypeAlias = Callable[..., Any]


def answer(
    dots: Array,
    squares: Array,
    *,
    similarity: ResponseFunction,
    magnitude: Magnitude = Sphere(),
    radius: Any = 1.0,
    weight: Any = 1.0,
    eps: float,
    dtype: Any,
) -> Array:
    """h(|x|) g(theta) from dot products of unit filters with patches x.

    `squares` are the patches' sums of squares, after `scaled`; `radius` and `weight`,
    which multiplies the answers, broadcast against them. A similarity that sets
    `takes_norm` is given the length too.
    """
    cos = clip_cosine(dots * inverse_length(squares, eps=eps))
    norm = length(squares, eps=eps)
    takes_norm = getattr(similarity, "takes_norm", False)
    response = similarity(cos, norm=norm) if takes_norm else similarity(cos)
    return (magnitude(norm, radius=radius) * response * weight).astype(dtype)


def dot_dtype(dtype: Any) -> Any:
    """What to multiply in: float32 for float16, whose dot products overflow."""
    # Before 0.10, JAX cannot differentiate a float16 convolution that answers in
    # float32 (`preferred_element_type`), so the operands are widened instead.
    return jnp.float32 if dtype == jnp.float16 else dtype


def product_arguments(dtype: Any, preferred: Any, out_sharding: Any) -> dict[str, Any]:
    """What a product is called with: wider than its operands only where asked."""
    wanted = {"preferred_element_type": jnp.promote_types(dtype, preferred or dtype)}
    return wanted if out_sharding is None else {**wanted, "out_sharding": out_sharding}
