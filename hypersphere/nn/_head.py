"""The last layer before an angular loss."""

import math
from typing import Any

import jax.numpy as jnp
from flax import nnx
from flax.nnx.nn.linear import default_kernel_init
from jaxtyping import Array, Float

from hypersphere import ops
from hypersphere._checks import check_features
from hypersphere._class_centres import check_head, columns, padded


class AngularHead(nnx.Module):
    """The last layer before an angular loss: cosines to class centres, and a norm.

    Args:
        in_features: Features of the input, on its last axis.
        num_classes: Number of classes.
        centres: Centres per class, of which the nearest counts; more than one for sets
            with wrong labels, see `losses.subcentre_outliers`.
        chunk: Classes that are looked at together; 0 for all. With a chunk, cosines are
            `ops.ChunkedCosines`: memory does not grow with the classes but for the
            centres themselves and their gradient. See `losses` for those that can.
        shards: Over how many devices the kernel's columns are divided. Columns are
            added until these divide them; they are no classes, and get no gradient.
        scale: What is returned in place of the input's length; None for the length.
        learn_scale: Whether the scale is learned: `exp(log_scale)`.
        initial_length: Of the centres, well above `eps`; None leaves it to
            `kernel_init`. The longer they are the slower they turn: a step of gradient
            descent turns a centre by an angle that falls with the square of its length,
            one of Adam with its length.
        eps: The smallest length that counts, in the units of the input; positive.
        kernel_init: How class centres start; only their directions matter, but for what
            `initial_length` says.
        param_dtype: The dtype of the class centres; half of one halves their memory,
            and is computed with in float32.
        rngs: Random keys for the parameters.

    Raises:
        ValueError: If a number is out of its range, the scale is to be learned and is
            none, or the input of a call has other features than `in_features`.

    Example:
        >>> import jax.numpy as jnp
        >>> from flax import nnx
        >>> from hypersphere import losses, nn
        >>> head = nn.AngularHead(5, 3, rngs=nnx.Rngs(0))
        >>> cos, feature_norm = head(jnp.ones((2, 5)))
        >>> cos.shape, feature_norm.shape
        ((2, 3), (2, 1))
        >>> losses.w_softmax(cos, jnp.array([0, 2]), feature_norm=feature_norm).shape
        (2,)
        >>> head = nn.AngularHead(5, 10_000, chunk=1000, rngs=nnx.Rngs(0))
        >>> losses.arcface(head(jnp.ones((2, 5)))[0], jnp.array([0, 2])).shape
        (2,)

    References:
        Liu et al., Deep Hyperspherical Learning, NIPS 2017
        https://arxiv.org/abs/1711.03189
        Deng et al., Sub-center ArcFace, ECCV 2020, for several centres.
    """

    def __init__(
        self,
        in_features: int,
        num_classes: int,
        *,
        centres: int = 1,
        chunk: int = 0,
        shards: int = 1,
        scale: float | None = None,
        learn_scale: bool = False,
        initial_length: float | None = None,
        eps: float = 1e-2,
        kernel_init: nnx.Initializer = default_kernel_init,
        param_dtype: Any = jnp.float32,
        rngs: nnx.Rngs,
    ):
        check_head(
            "AngularHead",
            num_classes=num_classes,
            centres=centres,
            shards=shards,
            chunk=chunk,
            eps=eps,
            initial_length=initial_length,
            scale=scale,
            learn_scale=learn_scale,
        )
        init = padded(kernel_init, num_classes * centres, initial_length)
        shape = (in_features, columns(num_classes, centres, shards))
        self.kernel = nnx.Param(init(rngs.params(), shape, param_dtype))
        if learn_scale:
            self.log_scale = nnx.Param(jnp.full((), math.log(scale or 1), jnp.float32))
        self.scale = scale
        self.learn_scale = learn_scale
        self.in_features = in_features
        self.num_classes = num_classes
        self.centres = centres
        self.chunk = chunk
        self.shards = shards
        self.eps = eps

    @property
    def class_centres(self) -> Float[Array, "in_features centres"]:
        """The columns of the kernel that are class centres: all but padding."""
        return self.kernel[...][:, : self.num_classes * self.centres]

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
        check_features("AngularHead", inputs.shape, self.in_features)
        cos, length = ops.angular_head(
            inputs,
            self.kernel[...],
            num_classes=self.num_classes,
            centres=self.centres,
            shards=self.shards,
            chunk=self.chunk,
            eps=self.eps,
        )
        if self.scale is None:
            return cos, length
        scale = jnp.exp(self.log_scale[...]) if self.learn_scale else self.scale
        return cos, jnp.full_like(length, scale)
