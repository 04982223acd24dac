"""The rectifier that networks have."""

import jax
import jax.numpy as jnp
from jax import lax
from jaxtyping import Array, Float


@jax.custom_jvp
def relu(x: Float[Array, "..."]) -> Float[Array, "..."]:
    """The larger one of a number and zero: `jax.nn.relu`, which a GPU moves less for.

    By its compiler's count of a network's bytes, not by a clock: docs/speed.md.

    Args:
        x: Any shape, real floating point.

    Returns:
        The same shape and dtype. The slope is one above zero, and zero at and below it.

    Example:
        >>> import jax.numpy as jnp
        >>> from hypersphere import models
        >>> print(models.relu(jnp.array([-1.0, 2.0])))
        [0. 2.]

    References:
        Differs: `jax.nn.relu` reads its slope off `x`, which a GPU's program then
        computes again from what the convolution has answered; this one off its own
        answer, which is stored for the next convolution anyway.
    """
    return jnp.maximum(x, 0)


@relu.defjvp
def _relu_jvp(primals: tuple[Array], tangents: tuple[Array]) -> tuple[Array, Array]:
    answer = relu(*primals)
    # XLA takes the sign of max(x, 0) for that of x, unless it does not see where it is
    # from. A TPU's program would store an array more for that.
    hidden = dict.fromkeys(("cuda", "rocm"), lax.optimization_barrier)
    known = lax.platform_dependent(answer, **hidden, default=lambda answer: answer)
    return answer, jnp.where(known > 0, tangents[0], 0)
