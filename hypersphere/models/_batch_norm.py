"""Batch normalization whose running averages start as the experiment needs."""

from typing import Any, Literal

import jax
import jax.numpy as jnp
from flax import nnx
from jaxtyping import Array, Float

from hypersphere._average import fullness

Averages = Literal["flax", "zero", "debiased"]


class BatchNorm(nnx.BatchNorm):
    """`nnx.BatchNorm` with a choice of how its running averages begin.

    In training mode all three are the same function; they differ in the statistics
    that evaluation uses early on.

    Args:
        num_features: Features of the input, on its last axis.
        averages: "flax" starts the mean at zero and the variance at one. "zero" starts
            both at zero and does not correct for it, as the authors' code does: with
            their momentum of 0.999 the averages are 63 % full after 1,000 steps.
            "debiased" is the same average divided by how full it is.
        rngs: Random keys for the parameters.
        batch_norm_arguments: Every other argument of `nnx.BatchNorm`, with its meaning
            and default: momentum, epsilon, dtype and so on.

    Raises:
        ValueError: If `averages` is none of the three.

    Example:
        >>> import jax.numpy as jnp
        >>> from flax import nnx
        >>> from hypersphere import models
        >>> norm = models.BatchNorm(
        ...     1, averages="debiased", momentum=0.999, rngs=nnx.Rngs(0)
        ... )
        >>> _ = norm(jnp.array([[3.0], [5.0]]))
        >>> print(norm.mean[...].round(3), norm.var[...].round(3))
        [4.] [1.]

    References:
        Ioffe and Szegedy, Batch Normalization, ICML 2015.
        https://arxiv.org/abs/1502.03167
    """

    def __init__(
        self,
        num_features: int,
        *,
        averages: Averages = "flax",
        rngs: nnx.Rngs,
        **batch_norm_arguments: Any,
    ):
        if averages not in ("flax", "zero", "debiased"):
            raise ValueError(
                "`BatchNorm` needs `averages` to be 'flax', 'zero' or 'debiased', got "
                f"`averages={averages!r}`."
            )
        super().__init__(num_features, rngs=rngs, **batch_norm_arguments)
        self.averages = averages
        if averages == "zero":
            self.var[...] = jnp.zeros_like(self.var[...])
        if averages == "debiased":
            self.count = nnx.BatchStat(jnp.zeros((), jnp.int32))

    def __call__(
        self,
        x: Float[Array, "..."],
        use_running_average: bool | None = None,  # noqa: FBT001  as Flax has it
        **kwargs: Any,
    ) -> Float[Array, "..."]:
        """Normalizes, and in training mode updates the averages, as `nnx.BatchNorm`."""
        if use_running_average is None:
            use_running_average = self.use_running_average
        before = self.mean[...], self.var[...]
        answer = super().__call__(x, use_running_average, **kwargs)
        if self.averages == "debiased" and not use_running_average:
            self._debias(*before)
        return answer

    def _debias(self, mean: jax.Array, var: jax.Array) -> None:
        # Flax has moved the average by (1 - momentum) of the way to the batch's value;
        # the average that weighs all batches so far rightly moves by the share below.
        count = self.count[...] + 1
        share = 1 / fullness(count, self.momentum)
        self.count[...] = count
        self.mean[...] = mean + share * (self.mean[...] - mean)
        self.var[...] = var + share * (self.var[...] - var)
