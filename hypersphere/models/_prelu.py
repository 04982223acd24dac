"""PReLU with a slope of each channel's own."""

import jax.numpy as jnp
from flax import nnx
from jaxtyping import Array, Float


class PReLU(nnx.Module):
    """Leaves what is positive and multiplies the rest by a slope, learned per channel.

    Args:
        features: Channels of the input, on its last axis.
        init: Where the slopes start, dimensionless; at 0 it is a ReLU.
        rngs: Not drawn from; taken so that every layer is made the same way.

    Example:
        >>> import jax.numpy as jnp
        >>> from flax import nnx
        >>> from hypersphere import models
        >>> activation = models.PReLU(2, init=0.25, rngs=nnx.Rngs(0))
        >>> print(activation(jnp.array([[-4.0, 3.0]])))
        [[-1.  3.]]

    References:
        He et al., Delving Deep into Rectifiers, ICCV 2015, Eq. (1).
        https://arxiv.org/abs/1502.01852
        Differs: slopes start at 0, as in the authors' code of Decoupled Networks; the
        paper starts them at 0.25.
    """

    def __init__(self, features: int, *, init: float = 0.0, rngs: nnx.Rngs):
        self.slope = nnx.Param(jnp.full((features,), init, jnp.float32))
        del rngs

    def __call__(self, x: Float[Array, "... features"]) -> Float[Array, "... features"]:
        """The same shape and dtype."""
        slope = jnp.reshape(self.slope[...], (1,) * (x.ndim - 1) + (-1,))
        return jnp.where(x > 0, x, slope.astype(x.dtype) * x)
