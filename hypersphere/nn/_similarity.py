"""Similarities with parameters, and how a layer comes by its own."""

import functools
from collections.abc import Callable
from typing import Any, TypeAlias

import jax.numpy as jnp
from flax import nnx
from jaxtyping import Array, Float

from hypersphere import ops
from hypersphere._checks import check_features

Similarity: TypeAlias = Callable[..., Any]


class LearnableSigmoid(nnx.Module):
    """`ops.Sigmoid` with a softness per filter, learned by back-propagation.

    The softness is `k = abs(raw) + 0.05`, so that it stays positive; `raw` is the
    parameter.

    Args:
        features: How many filters, the length of the last axis of the cosines.
        init: Where `raw` starts, dimensionless; 0.7 gives k = 0.75.
        rngs: Not drawn from; taken so that every layer is made the same way.

    Example:
        >>> import jax.numpy as jnp
        >>> from flax import nnx
        >>> from hypersphere import nn
        >>> conv = nn.SphereConv(
        ...     3, 8, (3, 3), similarity=nn.LearnableSigmoid, rngs=nnx.Rngs(0)
        ... )
        >>> conv.similarity.raw.shape
        (8,)

    References:
        Liu et al., Deep Hyperspherical Learning, NIPS 2017; start and
        floor are those of the authors' code. https://arxiv.org/abs/1711.03189
    """

    def __init__(self, features: int, *, init: float = 0.7, rngs: nnx.Rngs):
        self.raw = nnx.Param(jnp.full((features,), init, jnp.float32))
        del rngs

    @property
    def k(self) -> Float[Array, " features"]:
        """The softness of each filter, at least 0.05."""
        return jnp.abs(self.raw[...]) + 0.05

    def __call__(
        self, cos: Float[Array, "... features"]
    ) -> Float[Array, "... features"]:
        """The response to cosines in [-1, 1], in their shape and dtype."""
        check_features("LearnableSigmoid", cos.shape, self.raw.shape[0])
        k = jnp.reshape(self.k, (1,) * (cos.ndim - 1) + (-1,))
        return ops.sigmoid(cos, k=k)


def make_similarity(
    who: str, similarity: Similarity, features: int, rngs: nnx.Rngs
) -> Similarity:
    """The layer's own similarity: a class (or a partial of one) is instantiated."""
    if not callable(similarity):
        raise TypeError(
            f"`{who}` needs `similarity` to be callable on cosines, got "
            f"`similarity={similarity!r}`. Pass a function or an object such as "
            "`ops.Cosine()`, or `nn.LearnableSigmoid` for one with parameters."
        )
    is_partial = isinstance(similarity, functools.partial)
    made = similarity.func if is_partial else similarity
    if not isinstance(made, type):
        return similarity
    if issubclass(made, nnx.Module):
        return similarity(features, rngs=rngs)
    return similarity()
