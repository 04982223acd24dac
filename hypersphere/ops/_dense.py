"""Matrix products that answer with the angle between column and vector."""

from collections.abc import Callable
from typing import Any

import jax
import jax.numpy as jnp
from jax import lax
from jaxtyping import Array, Float

from hypersphere._checks import check_floating, check_positive
from hypersphere._dtypes import widened
from hypersphere.ops._angles import l2_norm, scaled, unit
from hypersphere.ops._answer import (
    ResponseFunction,
    answer,
    dot_dtype,
    product_arguments,
)
from hypersphere.ops._chunked import ChunkedCosines, nearest_subcentre
from hypersphere.ops._filters import unit_filters
from hypersphere.ops._similarity import Cosine


def sphere_dense(
    x: Float[Array, "... in_features"],
    kernel: Float[Array, "in_features out_features"],
    *,
    similarity: ResponseFunction = Cosine(),
    eps: float = 1e-2,
    precision: lax.PrecisionLike = None,
    preferred_element_type: jax.typing.DTypeLike | None = None,
) -> Float[Array, "... out_features"]:
    """Matrix product that answers with the angle between each column and each vector.

    Args:
        x: Vectors along the last axis.
        kernel: One column per out feature.
        similarity: The function g from cosines in [-1, 1] to responses.
        eps: The smallest length that counts, in the units of the input; positive.
        precision: As in `jax.lax.dot_general`.
        preferred_element_type: The dtype of the result, by default that of `x`.

    Returns:
        Responses: with one of the similarities here, in [-1, 1].

    Raises:
        TypeError: If an array is not real floating point.
        ValueError: If shapes do not fit, or `eps` is not positive and finite.

    Example:
        >>> import jax.numpy as jnp
        >>> from hypersphere import ops
        >>> x = jnp.array([[1.0, 1.0]])
        >>> kernel = jnp.array([[1.0, 3.0], [0.0, 3.0]])
        >>> print(ops.sphere_dense(x, kernel, eps=1e-3).round(2))
        [[0.71 1.  ]]

    References:
        Liu et al., Deep Hyperspherical Learning, NIPS 2017.
        https://arxiv.org/abs/1711.03189
    """
    if kernel.ndim != 2 or x.ndim < 1 or x.shape[-1] != kernel.shape[0]:
        raise ValueError(
            "`sphere_dense` needs `kernel.ndim == 2` and `x.shape[-1] == "
            f"kernel.shape[0]`, got `x.shape={x.shape}` and "
            f"`kernel.shape={kernel.shape}`."
        )
    return sphere_dot_general(
        x,
        kernel,
        (((x.ndim - 1,), (0,)), ((), ())),
        precision=precision,
        preferred_element_type=preferred_element_type,
        similarity=similarity,
        eps=eps,
    )


def angular_head(
    x: Float[Array, "*batch in_features"],
    kernel: Float[Array, "in_features columns"],
    *,
    num_classes: int | None = None,
    centres: int = 1,
    shards: int = 1,
    chunk: int = 0,
    eps: float = 1e-2,
) -> tuple[Float[Array, "*batch num_classes"] | ChunkedCosines, Float[Array, "..."]]:
    """Cosines to class centres, and the length of the features: what a loss takes.

    Args:
        x: Features along the last axis.
        kernel: One class centre per column, of any length; where a class has several,
            they are neighbours.
        num_classes: How many classes there are; columns past the last one are padding.
            None for as many as there are columns for.
        centres: Centres per class, of which the nearest counts.
        shards: Parts that the columns are divided into, for `chunk`.
        chunk: Classes that are looked at together; 0 for all. With a chunk, `x` has two
            axes and the cosines are `ChunkedCosines`.
        eps: The smallest length that counts, in the units of the input; positive.

    Returns:
        The cosines, in [-1, 1], and the lengths, (*batch, 1), in the units of `x`; both
        at least float32. Their product is the dot product with the unit class centres.

    Raises:
        TypeError: If an array is not real floating point.
        ValueError: If shapes do not fit, or `eps` is not positive and finite.

    Example:
        >>> import jax.numpy as jnp
        >>> from hypersphere import ops
        >>> cos, length = ops.angular_head(jnp.array([3.0, 4.0]), jnp.eye(2))
        >>> [round(float(c), 2) for c in cos], round(float(length[0]), 2)
        ([0.6, 0.8], 5.0)

    References:
        Liu et al., Deep Hyperspherical Learning, NIPS 2017.
        https://arxiv.org/abs/1711.03189
        Deng et al., Sub-center ArcFace, ECCV 2020, for several centres.
    """
    wide = widened(x)
    lengths = l2_norm(wide, eps=eps, keepdims=True)
    if num_classes is None:
        num_classes = kernel.shape[1] // centres
    if chunk:
        cosines = ChunkedCosines(
            features=unit(wide, eps=eps),
            kernel=kernel,
            num_classes=num_classes,
            centres=centres,
            shards=shards,
            chunk=chunk,
            eps=eps,
        )
        return cosines, lengths
    cos = sphere_dense(wide, kernel.astype(wide.dtype), eps=eps)
    if centres > 1:
        cos = nearest_subcentre(cos.reshape(*cos.shape[:-1], -1, centres))
    return cos[..., :num_classes], lengths


def sphere_dot_general(
    lhs: Float[Array, "..."],
    rhs: Float[Array, "..."],
    dimension_numbers: lax.DotDimensionNumbers,
    precision: lax.PrecisionLike = None,
    preferred_element_type: jax.typing.DTypeLike | None = None,
    out_sharding: Any = None,
    *,
    similarity: ResponseFunction = Cosine(),
    eps: float = 1e-2,
    dot_general: Callable[..., Array] = lax.dot_general,
) -> Float[Array, "..."]:
    """`jax.lax.dot_general` that answers with angles: `sphere_dense` in full.

    It takes the place of `lax.dot_general` wherever a library lets one be passed in,
    such as `nnx.LinearGeneral` and the projections of `nnx.MultiHeadAttention`. What
    is contracted makes up one vector.

    Args:
        lhs: Inputs.
        rhs: Kernel.
        dimension_numbers: ((contracted of lhs, of rhs), (batch of lhs, of rhs)), as in
            `lax.dot_general`.
        precision: As in `lax.dot_general`.
        preferred_element_type: The dtype of the result, by default that of `lhs`.
        out_sharding: As in `lax.dot_general`.
        similarity: The function g from cosines in [-1, 1] to responses.
        eps: The smallest length that counts, in the units of the input; positive.
        dot_general: What computes the dot products.

    Returns:
        Responses, in the shape that `lax.dot_general` gives.

    Raises:
        TypeError: If an array is not real floating point.
        ValueError: If `eps` is not positive and finite.

    Example:
        >>> import jax.numpy as jnp
        >>> from flax import nnx
        >>> from hypersphere import ops
        >>> layer = nnx.LinearGeneral(
        ...     4, (2, 3), dot_general=ops.sphere_dot_general, rngs=nnx.Rngs(0)
        ... )
        >>> layer(jnp.ones((5, 4))).shape
        (5, 2, 3)

    References:
        Liu et al., Deep Hyperspherical Learning, NIPS 2017.
        https://arxiv.org/abs/1711.03189
    """
    check_positive("sphere_dot_general", eps=eps)
    check_floating("sphere_dot_general", lhs=lhs, rhs=rhs)
    (lhs_contracted, rhs_contracted), (lhs_batch, rhs_batch) = dimension_numbers
    dtype = dot_dtype(lhs.dtype)
    filters = unit_filters(rhs, axis=tuple(rhs_contracted), eps=eps, dtype=dtype)
    dots = dot_general(
        lhs.astype(dtype),
        filters.values,
        dimension_numbers,
        precision=precision,
        **product_arguments(dtype, preferred_element_type, out_sharding),
    )
    free = [a for a in range(rhs.ndim) if a not in (*rhs_contracted, *rhs_batch)]
    inputs = dots.ndim - len(rhs_batch) - len(free)
    return answer(
        filters.divided(dots, (*rhs_batch, *(-1,) * inputs, *free)),
        _sums_of_squares(lhs, lhs_contracted, lhs_batch, dots.ndim, eps),
        similarity=similarity,
        eps=eps,
        dtype=preferred_element_type or lhs.dtype,
    )


def _sums_of_squares(
    lhs: Array, contracted: Any, batch: Any, ndim: int, eps: float
) -> Array:
    """One sum per vector of `lhs`, laid out to broadcast against the answer."""
    axes = (*contracted, *batch)
    free = [axis for axis in range(lhs.ndim) if axis not in axes]
    ordered = lax.transpose(
        jnp.square(scaled(lhs, eps=eps)), (*batch, *free, *contracted)
    )
    kept = len(batch) + len(free)
    sums = jnp.sum(ordered, axis=tuple(range(kept, lhs.ndim)))
    return sums.reshape(*sums.shape, *(1,) * (ndim - kept))
