"""The one place where dot products become answers."""

from collections.abc import Callable
from typing import Any, TypeAlias

import jax.numpy as jnp
from jaxtyping import Array, Float

from hypersphere._dtypes import common
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
    weight: Any = None,
    eps: float,
    dtype: Any,
) -> Array:
    """h(|x|) g(theta) from dot products of unit filters with patches x.

    `squares` are the patches' sums of squares, after `scaled`; `radius` and `weight`,
    which multiplies the answers, broadcast against them. A similarity that sets
    `takes_norm` is given the length too; one that sets `takes_scale` the dot products
    and what makes cosines of them.
    """
    scale, norm = inverse_length(squares, eps=eps), length(squares, eps=eps)
    is_angle_alone = magnitude == Sphere() and weight is None
    if getattr(similarity, "takes_scale", False):
        product = dots if is_angle_alone else dots.astype(scale.dtype)
        response = similarity(product, scale=scale)
    elif getattr(similarity, "takes_norm", False):
        response = similarity(clip_cosine(dots.astype(scale.dtype) * scale), norm=norm)
    else:
        response = similarity(clip_cosine(dots.astype(scale.dtype) * scale))
    if not is_angle_alone:
        response = magnitude(norm, radius=radius) * response
        response = response if weight is None else response * weight
    return response.astype(dtype)


def dot_dtype(dtype: Any) -> Any:
    """What to multiply in: float32 for float16, whose dot products overflow."""
    # Before 0.10, JAX cannot differentiate a float16 convolution that answers in
    # float32 (`preferred_element_type`), so the operands are widened instead.
    return jnp.float32 if dtype == jnp.float16 else dtype


def product_arguments(dtype: Any, preferred: Any, out_sharding: Any) -> dict[str, Any]:
    """What a product is called with: wider than its operands only where asked."""
    wanted = {"preferred_element_type": common(dtype, preferred or dtype)}
    return wanted if out_sharding is None else {**wanted, "out_sharding": out_sharding}
