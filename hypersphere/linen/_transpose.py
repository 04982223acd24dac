"""The transposed convolution layer: Flax's, with an answer in angles."""

from typing import Any

import jax.numpy as jnp
from flax import linen
from flax.linen.linear import canonicalize_padding
from jaxtyping import Array, Float

from hypersphere import ops
from hypersphere._checks import check_kernel_size, check_mask, check_positive
from hypersphere.linen._product import check_inputs
from hypersphere.linen._similarity import (
    Similarity,
    check_similarity,
    make_similarity,
)


class SphereConvTranspose(linen.ConvTranspose, kw_only=True):
    """`linen.ConvTranspose` that answers with the angle between filter and patch.

    A shell around `ops.sphere_conv_transpose`; the bias, if there is one, is added to
    the response.

    Args:
        features: Number of filters.
        kernel_size: The window, one entry per spatial axis.
        similarity: The function g from cosines in [-1, 1] to responses, or a module
            class such as `linen.LearnableSigmoid`, as for `linen.SphereConv`.
        eps: The smallest length that counts, in the units of the input; positive.
        conv_arguments: Every other argument of `linen.ConvTranspose`, with its meaning
            and default: strides, padding, kernel_dilation, use_bias, mask, dtype,
            param_dtype, precision, kernel_init, bias_init, transpose_kernel,
            promote_dtype, preferred_element_type, name, parent.

    Raises:
        TypeError: If `kernel_size` is an int or `similarity` is not callable.
        ValueError: If `eps` is not positive, or at a call, if the input has other
            features than the kernel or the mask another shape.

    Example:
        >>> import jax
        >>> import jax.numpy as jnp
        >>> from hypersphere import linen
        >>> layer = linen.SphereConvTranspose(8, (3, 3), strides=(2, 2))
        >>> x = jnp.ones((1, 4, 4, 3))
        >>> layer.apply(layer.init(jax.random.key(0), x), x).shape
        (1, 8, 8, 8)

    References:
        Liu et al., Deep Hyperspherical Learning, NIPS 2017.
        https://arxiv.org/abs/1711.03189
        Differs: an int `kernel_size` is refused, which Flax takes as one axis. The
        paper has no transposed convolution.
    """

    __no_type_check__ = True  # of Flax's fields, whose annotations are not for that

    similarity: Similarity = ops.Cosine()
    eps: float = 1e-2

    def __post_init__(self):
        check_positive("SphereConvTranspose", eps=self.eps)
        check_kernel_size("SphereConvTranspose", self.kernel_size)
        check_similarity("SphereConvTranspose", self.similarity)
        super().__post_init__()

    @linen.compact
    def __call__(self, inputs: Float[Array, "..."]) -> Float[Array, "..."]:
        """Responses to inputs (*batch, *spatial, in_features)."""
        axis = -1 if self.transpose_kernel else -2
        check_inputs("SphereConvTranspose", self, inputs, axis=axis)
        # Flax has no hook here, as it has in `Conv`.
        promoted: Any = self.promote_dtype(
            inputs, *self._parameters(inputs.shape[-1]), dtype=self.dtype
        )
        inputs, kernel, bias = promoted
        answer = ops.sphere_conv_transpose(
            inputs,
            kernel,
            similarity=make_similarity(self.similarity, self.features),
            strides=self.strides or 1,
            padding=canonicalize_padding(self.padding, kernel.ndim - 2),
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

    def _parameters(self, in_features: int) -> tuple[Array, Array | None]:
        """The kernel, masked, and the bias."""
        channels = (in_features, self.features)
        if self.transpose_kernel:
            channels = channels[::-1]
        window = check_kernel_size("SphereConvTranspose", self.kernel_size)
        shape = (*window, *channels)
        kernel = self.param("kernel", self.kernel_init, shape, self.param_dtype)
        if self.mask is not None:
            check_mask("SphereConvTranspose", self.mask.shape, shape)
            kernel = kernel * self.mask
        if not self.use_bias:
            return kernel, None
        shape = (self.features,)
        return kernel, self.param("bias", self.bias_init, shape, self.param_dtype)
