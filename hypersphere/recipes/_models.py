"""Networks by name."""

import abc
import dataclasses
import functools
import math
from collections.abc import Callable
from typing import Any

import jax
import jax.numpy as jnp
from flax import nnx

from hypersphere import models, nn, ops
from hypersphere.ops import magnitudes
from hypersphere.training.settings import ModelConfig, TrainConfig, number, option

DTYPES = {"float32": jnp.float32, "bfloat16": jnp.bfloat16}

SIMILARITIES: dict[str, Callable[[float], Any]] = {
    "cosine": lambda k: ops.Cosine(),
    "linear": lambda k: ops.Linear(),
    "sigmoid": ops.Sigmoid,
    "learnable_sigmoid": lambda k: nn.LearnableSigmoid,
    "none": lambda k: None,
}
"""Softness -> the similarity of convolutions; None for plain ones."""

MAGNITUDES: dict[str, Callable[[], Any]] = {
    "": lambda: None,
    "sphere": magnitudes.Sphere,
    "linear": magnitudes.Linear,
    "ball": magnitudes.Ball,
    "tanh": magnitudes.Tanh,
    "log": magnitudes.Log,
    "segment": magnitudes.Segment,
    "mix": magnitudes.Mix,
}


KERNEL_INITS: dict[str, Callable[..., Any]] = {
    "he": models.KERNEL_INIT,
    "orthogonal": jax.nn.initializers.orthogonal(math.sqrt(2)),
}
"""How filters begin; orthogonal ones are orthogonal to one another while they fit."""


@dataclasses.dataclass(kw_only=True)
class _Network(ModelConfig):
    """What all networks of `hypersphere.models` share.

    Args:
        width: What every number of filters is multiplied by, positive.
        similarity: `cosine`, `linear`, `sigmoid`, `learnable_sigmoid`, or `none` for
            plain convolutions.
        k: Softness of the sigmoid, dimensionless, positive.
        sphere_norm: Whether convolutions have a learned scale and shift per filter.
        use_length: Whether they also learn, per filter, how much lengths count.
        magnitude: How the length of a patch counts, which makes decoupled convolutions:
            `sphere`, `linear`, `ball`, `tanh`, `log`, `segment` or `mix`; empty for
            not at all.
        relu: Whether convolutions are followed by a ReLU.
        averages: How running averages begin: `flax`, `zero` or `debiased`.
        momentum: Share of the running averages that a step keeps, in [0, 1).
        epsilon: What batch normalization adds to the variance, positive.
        dropout: Share of the features that a training step drops, in [0, 1).
        kernel_init: How filters begin: `he`, normal numbers, or `orthogonal`.
        batch_norm: Whether convolutions are followed by batch normalization.
        remat: Whether the backward pass computes each layer again instead of keeping
            what is inside it.
        dtype: What to compute in: `float32` or `bfloat16`. Parameters are float32.
    """

    width: float = number(1.0, 0, ends="()")
    similarity: str = option("cosine", SIMILARITIES)
    k: float = number(0.3, 0, ends="()")
    sphere_norm: bool = False
    use_length: bool = False
    magnitude: str = option("", MAGNITUDES)
    relu: bool = True
    momentum: float = number(0.99, 0, 1, "[)")
    epsilon: float = number(1e-5, 0, ends="()")
    dropout: float = number(0.0, 0, 1, "[)")
    kernel_init: str = option("he", KERNEL_INITS)

    @abc.abstractmethod
    def _own(self) -> tuple[Callable[..., models.Network], dict[str, Any]]:
        """The class, and the arguments that other networks do not have."""

    def check(self) -> None:
        """Raises where a magnitude has nothing to act on."""
        if self.magnitude and self.similarity == "none":
            self._refuse("magnitude", "similarity")
        if self.magnitude and self.sphere_norm:
            self._refuse("magnitude", "sphere_norm")
        if self.use_length and not self.sphere_norm:
            self._refuse("use_length", "sphere_norm")

    def make(self, config: TrainConfig, images: Any) -> models.Network:
        """The network, with fresh parameters from `config.seed`.

        Args:
            config: Of the run; its loss says what the network ends with.
            images: The `training.Images` that it is for.

        Returns:
            A network for float images.

        Raises:
            ValueError: If the examples are no images with classes.
        """
        if len(images.image_shape) != 3 or not images.num_classes:
            raise ValueError(
                f"`config.model.name={self.name!r}` needs images of height, width and "
                f"channels, and classes, got examples of shape "
                f"{list(images.image_shape)} and {images.num_classes} classes. Give a "
                "model of your own in `get_parts`."
            )
        make, own = self._own()
        *image_size, in_features = images.image_shape
        shared = dict(
            num_classes=images.num_classes,
            similarity=SIMILARITIES[self.similarity](self.k),
            in_features=in_features,
            image_size=image_size,
            width=self.width,
            head=_head(config),
            norm=self._norm(),
            activation=models.relu if self.relu else None,
            sphere_norm=self.sphere_norm,
            use_length=self.use_length,
            magnitude=MAGNITUDES[self.magnitude](),
            dropout=self.dropout,
            remat=self.remat,
            kernel_init=KERNEL_INITS[self.kernel_init],
            dtype=DTYPES[self.dtype],
            rngs=nnx.Rngs(config.seed),
        )
        return make(**(shared | own))

    def _norm(self) -> Callable[..., nnx.Module] | None:
        if not self.batch_norm:
            return None
        averages: Any = self.averages  # any string: BatchNorm checks it
        return functools.partial(
            models.BatchNorm,
            averages=averages,
            momentum=self.momentum,
            epsilon=self.epsilon,
            dtype=DTYPES[self.dtype],
        )

    def _refuse(self, field: str, cause: str) -> None:
        raise ValueError(
            f"`config.model.{field}` has no effect with `config.model.{cause}="
            f"{getattr(self, cause)!r}`. Leave it at its default."
        )


def _head(config: TrainConfig) -> Any:
    """What a network ends with, as `models.SphereNet` takes it."""
    if config.loss.head != "angular":
        return config.loss.head
    head = config.head
    return functools.partial(
        nn.AngularHead,
        centres=head.centres,
        chunk=0 if head.level == "full" else head.chunk,
        shards=config.mesh.model,
        scale=head.scale or None,
        learn_scale=head.learn_scale,
        initial_length=head.initial_length or None,
        param_dtype=DTYPES[head.dtype],
    )


@dataclasses.dataclass(kw_only=True)
class SphereNet(_Network):
    """`models.SphereNet`; beside its own fields it has those of every network.

    Args:
        depth: Convolutions before the feature layer, a multiple of 3.
        norm_features: Whether the feature layer has batch normalization too.
        feature_dim: Length of the features, at least 2; 0 for the network's own.
    """

    depth: int = 9
    norm_features: bool = False
    feature_dim: int = number(0, 0)

    def check(self) -> None:
        """Raises where features have no angle, or are to be normalized by nothing."""
        super().check()
        if self.feature_dim == 1:
            raise ValueError(
                "`config.model.feature_dim` must be at least 2, or 0 for the network's "
                "own length: one number has no angle."
            )
        if self.norm_features and not self.batch_norm:
            self._refuse("norm_features", "batch_norm")

    def _own(self) -> tuple[Callable[..., models.Network], dict[str, Any]]:
        return models.SphereNet, dict(
            depth=self.depth,
            feature_dim=self.feature_dim or None,
            norm_features=self.norm_features,
        )


@dataclasses.dataclass(kw_only=True)
class ResNet(_Network):
    """`models.ResNet`; beside its own fields it has those of every network.

    Args:
        depth: 20, 32, 44, 56 or 110 for small images; 18, 34, 50, 101 or 152 for those
            of ImageNet.
        shortcut: Where a unit changes its shape: `projection` for a plain 1x1
            convolution, `spherical` for one like the others, `identity` for none.
        pre_activation: Whether units normalize and activate before each convolution
            instead of after it.
    """

    depth: int = 20
    shortcut: str = "projection"
    pre_activation: bool = False

    def _own(self) -> tuple[Callable[..., models.Network], dict[str, Any]]:
        return models.ResNet, dict(
            depth=self.depth,
            shortcut=self.shortcut,
            pre_activation=self.pre_activation,
        )


@dataclasses.dataclass(kw_only=True)
class VGG(_Network):
    """`models.VGG`; beside its own field it has those of every network.

    Args:
        depth: 11, 13, 16 or 19.
    """

    depth: int = 16

    def _own(self) -> tuple[Callable[..., models.Network], dict[str, Any]]:
        return models.VGG, dict(depth=self.depth)


@dataclasses.dataclass(kw_only=True)
class GoogLeNet(_Network):
    """`models.GoogLeNet`, with the fields of every network."""

    def _own(self) -> tuple[Callable[..., models.Network], dict[str, Any]]:
        return models.GoogLeNet, {}


@dataclasses.dataclass(kw_only=True)
class DecoupledResNet(_Network):
    """`models.DecoupledResNet`, with the fields of every network.

    The published one has the magnitude `tanh`. Its ReLU has a learned slope.
    """

    def _own(self) -> tuple[Callable[..., models.Network], dict[str, Any]]:
        activation = models.PReLU if self.relu else None
        return models.DecoupledResNet, dict(activation=activation)


MODELS: dict[str, type[ModelConfig]] = {
    "spherenet": SphereNet,
    "resnet": ResNet,
    "vgg": VGG,
    "googlenet": GoogLeNet,
    "decoupled_resnet": DecoupledResNet,
}
