"""Similarities with parameters, and how a layer comes by its own."""

import dataclasses
import functools
from collections.abc import Callable, Sequence
from typing import Any, TypeAlias

import jax
import jax.numpy as jnp
from flax import linen
from jaxtyping import Array, Float

from hypersphere import ops
from hypersphere._checks import check_callable, check_filters, check_positive

Similarity: TypeAlias = Callable[..., Any]
Features: TypeAlias = int | Sequence[int]


class LearnableSigmoid(linen.Module):
    """`ops.Sigmoid` with a softness per filter, learned by back-propagation.

    The softness is `k = abs(raw) + 0.05`, so that it stays positive; `raw` is the
    parameter.

    Args:
        features: How many filters, the length of the last axis of the cosines; or the
            lengths of several last axes, 1 for one that has the same filters all along.
        start: Where `raw` starts, dimensionless; 0.7 gives k = 0.75. The argument
            `init` of `nn.LearnableSigmoid`, a name that is a method of Linen's.

    Raises:
        ValueError: If the cosines of a call have other features.

    Example:
        >>> import jax
        >>> import jax.numpy as jnp
        >>> from hypersphere import linen
        >>> conv = linen.SphereConv(8, (3, 3), similarity=linen.LearnableSigmoid)
        >>> variables = conv.init(jax.random.key(0), jnp.ones((1, 8, 8, 3)))
        >>> variables["params"]["similarity"]["raw"].shape
        (8,)

    References:
        Liu et al., Deep Hyperspherical Learning, NIPS 2017; start and
        floor are those of the authors' code. https://arxiv.org/abs/1711.03189
    """

    takes_scale = True  # a similarity that is called with dot products and their scale

    features: Features
    _: dataclasses.KW_ONLY
    start: float = 0.7

    @linen.compact
    def __call__(
        self,
        cos: Float[Array, "..."],
        scale: Float[Array, "..."] | None = None,
    ) -> Float[Array, "..."]:
        """The response to cosines, or to `cos * scale`, in the dtype of `cos`."""
        check_filters("LearnableSigmoid", cos.shape, shape_of(self.features))
        raw = self.param(
            "raw", linen.initializers.constant(self.start), shape_of(self.features)
        )
        k = ops.learned_softness(raw)
        k = jnp.expand_dims(k, range(cos.ndim - k.ndim))
        return ops.sigmoid(cos, k=k, scale=scale)


class SharpenedCosine(linen.Module):
    """`ops.sharpened_cosine` with a power per filter and a damping, both learned.

    The power is `p = abs(raw) + 0.1`, the damping `q = exp(log_q)`, one for the layer.
    Made for layers without activation and normalization, followed by
    `linen.max_abs_pool`; its authors' floor under the norm is `eps=1e-3`.

    Args:
        features: How many filters, the length of the last axis of the cosines; or the
            lengths of several last axes, 1 for one that has the same filters all along.
        start: Where the powers start: drawn evenly between these two. The argument
            `init` of `nn.SharpenedCosine`, a name that is a method of Linen's.
        q: Where the damping starts, in the units of the input, positive.

    Raises:
        ValueError: If `q` is not positive and finite, or the cosines of a call have
            other features.

    Example:
        >>> import jax
        >>> import jax.numpy as jnp
        >>> from hypersphere import linen
        >>> conv = linen.SphereConv(
        ...     8, (3, 3), similarity=linen.SharpenedCosine, eps=1e-3
        ... )
        >>> x = jnp.ones((1, 8, 8, 3))
        >>> response, variables = conv.init_with_output(jax.random.key(0), x)
        >>> linen.max_abs_pool(response, (2, 2), (2, 2)).shape
        (1, 4, 4, 8)

    References:
        Pisoni, Sharpened cosine similarity.
        https://github.com/brohrer/sharpened-cosine-similarity
        Differs: abs(raw) + 0.1 instead of a clamp at 0.1, below which nothing is
        learned any more.
    """

    takes_norm = True  # a similarity that is called with the patches' length too

    features: Features
    _: dataclasses.KW_ONLY
    start: tuple[float, float] = (1.0, 3.0)
    q: float = 1e-3

    def __post_init__(self):
        check_positive("SharpenedCosine", q=self.q)
        super().__post_init__()

    @linen.compact
    def __call__(
        self,
        cos: Float[Array, "..."],
        norm: Float[Array, "..."] | None = None,
    ) -> Float[Array, "..."]:
        """The response to cosines in [-1, 1], in their shape and dtype."""
        check_filters("SharpenedCosine", cos.shape, shape_of(self.features))
        p = ops.learned_power(self.param("raw", self._powers))
        log_q = self.param("log_q", lambda key: jnp.log(jnp.full((), self.q)))
        p = jnp.expand_dims(p, range(cos.ndim - p.ndim))
        return ops.sharpened_cosine(cos, p=p, q=jnp.exp(log_q), norm=norm)

    def _powers(self, key: Array) -> Float[Array, "*features"]:
        """What `raw` starts from."""
        low, high = self.start
        powers = jax.random.uniform(
            key, shape_of(self.features), minval=low, maxval=high
        )
        return powers - 0.1


class Scaled(linen.Module):
    """Another similarity, times a scale: for a layer whose answers are scores.

    Args:
        features: How many filters, as for `linen.LearnableSigmoid`.
        similarity: What is scaled; a module class is instantiated.
        scale: What the responses are multiplied by, dimensionless, positive.
        learn_scale: Whether the scale is learned: `exp(log_scale)`.

    Raises:
        ValueError: If `scale` is not positive and finite.

    Example:
        >>> import functools
        >>> import jax
        >>> import jax.numpy as jnp
        >>> from hypersphere import linen
        >>> scaled = functools.partial(linen.Scaled, scale=16.0)
        >>> head = linen.SphereDense(3, similarity=scaled)
        >>> scores, _ = head.init_with_output(jax.random.key(0), jnp.ones((2, 4)))
        >>> bool(jnp.abs(scores).max() > 1)
        True

    References:
        Wang et al., NormFace, ACM MM 2017, equation 6 and proposition 2.
        https://arxiv.org/abs/1704.06369
    """

    features: Features
    _: dataclasses.KW_ONLY
    similarity: Similarity = ops.Cosine()
    scale: float
    learn_scale: bool = False

    def __post_init__(self):
        check_positive("Scaled", scale=self.scale)
        super().__post_init__()

    @property
    def takes_scale(self) -> bool:
        """Whether the similarity is called with dot products and their scale."""
        return getattr(_made(self.similarity), "takes_scale", False)

    @property
    def takes_norm(self) -> bool:
        """Whether the similarity is called with the patches' length too."""
        return getattr(_made(self.similarity), "takes_norm", False)

    @linen.compact
    def __call__(self, cos: Float[Array, "..."], **given: Any) -> Float[Array, "..."]:
        """The scaled responses to cosines, in their shape and dtype."""
        response = make_similarity(self.similarity, self.features)(cos, **given)
        if not self.learn_scale:
            return response * self.scale
        start = lambda key: jnp.log(jnp.full((), self.scale, jnp.float32))  # noqa: E731
        log_scale = self.param("log_scale", start)
        return response * jnp.exp(log_scale).astype(response.dtype)


def shape_of(features: Features) -> tuple[int, ...]:
    """The shape of one number per filter."""
    return (features,) if isinstance(features, int) else tuple(features)


def check_similarity(who: str, similarity: Similarity) -> None:
    """Raises unless it is a function of cosines, or makes one."""
    check_callable(
        who,
        "Pass a function of cosines, an object such as `ops.Cosine()`, or "
        "`linen.LearnableSigmoid` for one with parameters.",
        similarity=similarity,
    )


def make_similarity(similarity: Similarity, features: Features) -> Similarity:
    """The layer's own similarity: a class (or a partial of one) is instantiated.

    Called in a layer's compact method, which makes it the layer's submodule.
    """
    made = _made(similarity)
    if not isinstance(made, type):
        return similarity
    if issubclass(made, linen.Module):
        return similarity(features, name="similarity")
    return similarity()


def _made(similarity: Similarity) -> Any:
    """The class that a partial is of, or what is given."""
    is_partial = isinstance(similarity, functools.partial)
    return similarity.func if is_partial else similarity
