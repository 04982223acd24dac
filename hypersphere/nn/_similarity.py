"""Similarities with parameters, and how a layer comes by its own."""

import functools
from collections.abc import Callable, Sequence
from typing import Any, TypeAlias

import jax
import jax.numpy as jnp
from flax import nnx
from jaxtyping import Array, Float

from hypersphere import ops
from hypersphere._checks import check_callable, check_filters, check_positive

Similarity: TypeAlias = Callable[..., Any]
Features: TypeAlias = int | Sequence[int]


class LearnableSigmoid(nnx.Module):
    """`ops.Sigmoid` with a softness per filter, learned by back-propagation.

    The softness is `k = abs(raw) + 0.05`, so that it stays positive; `raw` is the
    parameter.

    Args:
        features: How many filters, the length of the last axis of the cosines; or the
            lengths of several last axes, 1 for one that has the same filters all along.
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

    takes_scale = True  # a similarity that is called with dot products and their scale

    def __init__(self, features: Features, *, init: float = 0.7, rngs: nnx.Rngs):
        self.raw = nnx.Param(jnp.full(features, init, jnp.float32))
        del rngs

    @property
    def k(self) -> Float[Array, "*features"]:
        """The softness of each filter, at least 0.05."""
        return ops.learned_softness(self.raw[...])

    def __call__(
        self,
        cos: Float[Array, "..."],
        scale: Float[Array, "..."] | None = None,
    ) -> Float[Array, "..."]:
        """The response to cosines, or to `cos * scale`, in the dtype of `cos`."""
        check_filters("LearnableSigmoid", cos.shape, self.raw.shape)
        k = jnp.expand_dims(self.k, range(cos.ndim - self.raw.ndim))
        return ops.sigmoid(cos, k=k, scale=scale)


class SharpenedCosine(nnx.Module):
    """`ops.sharpened_cosine` with a power per filter and a damping, both learned.

    The power is `p = abs(raw) + 0.1`, the damping `q = exp(log_q)`, one for the layer.
    Made for layers without activation and normalization, followed by
    `nn.max_abs_pool`; its authors' floor under the norm is `eps=1e-3`.

    Args:
        features: How many filters, the length of the last axis of the cosines; or the
            lengths of several last axes, 1 for one that has the same filters all along.
        init: Where the powers start: drawn evenly between these two.
        q: Where the damping starts, in the units of the input, positive.
        rngs: Random keys for the parameters.

    Raises:
        ValueError: If `q` is not positive and finite.

    Example:
        >>> import jax.numpy as jnp
        >>> from flax import nnx
        >>> from hypersphere import nn
        >>> conv = nn.SphereConv(
        ...     3, 8, (3, 3), similarity=nn.SharpenedCosine, eps=1e-3, rngs=nnx.Rngs(0)
        ... )
        >>> nn.max_abs_pool(conv(jnp.ones((1, 8, 8, 3))), (2, 2), (2, 2)).shape
        (1, 4, 4, 8)

    References:
        Pisoni, Sharpened cosine similarity.
        https://github.com/brohrer/sharpened-cosine-similarity
        Differs: abs(raw) + 0.1 instead of a clamp at 0.1, below which nothing is
        learned any more.
    """

    takes_norm = True  # a similarity that is called with the patches' length too

    def __init__(
        self,
        features: Features,
        *,
        init: tuple[float, float] = (1.0, 3.0),
        q: float = 1e-3,
        rngs: nnx.Rngs,
    ):
        check_positive("SharpenedCosine", q=q)
        low, high = init
        shape = (features,) if isinstance(features, int) else tuple(features)
        powers = jax.random.uniform(rngs.params(), shape, minval=low, maxval=high)
        self.raw = nnx.Param(powers - 0.1)
        self.log_q = nnx.Param(jnp.log(jnp.full((), q, jnp.float32)))

    @property
    def p(self) -> Float[Array, "*features"]:
        """The power of each filter, at least 0.1."""
        return ops.learned_power(self.raw[...])

    def __call__(
        self,
        cos: Float[Array, "..."],
        norm: Float[Array, "..."] | None = None,
    ) -> Float[Array, "..."]:
        """The response to cosines in [-1, 1], in their shape and dtype."""
        check_filters("SharpenedCosine", cos.shape, self.raw.shape)
        p = jnp.expand_dims(self.p, range(cos.ndim - self.raw.ndim))
        q = jnp.exp(self.log_q[...])
        return ops.sharpened_cosine(cos, p=p, q=q, norm=norm)


class Scaled(nnx.Module):
    """Another similarity, times a scale: for a layer whose answers are scores.

    Args:
        features: How many filters, as for `nn.LearnableSigmoid`.
        similarity: What is scaled; a module class is instantiated.
        scale: What the responses are multiplied by, dimensionless, positive. To tell
            K classes apart with probability p, a softmax of cosines needs about
            log((K - 1) p / (1 - p)).
        learn_scale: Whether the scale is learned: `exp(log_scale)`.
        rngs: Random keys for a similarity that draws its parameters.

    Raises:
        ValueError: If `scale` is not positive and finite.

    Example:
        >>> import functools
        >>> import jax.numpy as jnp
        >>> from flax import nnx
        >>> from hypersphere import nn
        >>> scaled = functools.partial(nn.Scaled, scale=16.0)
        >>> head = nn.SphereLinear(4, 3, similarity=scaled, rngs=nnx.Rngs(0))
        >>> bool(jnp.abs(head(jnp.ones((2, 4)))).max() > 1)
        True

    References:
        Wang et al., NormFace, ACM MM 2017, equation 6 and proposition 2.
        https://arxiv.org/abs/1704.06369
    """

    def __init__(
        self,
        features: Features,
        *,
        similarity: Similarity = ops.Cosine(),
        scale: float,
        learn_scale: bool = False,
        rngs: nnx.Rngs,
    ):
        check_positive("Scaled", scale=scale)
        self.similarity = make_similarity("Scaled", similarity, features, rngs)
        self.scale = scale
        self.log_scale: Any = nnx.data(None)
        if learn_scale:
            self.log_scale = nnx.Param(jnp.log(jnp.full((), scale, jnp.float32)))

    @property
    def takes_scale(self) -> bool:
        """Whether the similarity is called with dot products and their scale."""
        return getattr(self.similarity, "takes_scale", False)

    @property
    def takes_norm(self) -> bool:
        """Whether the similarity is called with the patches' length too."""
        return getattr(self.similarity, "takes_norm", False)

    def __call__(self, cos: Float[Array, "..."], **given: Any) -> Float[Array, "..."]:
        """The scaled responses to cosines, in their shape and dtype."""
        response = self.similarity(cos, **given)
        if self.log_scale is None:
            return response * self.scale
        return response * jnp.exp(self.log_scale[...]).astype(response.dtype)


def make_similarity(
    who: str, similarity: Similarity, features: Features | None, rngs: nnx.Rngs
) -> Similarity:
    """The layer's own similarity: a class (or a partial of one) is instantiated."""
    check_callable(
        who,
        "Pass a function of cosines, an object such as `ops.Cosine()`, or "
        "`nn.LearnableSigmoid` for one with parameters.",
        similarity=similarity,
    )
    is_partial = isinstance(similarity, functools.partial)
    made = similarity.func if is_partial else similarity
    if not isinstance(made, type):
        return similarity
    if not issubclass(made, nnx.Module):
        return similarity()
    if features is None:
        raise ValueError(
            f"`{who}` needs a similarity without parameters for an einsum whose answer "
            "has its '...' behind the filters: they broadcast against no last axes."
        )
    return similarity(features, rngs=rngs)
