"""The transposed convolution layer: Flax's, with an answer in angles."""

from collections.abc import Sequence
from typing import Any

import jax.numpy as jnp
from flax import nnx
from flax.nnx.nn.linear import canonicalize_padding
from jaxtyping import Array, Float

from hypersphere import ops
from hypersphere._checks import (
    check_features,
    check_kernel_size,
    check_mask,
    check_positive,
)
from hypersphere.nn._signature import shows_arguments_of
from hypersphere.nn._similarity import Similarity, make_similarity


@shows_arguments_of(nnx.ConvTranspose)
class SphereConvTranspose(nnx.ConvTranspose):
    """`nnx.ConvTranspose` that answers with the angle between filter and patch.

    A shell around `ops.sphere_conv_transpose`; the bias, if there is one, is added to
    the response.

    Args:
        in_features: Features of the input, on its last axis.
        out_features: Number of filters.
        kernel_size: The window, one entry per spatial axis.
        strides: What every side of the input is multiplied by.
        similarity: The function g from cosines in [-1, 1] to responses, or a module
            class such as `nn.LearnableSigmoid`, which is instantiated.
        eps: The smallest length that counts, in the units of the input; positive.
        rngs: Random keys for the parameters.
        conv_arguments: Every other argument of `nnx.ConvTranspose`, with its meaning
            and default: padding, kernel_dilation, use_bias, mask, dtype, param_dtype,
            precision, kernel_init, bias_init, transpose_kernel, promote_dtype,
            preferred_element_type, kernel_metadata, bias_metadata.

    Raises:
        TypeError: If `kernel_size` is an int or `similarity` is not callable.
        ValueError: If `eps` is not positive, or the input of a call has other features
            than `in_features`.

    Example:
        >>> import jax.numpy as jnp
        >>> from flax import nnx
        >>> from hypersphere import nn
        >>> layer = nn.SphereConvTranspose(3, 8, (3, 3), strides=2, rngs=nnx.Rngs(0))
        >>> layer(jnp.ones((1, 4, 4, 3))).shape
        (1, 8, 8, 8)

    References:
        Liu et al., Deep Hyperspherical Learning, NIPS 2017.
        https://arxiv.org/abs/1711.03189
        Differs: an int `kernel_size` is refused, which Flax takes as one axis. The
        paper has no transposed convolution.
    """

    def __init__(
        self,
        in_features: int,
        out_features: int,
        kernel_size: Sequence[int],
        strides: int | Sequence[int] | None = None,
        *,
        similarity: Similarity = ops.Cosine(),
        eps: float = 1e-2,
        rngs: nnx.Rngs,
        **conv_arguments: Any,
    ):
        check_positive("SphereConvTranspose", eps=eps)
        super().__init__(
            in_features,
            out_features,
            check_kernel_size("SphereConvTranspose", kernel_size),
            strides,
            rngs=rngs,
            **conv_arguments,
        )
        if self.mask is not None:
            check_mask("SphereConvTranspose", self.mask.shape, self.kernel_shape)
        self.similarity = make_similarity(
            "SphereConvTranspose", similarity, out_features, rngs
        )
        self.eps = eps

    @property
    def directions(self) -> tuple[str, ...]:
        """The parameters whose filters may have any length; see `nn.directions`."""
        return () if self.transpose_kernel else ("kernel",)

    def __call__(self, inputs: Float[Array, "..."]) -> Float[Array, "..."]:
        """Responses to inputs (*batch, *spatial, in_features)."""
        check_features("SphereConvTranspose", inputs.shape, self.in_features)
        # Flax has no hook here, as it has in `Conv`.
        kernel = self.kernel[...]
        if self.mask is not None:
            kernel = kernel * self.mask
        bias = None if self.bias is None else self.bias[...]
        inputs, kernel, bias = self.promote_dtype(
            (inputs, kernel, bias), dtype=self.dtype
        )
        answer = ops.sphere_conv_transpose(
            inputs,
            kernel,
            similarity=self.similarity,
            strides=self.strides or 1,
            padding=canonicalize_padding(self.padding, len(self.kernel_size)),
            kernel_dilation=self.kernel_dilation or 1,
            transpose_kernel=self.transpose_kernel,
            eps=self.eps,
            mask=self.mask,
            precision=self.precision,
            preferred_element_type=self.preferred_element_type,
        )
        if bias is None:
            return answer
        return answer + jnp.reshape(bias, (1,) * (answer.ndim - 1) + (-1,))
