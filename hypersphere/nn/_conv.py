"""Convolution layers: Flax's, with an answer in angles."""

import functools
from collections.abc import Callable, Sequence
from typing import Any

import jax.numpy as jnp
from flax import nnx
from jaxtyping import Array, Float

from hypersphere import ops
from hypersphere._average import debiased
from hypersphere._checks import (
    check_features,
    check_fraction,
    check_groups,
    check_kernel_size,
    check_magnitude,
    check_positive,
)
from hypersphere.nn._signature import shows_arguments_of
from hypersphere.nn._similarity import Similarity, make_similarity


class _AngularConv(nnx.Conv):
    """What `SphereConv` and `DecoupledConv` share."""

    def __init__(
        self,
        in_features: int,
        out_features: int,
        kernel_size: Sequence[int],
        strides: int | Sequence[int] | None = 1,
        *,
        similarity: Similarity,
        eps: float,
        is_input_stored: bool,
        rngs: nnx.Rngs,
        **conv_arguments: Any,
    ):
        who = type(self).__name__
        groups = conv_arguments.get("feature_group_count", 1)
        check_groups(who, groups, in_features, out_features)
        check_positive(who, eps=eps)
        super().__init__(
            in_features,
            out_features,
            check_kernel_size(who, kernel_size),
            strides,
            rngs=rngs,
            **conv_arguments,
        )
        self.similarity = make_similarity(who, similarity, out_features, rngs)
        self.eps = eps
        self.is_input_stored = is_input_stored

    @property
    def directions(self) -> tuple[str, ...]:
        """The parameters whose filters may have any length; see `nn.directions`."""
        return ("kernel",)

    def __call__(
        self, inputs: Float[Array, "..."], *args: Any, **kwargs: Any
    ) -> Float[Array, "..."]:
        """Answers to inputs (*batch, *spatial, in_features), as `nnx.Conv`."""
        check_features(type(self).__name__, inputs.shape, self.in_features)
        return super().__call__(inputs, *args, **kwargs)

    # Made when Flax asks for it, and not kept: a learned similarity's parameters are in
    # the layer's state.
    @property
    def conv_general_dilated(self) -> Callable[..., Array]:
        """What Flax calls in place of `lax.conv_general_dilated`."""
        return functools.partial(
            ops.decoupled_conv_general_dilated,
            **self._size(),
            similarity=self.similarity,
            eps=self.eps,
            mask=self.mask,
            is_input_stored=self.is_input_stored,
            conv_general_dilated=self.dot_products,
        )

    @conv_general_dilated.setter
    def conv_general_dilated(self, dot_products: Callable[..., Array]) -> None:
        self.dot_products = dot_products

    def _size(self) -> dict[str, Any]:
        """What decides on the size of an answer."""
        return {"magnitude": ops.magnitudes.Sphere()}


@shows_arguments_of(nnx.Conv)
class DecoupledConv(_AngularConv):
    """`nnx.Conv` whose answer's size and angle are chosen apart: h(|x|) g(theta).

    A shell around `ops.decoupled_conv_general_dilated`; the bias, if there is one, is
    added to the answer. A magnitude with a radius learns one per filter,
    `rho = (radius^2 + 1e-4) mu`, in units of mu, the mean length of all patches: that
    of the batch while training, a running mean in evaluation, as batch normalization
    has it. `model.train()` and `model.eval()` switch between the two.

    Args:
        in_features: Features of the input, on its last axis.
        out_features: Number of filters.
        kernel_size: The window, one entry per spatial axis.
        strides: Steps of the window, in pixels.
        magnitude: The function h: one of `ops.magnitudes`, or your own, which learns a
            radius if it has the attribute `uses_radius = True`.
        similarity: The function g from cosines in [-1, 1] to responses: an object
            such as `ops.Linear()`, any function of yours, or a module class such as
            `nn.LearnableSigmoid` (or a partial of it), which is instantiated with
            `(out_features, rngs=rngs)`.
        weighted: Whether a filter's length multiplies its answers.
        momentum: Of the running mean, from 0 to 1, dimensionless.
        use_running_average: Whether to use the running mean and leave it as it is.
        eps: The smallest length that counts, in the units of the input; positive.
        is_input_stored: Whether the input is written to memory in any case, as where a
            residual unit begins, and not where it comes straight from a normalization.
            In bfloat16 on a TPU its squares are then added up in another way: the
            answer is the same but for rounding, the cost is not.
        rngs: Random keys for the parameters.
        conv_arguments: Every other argument of `nnx.Conv`, as for `nn.SphereConv`.

    Raises:
        TypeError: If `kernel_size` is an int, or `similarity` or `magnitude` is not
            callable.
        ValueError: If the groups do not divide the features, `eps` is not positive,
            `momentum` is out of range, or the input of a call has other features than
            `in_features`.

    Example:
        >>> import jax.numpy as jnp
        >>> from flax import nnx
        >>> from hypersphere import nn, ops
        >>> conv = nn.DecoupledConv(
        ...     3, 16, (3, 3), magnitude=ops.magnitudes.Ball(), rngs=nnx.Rngs(0)
        ... )
        >>> conv(jnp.ones((1, 8, 8, 3))).shape
        (1, 8, 8, 16)

    References:
        Liu et al., Decoupled Networks, CVPR 2018. https://arxiv.org/abs/1804.08071
        Differs: the running mean is divided by how full it is, so that evaluation is
        right from the first step on. Unit filters are kept by
        `optim.keep_unit_norm`, if at all, and not by the layer.
    """

    def __init__(
        self,
        in_features: int,
        out_features: int,
        kernel_size: Sequence[int],
        strides: int | Sequence[int] | None = 1,
        *,
        magnitude: Any = ops.magnitudes.Tanh(),
        similarity: Similarity = ops.Cosine(),
        weighted: bool = False,
        momentum: float = 0.999,
        use_running_average: bool = False,
        eps: float = 1e-2,
        is_input_stored: bool = False,
        rngs: nnx.Rngs,
        **conv_arguments: Any,
    ):
        who = type(self).__name__
        check_fraction(who, momentum=momentum)
        check_magnitude(who, magnitude)
        super().__init__(
            in_features,
            out_features,
            kernel_size,
            strides,
            similarity=similarity,
            eps=eps,
            is_input_stored=is_input_stored,
            rngs=rngs,
            **conv_arguments,
        )
        self.magnitude = magnitude
        self.weighted = weighted
        self.radius: Any = nnx.data(None)
        if getattr(magnitude, "uses_radius", False):
            self.radius = nnx.Param(jnp.ones(out_features, self.param_dtype))
            self.mean = nnx.BatchStat(jnp.zeros(()))
            self.count = nnx.BatchStat(jnp.zeros((), jnp.int32))
            self.momentum = momentum
            self.use_running_average = use_running_average

    @property
    def directions(self) -> tuple[str, ...]:
        """The parameters whose filters may have any length; see `nn.directions`."""
        return () if self.weighted else ("kernel",)

    def set_view(self, *, use_running_average: bool | None = None) -> None:
        """What `nnx.view` calls: switches between batch and running mean."""
        if use_running_average is not None and self.radius is not None:
            self.use_running_average = use_running_average

    def _size(self) -> dict[str, Any]:
        """What decides on the size of an answer."""
        learned = self.radius is not None
        return {
            "magnitude": self._magnitude if learned else self.magnitude,
            "weighted": self.weighted,
        }

    def _magnitude(self, norm: Array, *, radius: Any) -> Array:
        """The magnitude at the learned radius."""
        del radius
        rho = ops.magnitudes.learned_radius(self.radius[...], self._mean_norm(norm))
        return self.magnitude(
            norm, radius=jnp.reshape(rho, (1,) * (norm.ndim - 1) + (-1,))
        )

    def _mean_norm(self, norm: Array) -> Array:
        """Of the batch while training, and kept; the running mean in evaluation."""
        if self.use_running_average:
            return jnp.where(self.count[...] > 0, self.mean[...], 1)
        mean = jnp.mean(norm)
        self.mean[...], self.count[...] = debiased(
            self.mean[...], self.count[...], mean, self.momentum
        )
        return mean


@shows_arguments_of(nnx.Conv)
class SphereConv(_AngularConv):
    """`nnx.Conv` that answers with the angle between each filter and each patch.

    The decoupled convolution of constant magnitude. The bias, if there is one, is added
    to the response.

    Args:
        in_features: Features of the input, on its last axis.
        out_features: Number of filters.
        kernel_size: The window, one entry per spatial axis.
        strides: Steps of the window, in pixels.
        similarity: The function g from cosines in [-1, 1] to responses: an object
            such as `ops.Linear()`, any function of yours, or a module class such as
            `nn.LearnableSigmoid` (or a partial of it), which is instantiated with
            `(out_features, rngs=rngs)`.
        eps: The smallest length that counts, in the units of the input; positive.
        is_input_stored: Whether the input is written to memory in any case, as where a
            residual unit begins, and not where it comes straight from a normalization.
            In bfloat16 on a TPU its squares are then added up in another way: the
            answer is the same but for rounding, the cost is not.
        rngs: Random keys for the parameters.
        conv_arguments: Every other argument of `nnx.Conv`, with its meaning and
            default: padding, input_dilation, kernel_dilation, feature_group_count,
            use_bias, mask, dtype, param_dtype, precision, kernel_init, bias_init,
            conv_general_dilated (which computes the dot products), promote_dtype,
            preferred_element_type, kernel_metadata, bias_metadata. Behind a mask the
            patch norm counts only the pixels that the mask lets through.

    Raises:
        TypeError: If `kernel_size` is an int or `similarity` is not callable.
        ValueError: If the groups do not divide the features, `eps` is not positive, or
            the input of a call has other features than `in_features`.

    Example:
        >>> import jax.numpy as jnp
        >>> from flax import nnx
        >>> from hypersphere import nn, ops
        >>> conv = nn.SphereConv(
        ...     3, 16, (3, 3), similarity=ops.Linear(), rngs=nnx.Rngs(0)
        ... )
        >>> conv(jnp.ones((1, 8, 8, 3))).shape
        (1, 8, 8, 16)

    References:
        Liu et al., Deep Hyperspherical Learning, NIPS 2017.
        https://arxiv.org/abs/1711.03189
        Differs: an int `kernel_size` is refused, which Flax takes as one axis.
    """

    def __init__(
        self,
        in_features: int,
        out_features: int,
        kernel_size: Sequence[int],
        strides: int | Sequence[int] | None = 1,
        *,
        similarity: Similarity = ops.Cosine(),
        eps: float = 1e-2,
        is_input_stored: bool = False,
        rngs: nnx.Rngs,
        **conv_arguments: Any,
    ):
        super().__init__(
            in_features,
            out_features,
            kernel_size,
            strides,
            similarity=similarity,
            eps=eps,
            is_input_stored=is_input_stored,
            rngs=rngs,
            **conv_arguments,
        )
