"""SphereNorm: hyperspherical learning as a normalization method."""

from typing import Any

import jax.numpy as jnp
from flax import nnx
from jaxtyping import Array, Float

from hypersphere import ops
from hypersphere._checks import check_features, check_positive
from hypersphere.nn._similarity import Similarity, make_similarity


class SphereNorm(nnx.Module):
    """Normalizes an existing layer: scale * g(theta) + shift, learned per filter.

    The wrapped layer keeps its parameters and is never written to: called by itself it
    still computes what it always did.

    Args:
        layer: An `nnx.Conv` or `nnx.Linear` without bias.
        similarity: The function g from cosines in [-1, 1] to responses, or a module
            class such as `nn.LearnableSigmoid`, which is instantiated.
        eps: The smallest length that counts, in the units of the input; positive.
        use_scale: Whether to learn a scale per filter, starting at one.
        use_bias: Whether to learn a shift per filter, starting at zero.
        use_length: Whether to learn, per filter, the power of the lengths of filter and
            patch that multiplies the response, starting at zero; at one, with
            `ops.Cosine()`, the layer is the plain one again.
        rngs: Random keys for a similarity that draws any, such as
            `nn.SharpenedCosine`; by default `nnx.Rngs(0)`, the same for every layer.

    Raises:
        TypeError: If `layer` is neither an `nnx.Conv` nor an `nnx.Linear`.
        ValueError: If `layer` has a bias, or `eps` is not positive.

    Example:
        >>> import jax.numpy as jnp
        >>> from flax import nnx
        >>> from hypersphere import nn, ops
        >>> conv = nnx.Conv(3, 8, (3, 3), use_bias=False, rngs=nnx.Rngs(0))
        >>> layer = nn.SphereNorm(conv, similarity=ops.Linear())
        >>> layer(jnp.ones((1, 8, 8, 3))).shape
        (1, 8, 8, 8)

    References:
        Liu et al., Deep Hyperspherical Learning, NIPS 2017
        https://arxiv.org/abs/1711.03189
    """

    def __init__(
        self,
        layer: nnx.Conv | nnx.Linear,
        *,
        similarity: Similarity = ops.Cosine(),
        eps: float = 1e-2,
        use_scale: bool = True,
        use_bias: bool = True,
        use_length: bool = False,
        rngs: nnx.Rngs | None = None,
    ):
        if type(layer) not in (nnx.Conv, nnx.Linear):
            raise TypeError(
                "`SphereNorm` needs `layer` to be an `nnx.Conv` or `nnx.Linear`, got "
                f"`{type(layer).__name__}`."
            )
        if layer.bias is not None:
            raise ValueError(
                "`SphereNorm` needs a layer without bias, because its own shift is the "
                f"bias, got a `{type(layer).__name__}` with one. Make it with "
                "`use_bias=False`."
            )
        check_positive("SphereNorm", eps=eps)
        features = layer.out_features
        self.layer = layer
        self.similarity = make_similarity(
            "SphereNorm", similarity, features, rngs or nnx.Rngs(0)
        )
        self.eps = eps
        self.scale = nnx.Param(jnp.ones(features)) if use_scale else nnx.data(None)
        self.bias = nnx.Param(jnp.zeros(features)) if use_bias else nnx.data(None)
        self.exponent = nnx.Param(jnp.zeros(features)) if use_length else nnx.data(None)

    @property
    def directions(self) -> tuple[str, ...]:
        """The parameters whose filters may have any length; see `nn.directions`."""
        return ("layer.kernel",) if self.exponent is None else ()

    def __call__(self, inputs: Float[Array, "..."]) -> Float[Array, "..."]:
        """The wrapped layer's shapes, normalized; in the dtype it computes in."""
        check_features("SphereNorm", inputs.shape, self.layer.in_features)
        # Flax's own call, made on a stand-in for the layer, so that every argument of
        # the layer keeps its meaning and nothing of it changes.
        stand_in: Any = _Spherical(self)
        answer = type(self.layer).__call__(stand_in, inputs)
        if self.scale is not None:
            answer = answer * self._per_filter(self.scale, answer)
        if self.bias is not None:
            answer = answer + self._per_filter(self.bias, answer)
        return answer

    def _per_filter(self, parameter: nnx.Param, answer: Array) -> Array:
        row = (1,) * (answer.ndim - 1) + (-1,)
        return jnp.reshape(parameter[...].astype(answer.dtype), row)


class _Spherical:
    """A stand-in for a wrapped layer: all of it but the product it computes."""

    def __init__(self, norm: SphereNorm):
        self._layer: Any = norm.layer
        self._norm = norm

    def __getattr__(self, name: str) -> Any:
        return getattr(self._layer, name)

    def conv_general_dilated(self, lhs: Array, rhs: Array, *args: Any, **kwargs: Any):
        return ops.sphere_conv_general_dilated(
            *(lhs, rhs, *args),
            **kwargs,
            **self._answer(rhs),
            mask=self._layer.mask,
            conv_general_dilated=self._layer.conv_general_dilated,
        )

    def dot_general(self, lhs: Array, rhs: Array, *args: Any, **kwargs: Any):
        return ops.sphere_dot_general(
            *(lhs, rhs, *args),
            **kwargs,
            **self._answer(rhs),
            dot_general=self._layer.dot_general,
        )

    def _answer(self, kernel: Array) -> dict[str, Any]:
        similarity, eps = self._norm.similarity, self._norm.eps
        if self._norm.exponent is not None:
            similarity = ops.WithLength(
                kernel, self._norm.exponent[...], similarity=similarity, eps=eps
            )
        return {"similarity": similarity, "eps": eps}
