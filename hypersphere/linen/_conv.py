"""Convolution layers: Flax's, with an answer in angles."""

import functools
from typing import Any

import jax.numpy as jnp
from flax import linen
from jaxtyping import Array, Float

from hypersphere import ops
from hypersphere._average import debiased
from hypersphere._checks import (
    check_fraction,
    check_groups,
    check_kernel_size,
    check_magnitude,
    check_positive,
)
from hypersphere.linen._product import call_with, check_inputs
from hypersphere.linen._similarity import (
    Similarity,
    check_similarity,
    make_similarity,
)


class _AngularConv(linen.Conv, kw_only=True):
    """What `SphereConv` and `DecoupledConv` share."""

    __no_type_check__ = True  # of Flax's fields, whose annotations are not for that

    similarity: Similarity = ops.Cosine()
    eps: float = 1e-2
    is_input_stored: bool = False

    def __post_init__(self):
        who = type(self).__name__
        check_positive(who, eps=self.eps)
        check_kernel_size(who, self.kernel_size)
        check_similarity(who, self.similarity)
        super().__post_init__()

    @linen.compact
    def __call__(self, inputs: Float[Array, "..."]) -> Float[Array, "..."]:
        """Answers to inputs (*batch, *spatial, in_features), as `linen.Conv`."""
        who, groups = type(self).__name__, self.feature_group_count
        check_inputs(who, self, inputs, groups=groups)
        check_groups(who, groups, inputs.shape[-1], self.features)
        operator = functools.partial(
            ops.decoupled_conv_general_dilated,
            similarity=make_similarity(self.similarity, self.features),
            eps=self.eps,
            mask=self.mask,
            is_input_stored=self.is_input_stored,
            **self._size(),
        )
        return call_with(operator, self, inputs)

    def _size(self) -> dict[str, Any]:
        """What decides on the size of an answer."""
        return {"magnitude": ops.magnitudes.Sphere()}


class SphereConv(_AngularConv):
    """`linen.Conv` that answers with the angle between each filter and each patch.

    The decoupled convolution of constant magnitude. The bias, if there is one, is added
    to the response.

    Args:
        features: Number of filters.
        kernel_size: The window, one entry per spatial axis.
        similarity: The function g from cosines in [-1, 1] to responses: an object
            such as `ops.Linear()`, any function of yours, a Linen module, or a module
            class such as `linen.LearnableSigmoid` (or a partial of it), which is
            instantiated with `features` as the submodule "similarity".
        eps: The smallest length that counts, in the units of the input; positive.
        is_input_stored: Whether the input is written to memory in any case, as where a
            residual unit begins, and not where it comes straight from a normalization.
            In bfloat16 on a TPU its squares are then added up in another way: the
            answer is the same but for rounding, the cost is not.
        conv_arguments: Every other argument of `linen.Conv`, with its meaning and
            default: strides, padding, input_dilation, kernel_dilation,
            feature_group_count, use_bias, mask, dtype, param_dtype, precision,
            kernel_init, bias_init, promote_dtype, conv_general_dilated and
            conv_general_dilated_cls (which compute the dot products), name, parent.
            Behind a mask the patch norm counts only the pixels that the mask lets
            through.

    Raises:
        TypeError: If `kernel_size` is an int or `similarity` is not callable.
        ValueError: If `eps` is not positive, or at a call, if the groups do not divide
            the features or the input has other features than the kernel.

    Example:
        >>> import jax
        >>> import jax.numpy as jnp
        >>> from hypersphere import linen, ops
        >>> conv = linen.SphereConv(16, (3, 3), similarity=ops.Linear())
        >>> x = jnp.ones((1, 8, 8, 3))
        >>> conv.apply(conv.init(jax.random.key(0), x), x).shape
        (1, 8, 8, 16)

    References:
        Liu et al., Deep Hyperspherical Learning, NIPS 2017.
        https://arxiv.org/abs/1711.03189
        Differs: an int `kernel_size` is refused, which Flax takes as one axis.
    """


class DecoupledConv(_AngularConv, kw_only=True):
    """`linen.Conv` whose answer's size and angle are chosen apart: h(|x|) g(theta).

    A shell around `ops.decoupled_conv_general_dilated`; the bias, if there is one, is
    added to the answer. A magnitude with a radius learns one per filter,
    `rho = (radius^2 + 1e-4) mu`, in units of mu, the mean length of all patches: that
    of the batch while training, a running mean in evaluation, as batch normalization
    has it. The running mean moves when "batch_stats" is mutable, and not in `init`.

    Args:
        features: Number of filters.
        kernel_size: The window, one entry per spatial axis.
        magnitude: The function h: one of `ops.magnitudes`, or your own, which learns a
            radius if it has the attribute `uses_radius = True`.
        similarity: The function g from cosines in [-1, 1] to responses, or a module
            class such as `linen.LearnableSigmoid`, as for `linen.SphereConv`.
        weighted: Whether a filter's length multiplies its answers.
        momentum: Of the running mean, from 0 to 1, dimensionless.
        use_running_average: Whether to use the running mean and leave it as it is.
            Unlike `linen.BatchNorm`, which must be told, by default not.
        eps: The smallest length that counts, in the units of the input; positive.
        is_input_stored: Whether the input is written to memory in any case, as where a
            residual unit begins, and not where it comes straight from a normalization.
            In bfloat16 on a TPU its squares are then added up in another way: the
            answer is the same but for rounding, the cost is not.
        conv_arguments: Every other argument of `linen.Conv`, as for
            `linen.SphereConv`.

    Raises:
        TypeError: If `kernel_size` is an int, or `similarity` or `magnitude` is not
            callable.
        ValueError: If `eps` is not positive or `momentum` is out of range, or at a
            call, if the groups do not divide the features or the input has other
            features than the kernel.

    Example:
        >>> import jax
        >>> import jax.numpy as jnp
        >>> from hypersphere import linen, ops
        >>> conv = linen.DecoupledConv(16, (3, 3), magnitude=ops.magnitudes.Ball())
        >>> x = jnp.ones((1, 8, 8, 3))
        >>> variables = conv.init(jax.random.key(0), x)
        >>> answer, updates = conv.apply(variables, x, mutable="batch_stats")
        >>> answer.shape, int(updates["batch_stats"]["count"])
        ((1, 8, 8, 16), 1)
        >>> evaluated = conv.clone(use_running_average=True)
        >>> evaluated.apply(variables | updates, x).shape
        (1, 8, 8, 16)

    References:
        Liu et al., Decoupled Networks, CVPR 2018. https://arxiv.org/abs/1804.08071
        Differs: the running mean is divided by how full it is, so that evaluation is
        right from the first step on. Unit filters are kept by
        `optim.keep_unit_norm`, if at all, and not by the layer.
    """

    magnitude: Any = ops.magnitudes.Tanh()
    weighted: bool = False
    momentum: float = 0.999
    use_running_average: bool = False

    def __post_init__(self):
        who = type(self).__name__
        check_fraction(who, momentum=self.momentum)
        check_magnitude(who, self.magnitude)
        super().__post_init__()

    def _size(self) -> dict[str, Any]:
        learned = getattr(self.magnitude, "uses_radius", False)
        magnitude = self._magnitude if learned else self.magnitude
        return {"magnitude": magnitude, "weighted": self.weighted}

    def _magnitude(self, norm: Array, *, radius: Any) -> Array:
        """The magnitude at the learned radius."""
        del radius
        ones = linen.initializers.ones_init()
        learned = self.param("radius", ones, (self.features,), self.param_dtype)
        rho = ops.magnitudes.learned_radius(learned, self._mean_norm(norm))
        return self.magnitude(
            norm, radius=jnp.reshape(rho, (1,) * (norm.ndim - 1) + (-1,))
        )

    def _mean_norm(self, norm: Array) -> Array:
        """Of the batch while training, and kept; the running mean in evaluation."""
        running = self.variable("batch_stats", "mean", jnp.zeros, ())
        count = self.variable("batch_stats", "count", jnp.zeros, (), jnp.int32)
        if self.use_running_average:
            return jnp.where(count.value > 0, running.value, 1)
        mean = jnp.mean(norm)
        if self.is_mutable_collection("batch_stats") and not self.is_initializing():
            running.value, count.value = debiased(
                running.value, count.value, mean, self.momentum
            )
        return mean
