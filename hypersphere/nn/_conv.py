"""Convolution layers: Flax's, with an answer in angles."""

from collections.abc import Sequence
from typing import Any

from flax import nnx
from jaxtyping import Array, Float

from hypersphere import ops
from hypersphere._checks import (
    check_features,
    check_groups,
    check_kernel_size,
    check_positive,
)
from hypersphere.nn._similarity import Similarity, make_similarity


class SphereConv(nnx.Conv):
    """`nnx.Conv` that answers with the angle between each filter and each patch.

    A shell around `ops.sphere_conv_general_dilated`; the bias, if there is one, is
    added to the response.

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
        rngs: nnx.Rngs,
        **conv_arguments: Any,
    ):
        groups = conv_arguments.get("feature_group_count", 1)
        check_groups("SphereConv", groups, in_features, out_features)
        check_positive("SphereConv", eps=eps)
        super().__init__(
            in_features,
            out_features,
            check_kernel_size("SphereConv", kernel_size),
            strides,
            rngs=rngs,
            **conv_arguments,
        )
        self.similarity = make_similarity("SphereConv", similarity, out_features, rngs)
        self.eps = eps
        # Flax calls `self.conv_general_dilated`; an attribute of the instance would
        # hide the method below. A method, and not a function that holds the
        # similarity, keeps a learned similarity's parameters in the layer's state.
        self.dot_products = self.conv_general_dilated
        del self.conv_general_dilated

    def __call__(
        self, inputs: Float[Array, "..."], *args: Any, **kwargs: Any
    ) -> Float[Array, "..."]:
        """Responses to inputs (*batch, *spatial, in_features), as `nnx.Conv`."""
        check_features("SphereConv", inputs.shape, self.in_features)
        return super().__call__(inputs, *args, **kwargs)

    def conv_general_dilated(self, *args: Any, **kwargs: Any) -> Array:
        """What Flax calls in place of `lax.conv_general_dilated`."""
        return ops.sphere_conv_general_dilated(
            *args,
            **kwargs,
            similarity=self.similarity,
            eps=self.eps,
            mask=self.mask,
            conv_general_dilated=self.dot_products,
        )
