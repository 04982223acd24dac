"""Dense layers: Flax's, with an answer in angles."""

import functools

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


class SphereDense(linen.Dense, kw_only=True):
    """`linen.Dense` that answers with the angle between each column and the input.

    A shell around `ops.sphere_dot_general`; the bias, if there is one, is added to the
    response. The twin of `nn.SphereLinear`, under Linen's name for the layer.

    Args:
        features: Features of the output.
        similarity: The function g from cosines in [-1, 1] to responses, or a module
            class such as `linen.LearnableSigmoid`, as for `linen.SphereConv`.
        eps: The smallest length that counts, in the units of the input; positive.
        dense_arguments: Every other argument of `linen.Dense`, with its meaning and
            default: use_bias, dtype, param_dtype, precision, kernel_init, bias_init,
            promote_dtype, dot_general and dot_general_cls (which compute the dot
            products), name, parent.

    Raises:
        TypeError: If `similarity` is not callable.
        ValueError: If `eps` is not positive, or the input of a call has other features
            than the kernel.

    Example:
        >>> import jax
        >>> import jax.numpy as jnp
        >>> from hypersphere import linen
        >>> layer, x = linen.SphereDense(4), jnp.ones((2, 5))
        >>> layer.apply(layer.init(jax.random.key(0), x), x).shape
        (2, 4)

    References:
        Liu et al., Deep Hyperspherical Learning, NIPS 2017.
        https://arxiv.org/abs/1711.03189
    """

    __no_type_check__ = True  # of Flax's fields, whose annotations are not for that

    similarity: Similarity = ops.Cosine()
    eps: float = 1e-2

    def __post_init__(self):
        check_positive("SphereDense", eps=self.eps)
        check_similarity("SphereDense", self.similarity)
        super().__post_init__()

    @linen.compact
    def __call__(self, inputs: Float[Array, "..."]) -> Float[Array, "..."]:
        """Responses to inputs (..., in_features), as `linen.Dense`."""
        check_inputs("SphereDense", self, inputs)
        operator = functools.partial(
            ops.sphere_dot_general,
            similarity=make_similarity(self.similarity, self.features),
            eps=self.eps,
        )
        return call_with(operator, self, inputs)


class SphereDenseGeneral(linen.DenseGeneral, kw_only=True):
    """`linen.DenseGeneral` that answers with the angle between filter and input.

    A shell around `ops.sphere_dot_general`, as the projections of an attention layer
    are; what is contracted makes up one vector. The bias, if there is one, is added to
    the response. The twin of `nn.SphereLinearGeneral`, under Linen's name.

    Args:
        features: Features of the output, one number or several axes of them.
        similarity: The function g from cosines in [-1, 1] to responses, or a module
            class such as `linen.LearnableSigmoid`, which has no axis for `batch_dims`.
        eps: The smallest length that counts, in the units of the input; positive.
        dense_arguments: Every other argument of `linen.DenseGeneral`, with its meaning
            and default: axis, batch_dims, use_bias, dtype, param_dtype, kernel_init,
            bias_init, precision, promote_dtype, dot_general and dot_general_cls (which
            compute the dot products), name, parent.

    Raises:
        TypeError: If `similarity` is not callable.
        ValueError: If `eps` is not positive, or Flax finds that sizes do not fit.

    Example:
        >>> import jax
        >>> import jax.numpy as jnp
        >>> from hypersphere import linen
        >>> layer, x = linen.SphereDenseGeneral((2, 3)), jnp.ones((5, 4))
        >>> layer.apply(layer.init(jax.random.key(0), x), x).shape
        (5, 2, 3)

    References:
        Liu et al., Deep Hyperspherical Learning, NIPS 2017.
        https://arxiv.org/abs/1711.03189
        Differs: the paper has dense layers and convolutions alone.
    """

    __no_type_check__ = True  # of Flax's fields, whose annotations are not for that

    similarity: Similarity = ops.Cosine()
    eps: float = 1e-2

    def __post_init__(self):
        check_positive("SphereDenseGeneral", eps=self.eps)
        check_similarity("SphereDenseGeneral", self.similarity)
        super().__post_init__()

    @linen.compact
    def __call__(self, inputs: Float[Array, "..."]) -> Float[Array, "..."]:
        """Responses to inputs, as `linen.DenseGeneral`."""
        operator = functools.partial(
            ops.sphere_dot_general,
            similarity=make_similarity(self.similarity, self.features),
            eps=self.eps,
        )
        return call_with(operator, self, inputs)
