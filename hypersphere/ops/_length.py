"""Lengths given back to responses, which have none."""

from typing import Any, ClassVar

import jax.numpy as jnp
from jaxtyping import Array, Float

from hypersphere._checks import check_positive
from hypersphere._dtypes import widened
from hypersphere.ops._angles import l2_norm
from hypersphere.ops._answer import ResponseFunction
from hypersphere.ops._similarity import Cosine


class WithLength:
    """A similarity times a power of both lengths: (|w| |x|)^p g(theta).

    At p = 0 it is the similarity; at p = 1, with `Cosine`, the dot product, so that a
    layer that learns p can become the plain one again. For operators whose filters lie
    on the last axis of kernel and answer, as `similarity`.

    Args:
        kernel: One filter per entry of the last axis, real floating point.
        exponent: The power p of each filter, dimensionless.
        similarity: The function g from cosines in [-1, 1] to responses.
        eps: The smallest length that counts, in the units of the kernel; positive.

    Raises:
        ValueError: If `eps` is not positive and finite.

    Example:
        >>> import jax.numpy as jnp
        >>> from hypersphere import ops
        >>> x, kernel = jnp.array([[1.0, 2.0]]), jnp.array([[3.0], [4.0]])
        >>> whole = ops.WithLength(kernel, jnp.ones(1), eps=1e-4)
        >>> print(ops.sphere_dense(x, kernel, similarity=whole, eps=1e-4).round(2))
        [[11.]]

    References:
        Liu et al., Deep Hyperspherical Learning, NIPS 2017, whose SphereNorm is to be
        able to restore the plain layer. https://arxiv.org/abs/1711.03189
        Differs: the paper gives no form for it; the power is ours.
    """

    takes_norm: ClassVar[bool] = True  # called with the patches' length too

    def __init__(
        self,
        kernel: Float[Array, "... filters"],
        exponent: Float[Array, " filters"],
        *,
        similarity: ResponseFunction = Cosine(),
        eps: float = 1e-2,
    ):
        check_positive("WithLength", eps=eps)
        axes = tuple(range(kernel.ndim - 1))
        self.filter_norm = l2_norm(widened(kernel), axis=axes, eps=eps)
        self.exponent = exponent
        self.similarity = similarity

    def __call__(
        self, cos: Float[Array, "..."], *, norm: Float[Array, "..."]
    ) -> Float[Array, "..."]:
        """Answers to cosines and the lengths of their patches, at least float32."""
        takes_norm = getattr(self.similarity, "takes_norm", False)
        more: dict[str, Any] = {"norm": norm} if takes_norm else {}
        response = self.similarity(cos, **more)
        row = (1,) * (cos.ndim - 1) + (-1,)
        exponent, filter_norm = (
            jnp.reshape(each, row) for each in (self.exponent, self.filter_norm)
        )
        return response * jnp.exp(exponent * (jnp.log(norm) + jnp.log(filter_norm)))
