"""The einsum layer: Flax's, with an answer in angles."""

import functools
from collections.abc import Callable, Sequence
from typing import Any

from flax import nnx
from jaxtyping import Array

from hypersphere import ops
from hypersphere._checks import check_positive
from hypersphere.nn._signature import shows_arguments_of
from hypersphere.nn._similarity import Similarity, make_similarity


@shows_arguments_of(nnx.Einsum)
class SphereEinsum(nnx.Einsum):
    """`nnx.Einsum` that answers with the angle between each filter and the input.

    A shell around `ops.sphere_einsum`; the bias, if there is one, is added to the
    response.

    Args:
        einsum_str: Such as "btd,dhk->bthk": the input's letters, the kernel's, the
            answer's. What input and kernel share and the answer lacks is a filter.
        kernel_shape: The sizes of the kernel's letters.
        bias_shape: As in `nnx.Einsum`; None for no bias.
        similarity: As for `nn.SphereLinear`; a module class is instantiated with the
            shape of all filters, `(out_shape, rngs=rngs)`.
        eps: The smallest length that counts, in the units of the input; positive.
        rngs: Random keys for the parameters.
        einsum_arguments: Every other argument of `nnx.Einsum`, with its meaning and
            default: dtype, param_dtype, precision, kernel_init, bias_init,
            promote_dtype, einsum_op (which computes the dot products),
            preferred_element_type, kernel_metadata, bias_metadata.

    Raises:
        TypeError: If `similarity` is not callable.
        ValueError: If `eps` is not positive, or the einsum sums over what is no
            direction.

    Example:
        >>> import jax.numpy as jnp
        >>> from flax import nnx
        >>> from hypersphere import nn
        >>> layer = nn.SphereEinsum("btd,dhk->bthk", (4, 2, 3), rngs=nnx.Rngs(0))
        >>> layer(jnp.ones((1, 5, 4))).shape
        (1, 5, 2, 3)

    References:
        Liu et al., Deep Hyperspherical Learning, NIPS 2017.
        https://arxiv.org/abs/1711.03189
        Differs: the paper has no einsum.
    """

    def __init__(
        self,
        einsum_str: str,
        kernel_shape: Sequence[int],
        bias_shape: Sequence[int] | None = None,
        *,
        similarity: Similarity = ops.Cosine(),
        eps: float = 1e-2,
        rngs: nnx.Rngs,
        **einsum_arguments: Any,
    ):
        check_positive("SphereEinsum", eps=eps)
        super().__init__(
            einsum_str, kernel_shape, bias_shape, rngs=rngs, **einsum_arguments
        )
        features = ops.einsum_filters(self.einsum_str, tuple(kernel_shape))
        self.similarity = make_similarity("SphereEinsum", similarity, features, rngs)
        self.eps = eps

    @property
    def directions(self) -> tuple[str, ...]:
        """The parameters whose filters may have any length; see `nn.directions`."""
        return ()  # they lie along any axes

    @property
    def einsum_op(self) -> Callable[..., Array]:
        """What Flax calls in place of `jnp.einsum`."""
        return functools.partial(
            ops.sphere_einsum,
            similarity=self.similarity,
            eps=self.eps,
            einsum=self.dot_products,
        )

    @einsum_op.setter
    def einsum_op(self, dot_products: Callable[..., Array]) -> None:
        self.dot_products = dot_products
