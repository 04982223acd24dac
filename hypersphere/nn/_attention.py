"""Attention by the angle between queries and keys."""

import math
from typing import Any

import jax.numpy as jnp
from flax import nnx
from flax.nnx.nn import dtypes
from jaxtyping import Array, Float

from hypersphere import ops
from hypersphere._checks import check_positive
from hypersphere._dtypes import widened

# The largest scale, that of Swin Transformer V2: a temperature of 0.01.
MAX_SCALE = 100.0


class CosineAttention(nnx.Module):
    """`nnx.dot_product_attention` that weighs values by scaled cosines.

    For a query q and a key k of one head, at the angle theta,

        weights = softmax over keys of (scale * cos(theta) + bias),

    with a scale per head, `min(exp(log_scale), 100)`, learned. Made for the
    `attention_fn` of `nnx.MultiHeadAttention`.

    Args:
        num_heads: Heads of the queries; keys and values may have fewer.
        init: Where the scales start, dimensionless, positive, at most 100.
        eps: The smallest length that counts, in the units of queries and keys;
            positive. A query or key of zeros has cosine zero with everything.
        rngs: Not drawn from; taken so that every layer is made the same way.

    Raises:
        TypeError: If, at a call, queries and keys are not real floating point.
        ValueError: If `init` or `eps` is out of range, or the queries of a call have
            other heads than `num_heads`.

    Example:
        >>> import jax.numpy as jnp
        >>> from flax import nnx
        >>> from hypersphere import nn
        >>> rngs = nnx.Rngs(0)
        >>> layer = nnx.MultiHeadAttention(
        ...     2, 8, attention_fn=nn.CosineAttention(2, rngs=rngs), decode=False,
        ...     rngs=rngs,
        ... )
        >>> layer(jnp.ones((1, 5, 8))).shape
        (1, 5, 8)

    References:
        Liu et al., Swin Transformer V2, CVPR 2022: the scaled cosine, its start and
        its cap. https://arxiv.org/abs/2111.09883
        Henry et al., Query-Key Normalization for Transformers, EMNLP Findings 2020.
        https://arxiv.org/abs/2010.04245
        Differs: at the cap itself a scale still learns. Beyond it, as in Swin
        Transformer V2, the gradient is zero.
    """

    def __init__(
        self, num_heads: int, *, init: float = 10.0, eps: float = 1e-2, rngs: nnx.Rngs
    ):
        check_positive("CosineAttention", init=init, eps=eps)
        if init > MAX_SCALE:
            raise ValueError(
                f"`CosineAttention` needs `init <= {MAX_SCALE:g}`, the largest scale, "
                f"got `init={init!r}`."
            )
        start = jnp.full((num_heads,), math.log(init), jnp.float32)
        self.log_scale = nnx.Param(start)
        self.num_heads = num_heads
        self.eps = eps
        del rngs

    @property
    def scale(self) -> Float[Array, " num_heads"]:
        """What the cosines of each head are multiplied by, at most 100."""
        top = math.log(MAX_SCALE)
        log_scale = self.log_scale[...]
        return jnp.exp(jnp.where(log_scale > top, top, log_scale))

    def __call__(
        self,
        query: Float[Array, "*batch queries num_heads depth"],
        key: Float[Array, "*batch keys kv_heads depth"],
        value: Float[Array, "*batch keys kv_heads value_depth"],
        *args: Any,
        dtype: Any = None,
        promote_dtype: Any = dtypes.promote_dtype,
        **kwargs: Any,
    ) -> Float[Array, "*batch queries num_heads value_depth"]:
        """Weighted sums of values; every argument as `nnx.dot_product_attention`."""
        if query.ndim < 3 or query.shape[-2] != self.num_heads:
            raise ValueError(
                "`CosineAttention` needs `query` (*batch, queries, num_heads, depth), "
                f"got `query.shape={query.shape}` and `num_heads={self.num_heads}`."
            )
        query, key, value = promote_dtype((query, key, value), dtype=dtype)
        wide = widened(query)
        # Flax divides by the root of the depth.
        scale = (self.scale * math.sqrt(query.shape[-1])).astype(wide.dtype)
        scale = jnp.reshape(scale, (1,) * (query.ndim - 2) + (-1, 1))
        scaled = (scale * ops.unit(wide, eps=self.eps)).astype(query.dtype)
        return nnx.dot_product_attention(
            scaled,
            ops.unit(key, eps=self.eps),
            value,
            *args,
            dtype=dtype,
            promote_dtype=promote_dtype,
            **kwargs,
        )
