"""Dense layers: Flax's, with an answer in angles."""

from typing import Any

from flax import nnx
from jaxtyping import Array, Float

from hypersphere import ops
from hypersphere._checks import check_features, check_positive
from hypersphere.nn._similarity import Similarity, make_similarity


class SphereLinear(nnx.Linear):
    """`nnx.Linear` that answers with the angle between each column and the input.

    A shell around `ops.sphere_dense`; the bias, if there is one, is added to the
    response.

    Args:
        in_features: Features of the input, on its last axis.
        out_features: Features of the output.
        similarity: The function g from cosines in [-1, 1] to responses: an object
            such as `ops.Linear()`, any function of yours, or a module class such as
            `nn.LearnableSigmoid` (or a partial of it), which is instantiated with
            `(out_features, rngs=rngs)`.
        eps: The smallest length that counts, in the units of the input; positive.
        rngs: Random keys for the parameters.
        linear_arguments: Every other argument of `nnx.Linear`, with its meaning and
            default: use_bias, dtype, param_dtype, precision, kernel_init, bias_init,
            dot_general (which computes the dot products), promote_dtype,
            preferred_element_type, kernel_metadata, bias_metadata.

    Raises:
        TypeError: If `similarity` is not callable.
        ValueError: If `eps` is not positive, or the input of a call has other features
            than `in_features`.

    Example:
        >>> import jax.numpy as jnp
        >>> from flax import nnx
        >>> from hypersphere import nn
        >>> layer = nn.SphereLinear(5, 4, rngs=nnx.Rngs(0))
        >>> layer(jnp.ones((2, 5))).shape
        (2, 4)

    References:
        Liu et al., Deep Hyperspherical Learning, NIPS 2017.
        https://arxiv.org/abs/1711.03189
    """

    def __init__(
        self,
        in_features: int,
        out_features: int,
        *,
        similarity: Similarity = ops.Cosine(),
        eps: float = 1e-2,
        rngs: nnx.Rngs,
        **linear_arguments: Any,
    ):
        check_positive("SphereLinear", eps=eps)
        super().__init__(in_features, out_features, rngs=rngs, **linear_arguments)
        self.similarity = make_similarity(
            "SphereLinear", similarity, out_features, rngs
        )
        self.eps = eps
        # As in `SphereConv`: the method below takes the attribute's place.
        self.dot_products = self.dot_general
        del self.dot_general

    @property
    def directions(self) -> tuple[str, ...]:
        """The parameters whose filters may have any length; see `nn.directions`."""
        return ("kernel",)

    def __call__(
        self, inputs: Float[Array, "..."], *args: Any, **kwargs: Any
    ) -> Float[Array, "..."]:
        """Responses to inputs (..., in_features), as `nnx.Linear`."""
        check_features("SphereLinear", inputs.shape, self.in_features)
        return super().__call__(inputs, *args, **kwargs)

    def dot_general(self, *args: Any, **kwargs: Any) -> Array:
        """What Flax calls in place of `lax.dot_general`."""
        return ops.sphere_dot_general(
            *args,
            **kwargs,
            similarity=self.similarity,
            eps=self.eps,
            dot_general=self.dot_products,
        )
