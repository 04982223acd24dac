"""The last layer before an angular loss."""

import dataclasses
import math
from typing import Any

import jax.numpy as jnp
from flax import linen
from jaxtyping import Array, Float

from hypersphere import ops
from hypersphere._class_centres import check_head, columns, padded
from hypersphere.linen._product import check_inputs


class AngularHead(linen.Module):
    """The last layer before an angular loss: cosines to class centres, and a norm.

    The twin of `nn.AngularHead`, which says more of each argument.

    Args:
        num_classes: Number of classes.
        centres: Centres per class, of which the nearest counts.
        chunk: Classes that are looked at together; 0 for all.
        shards: Over how many devices the kernel's columns are divided.
        scale: What is returned in place of the input's length; None for the length.
        learn_scale: Whether the scale is learned.
        initial_length: Of the centres; None leaves it to `kernel_init`.
        eps: The smallest length that counts, in the units of the input; positive.
        kernel_init: How class centres start.
        param_dtype: The dtype of the class centres.

    Raises:
        ValueError: If a number is out of its range, the scale is to be learned and is
            none, or the input of a call has other features than the kernel.

    Example:
        >>> import jax
        >>> import jax.numpy as jnp
        >>> from hypersphere import linen, losses
        >>> head, x = linen.AngularHead(3), jnp.ones((2, 5))
        >>> cos, feature_norm = head.apply(head.init(jax.random.key(0), x), x)
        >>> cos.shape, feature_norm.shape
        ((2, 3), (2, 1))
        >>> losses.w_softmax(cos, jnp.array([0, 2]), feature_norm=feature_norm).shape
        (2,)

    References:
        Liu et al., Deep Hyperspherical Learning, NIPS 2017
        https://arxiv.org/abs/1711.03189
        Deng et al., Sub-center ArcFace, ECCV 2020, for several centres.
    """

    num_classes: int
    _: dataclasses.KW_ONLY
    centres: int = 1
    chunk: int = 0
    shards: int = 1
    scale: float | None = None
    learn_scale: bool = False
    initial_length: float | None = None
    eps: float = 1e-2
    kernel_init: linen.initializers.Initializer = linen.initializers.lecun_normal()
    param_dtype: Any = jnp.float32

    def __post_init__(self):
        check_head(
            "AngularHead",
            num_classes=self.num_classes,
            centres=self.centres,
            shards=self.shards,
            chunk=self.chunk,
            eps=self.eps,
            initial_length=self.initial_length,
            scale=self.scale,
            learn_scale=self.learn_scale,
        )
        super().__post_init__()

    @linen.compact
    def __call__(
        self, inputs: Float[Array, "*batch in_features"]
    ) -> tuple[
        Float[Array, "*batch num_classes"] | ops.ChunkedCosines,
        Float[Array, "*batch 1"],
    ]:
        """Cosines in [-1, 1], and the length of the input in its own units.

        Both are at least float32, whatever the input; `cos * feature_norm` is the dot
        product of the input with the unit class centres. A scale takes the place of the
        length.
        """
        check_inputs("AngularHead", self, inputs)
        count = self.num_classes * self.centres
        init = padded(self.kernel_init, count, self.initial_length)
        shape = (
            inputs.shape[-1],
            columns(self.num_classes, self.centres, self.shards),
        )
        cos, length = ops.angular_head(
            inputs,
            self.param("kernel", init, shape, self.param_dtype),
            num_classes=self.num_classes,
            centres=self.centres,
            shards=self.shards,
            chunk=self.chunk,
            eps=self.eps,
        )
        if self.scale is None:
            return cos, length
        scale = self.scale
        if self.learn_scale:
            start = linen.initializers.constant(math.log(scale))
            scale = jnp.exp(self.param("log_scale", start, (), jnp.float32))
        return cos, jnp.full_like(length, scale)
