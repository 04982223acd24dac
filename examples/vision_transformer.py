"""A Vision Transformer of one's own, its dense layers made spherical by `spherize`.

    python train.py --config=examples/vision_transformer.py --workdir=runs/vit

The network is plain Flax NNX and knows nothing of this package. It has dropout, whose
random numbers the training program draws anew for every step.
"""

import jax
from flax import nnx

from hypersphere import nn, ops, training


class Block(nnx.Module):
    """Attention and a perceptron, each added to its normalized input."""

    def __init__(self, features: int, *, rngs: nnx.Rngs):
        self.norm1 = nnx.LayerNorm(features, rngs=rngs)
        self.attention = nnx.MultiHeadAttention(
            4, features, decode=False, dropout_rate=0.1, rngs=rngs
        )
        self.norm2 = nnx.LayerNorm(features, rngs=rngs)
        self.rise = nnx.Linear(features, 2 * features, rngs=rngs)
        self.fall = nnx.Linear(2 * features, features, rngs=rngs)
        self.dropout = nnx.Dropout(0.1, rngs=rngs)

    def __call__(self, x: jax.Array) -> jax.Array:
        x = x + self.dropout(self.attention(self.norm1(x)))
        return x + self.dropout(self.fall(nnx.gelu(self.rise(self.norm2(x)))))


class VisionTransformer(nnx.Module):
    """Patches of an image as tokens; the scores of classes from their mean."""

    def __init__(
        self,
        image_shape: tuple[int, ...],
        num_classes: int,
        *,
        patch: int = 4,
        features: int = 64,
        depth: int = 3,
        rngs: nnx.Rngs,
    ):
        height, width, channels = image_shape
        window = (patch, patch)
        self.embed = nnx.Conv(channels, features, window, strides=window, rngs=rngs)
        tokens = (height // patch) * (width // patch)
        self.position = nnx.Param(
            nnx.initializers.normal(0.02)(rngs.params(), (tokens, features))
        )
        self.blocks = nnx.List(Block(features, rngs=rngs) for _ in range(depth))
        self.norm = nnx.LayerNorm(features, rngs=rngs)
        self.head = nnx.Linear(features, num_classes, rngs=rngs)

    def features(self, images: jax.Array) -> jax.Array:
        """What the head sees."""
        x = self.embed(images)
        x = x.reshape(x.shape[0], -1, x.shape[-1]) + self.position[...][None]
        for block in self.blocks:
            x = block(x)
        return self.norm(x).mean(1)

    def __call__(self, images: jax.Array) -> jax.Array:
        return self.head(self.features(images))


def get_config() -> training.TrainConfig:
    config = training.TrainConfig(steps=600, batch_size=64, eval_batch_size=250)
    config.log_every, config.eval_every, config.checkpoint_every = 50, 200, 200
    config.optim.learning_rate = 1e-3
    config.optim.schedule, config.optim.warmup = "cosine", "10%"
    return config


def get_parts(config: training.TrainConfig, images: training.Images) -> training.Parts:
    def make_model() -> nnx.Module:
        rngs = nnx.Rngs(config.seed)
        plain = VisionTransformer(images.image_shape, images.num_classes, rngs=rngs)
        where = ("blocks.*.rise", "blocks.*.fall")
        return nn.spherize(plain, where=where, similarity=ops.Linear())

    return training.Parts(make_model=make_model)
