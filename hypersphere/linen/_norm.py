"""SphereNorm: hyperspherical learning as a normalization method."""

import dataclasses
import functools
from typing import Any

import jax.numpy as jnp
from flax import linen
from jaxtyping import Array, Float

from hypersphere import ops
from hypersphere._checks import check_positive
from hypersphere.linen._product import call_with, check_inputs
from hypersphere.linen._similarity import (
    Similarity,
    check_similarity,
    make_similarity,
)


class SphereNorm(linen.Module):
    """Normalizes an existing layer: scale * g(theta) + shift, learned per filter.

    The wrapped layer keeps its parameters: called by itself it still computes what it
    always did. They stand under "layer", or, as always in Linen, where the layer was
    made, if that was in a compact method and without `parent=None`.

    Args:
        layer: A `linen.Conv` or `linen.Dense` without bias.
        similarity: The function g from cosines in [-1, 1] to responses, or a module
            class such as `linen.LearnableSigmoid`, as for `linen.SphereConv`.
        eps: The smallest length that counts, in the units of the input; positive.
        use_scale: Whether to learn a scale per filter, starting at one.
        use_bias: Whether to learn a shift per filter, starting at zero.
        use_length: Whether to learn, per filter, the power of the lengths of filter and
            patch that multiplies the response, starting at zero; at one, with
            `ops.Cosine()`, the layer is the plain one again.

    Raises:
        TypeError: If `layer` is neither a `linen.Conv` nor a `linen.Dense`, or
            `similarity` is not callable.
        ValueError: If `layer` has a bias, `eps` is not positive, or the input of a call
            has other features than the kernel.

    Example:
        >>> import flax.linen
        >>> import jax
        >>> import jax.numpy as jnp
        >>> from hypersphere import linen, ops
        >>> conv = flax.linen.Conv(8, (3, 3), use_bias=False)
        >>> layer = linen.SphereNorm(conv, similarity=ops.Linear())
        >>> x = jnp.ones((1, 8, 8, 3))
        >>> layer.apply(layer.init(jax.random.key(0), x), x).shape
        (1, 8, 8, 8)

    References:
        Liu et al., Deep Hyperspherical Learning, NIPS 2017
        https://arxiv.org/abs/1711.03189
    """

    layer: linen.Conv | linen.Dense
    _: dataclasses.KW_ONLY
    similarity: Similarity = ops.Cosine()
    eps: float = 1e-2
    use_scale: bool = True
    use_bias: bool = True
    use_length: bool = False

    def __post_init__(self):
        if type(self.layer) not in (linen.Conv, linen.Dense):
            raise TypeError(
                "`SphereNorm` needs `layer` to be a `linen.Conv` or `linen.Dense`, got "
                f"`{type(self.layer).__name__}`."
            )
        if self.layer.use_bias:
            raise ValueError(
                "`SphereNorm` needs a layer without bias, because its own shift is the "
                f"bias, got a `{type(self.layer).__name__}` with one. Make it with "
                "`use_bias=False`."
            )
        check_positive("SphereNorm", eps=self.eps)
        check_similarity("SphereNorm", self.similarity)
        super().__post_init__()

    @linen.compact
    def __call__(self, inputs: Float[Array, "..."]) -> Float[Array, "..."]:
        """The wrapped layer's shapes, normalized; in the dtype it computes in."""
        layer = self.layer
        operator: Any = ops.sphere_dot_general
        groups = 1
        if isinstance(layer, linen.Conv):
            operator = functools.partial(
                ops.sphere_conv_general_dilated, mask=layer.mask
            )
            groups = layer.feature_group_count
        check_inputs("SphereNorm", layer, inputs, groups=groups)
        similarity = make_similarity(self.similarity, layer.features)
        zeros = linen.initializers.zeros_init()
        if self.use_length:
            exponent = self.param("exponent", zeros, (layer.features,))
            operator = self._with_length(operator, exponent, similarity)
        else:
            operator = functools.partial(operator, similarity=similarity, eps=self.eps)
        answer = call_with(operator, layer, inputs)
        if self.use_scale:
            ones = linen.initializers.ones_init()
            answer = answer * self._per_filter("scale", ones, answer)
        if self.use_bias:
            answer = answer + self._per_filter("bias", zeros, answer)
        return answer

    def _with_length(self, operator: Any, exponent: Array, similarity: Any) -> Any:
        def run(lhs: Array, rhs: Array, *args: Any, **kwargs: Any) -> Array:
            longer = ops.WithLength(rhs, exponent, similarity=similarity, eps=self.eps)
            return operator(lhs, rhs, *args, similarity=longer, eps=self.eps, **kwargs)

        return run

    def _per_filter(self, name: str, start: Any, answer: Array) -> Array:
        parameter = self.param(name, start, (self.layer.features,))
        row = (1,) * (answer.ndim - 1) + (-1,)
        return jnp.reshape(parameter.astype(answer.dtype), row)
