"""Dense layers: Flax's, with an answer in angles."""

import functools
from collections.abc import Callable, Sequence
from typing import Any

from flax import nnx
from jax import lax
from jaxtyping import Array, Float

from hypersphere import ops
from hypersphere._checks import check_features, check_positive
from hypersphere.nn._signature import shows_arguments_of
from hypersphere.nn._similarity import Similarity, make_similarity


@shows_arguments_of(nnx.Linear)
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

    @property
    def dot_general(self) -> Callable[..., Array]:
        """What Flax calls in place of `lax.dot_general`."""
        return _spherical_product(self)

    @dot_general.setter
    def dot_general(self, dot_products: Callable[..., Array]) -> None:
        self.dot_products = dot_products


@shows_arguments_of(nnx.LinearGeneral)
class SphereLinearGeneral(nnx.LinearGeneral):
    """`nnx.LinearGeneral` that answers with the angle between filter and input.

    A shell around `ops.sphere_dot_general`, as the projections of an attention layer
    are; what is contracted makes up one vector. The bias, if there is one, is added to
    the response.

    Args:
        in_features: Features of the input on the axes that are contracted.
        out_features: Features of the output, one number or several axes of them.
        axis: The axes that are contracted.
        similarity: As for `nn.SphereLinear`; a module class is instantiated with
            `(out_features, rngs=rngs)`, and has no axis for `batch_axis`.
        eps: The smallest length that counts, in the units of the input; positive.
        rngs: Random keys for the parameters.
        linear_arguments: Every other argument of `nnx.LinearGeneral`, with its meaning
            and default: batch_axis, use_bias, dtype, param_dtype, kernel_init,
            bias_init, precision, promote_dtype, dot_general and dot_general_cls (which
            compute the dot products), preferred_element_type, kernel_metadata,
            bias_metadata.

    Raises:
        TypeError: If `similarity` is not callable.
        ValueError: If `eps` is not positive, or Flax finds that sizes do not fit.

    Example:
        >>> import jax.numpy as jnp
        >>> from flax import nnx
        >>> from hypersphere import nn
        >>> layer = nn.SphereLinearGeneral(4, (2, 3), rngs=nnx.Rngs(0))
        >>> layer(jnp.ones((5, 4))).shape
        (5, 2, 3)

    References:
        Liu et al., Deep Hyperspherical Learning, NIPS 2017.
        https://arxiv.org/abs/1711.03189
        Differs: the paper has dense layers and convolutions alone.
    """

    def __init__(
        self,
        in_features: int | Sequence[int],
        out_features: int | Sequence[int],
        *,
        axis: int | Sequence[int] = -1,
        similarity: Similarity = ops.Cosine(),
        eps: float = 1e-2,
        rngs: nnx.Rngs,
        **linear_arguments: Any,
    ):
        check_positive("SphereLinearGeneral", eps=eps)
        made = linear_arguments.pop("dot_general_cls", None)
        if made is not None:
            linear_arguments["dot_general"] = made()
        super().__init__(
            in_features, out_features, axis=axis, rngs=rngs, **linear_arguments
        )
        features = self.out_features
        self.similarity = make_similarity(
            "SphereLinearGeneral",
            similarity,
            features[0] if len(features) == 1 else features,
            rngs,
        )
        self.eps = eps

    @property
    def directions(self) -> tuple[str, ...]:
        """The parameters whose filters may have any length; see `nn.directions`."""
        is_matrix = len(self.out_features) == 1 and not self.batch_axis
        return ("kernel",) if is_matrix else ()

    @property
    def dot_general(self) -> Callable[..., Array]:
        """What Flax calls in place of `lax.dot_general`."""
        return _spherical_product(self)

    @dot_general.setter
    def dot_general(self, dot_products: Callable[..., Array] | None) -> None:
        self.dot_products = dot_products  # Flax's default is None


def _spherical_product(layer: Any) -> Callable[..., Array]:
    return functools.partial(
        ops.sphere_dot_general,
        similarity=layer.similarity,
        eps=layer.eps,
        dot_general=layer.dot_products or lax.dot_general,
    )
