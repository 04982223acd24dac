"""An embedding network, trained by a loss on the pairs of a batch.

    python train.py --config=examples/pairs.py --workdir=runs/pairs

Each image is to be nearer to those of its class than to all others: the supervised
contrastive loss of Khosla et al., https://arxiv.org/abs/2004.11362, equation 2. The
network gives no scores of classes, so there is no accuracy; in its place comes how
often an image's nearest neighbour in the batch is of its class. Both depend on how many
images a batch has: an evaluation's has about as many, and 125 divides the 1,000 test
digits, so that none is filled up.
"""

import jax
import jax.numpy as jnp
from flax import nnx

from hypersphere import nn, ops, training

TEMPERATURE = 0.1


class Embedding(nnx.Module):
    """Images to unit vectors."""

    def __init__(self, channels: int, features: int = 32, *, rngs: nnx.Rngs):
        widths = (channels, 16, 32, 64)
        self.convs = nnx.List(
            nn.SphereConv(*pair, (3, 3), strides=2, rngs=rngs)
            for pair in zip(widths[:-1], widths[1:], strict=True)
        )
        self.norms = nnx.List(
            nnx.BatchNorm(width, momentum=0.9, rngs=rngs) for width in widths[1:]
        )
        self.last = nnx.Linear(widths[-1], features, rngs=rngs)

    def __call__(self, images: jax.Array) -> jax.Array:
        x = images
        for conv, norm in zip(self.convs, self.norms, strict=True):
            x = nnx.relu(norm(conv(x)))
        return ops.unit(self.last(x.mean((1, 2))), axis=-1, eps=1e-6)

    features = __call__


def similarities(
    embeddings: jax.Array, labels: jax.Array
) -> tuple[jax.Array, jax.Array]:
    """Cosines of all pairs, without those of an image with itself; who is of a kind."""
    itself = jnp.eye(len(labels), dtype=bool)
    cosines = jnp.where(itself, -jnp.inf, embeddings @ embeddings.T)
    return cosines, (labels[:, None] == labels) & ~itself


def contrastive(embeddings: jax.Array, labels: jax.Array, step: jax.Array) -> jax.Array:
    """Of each image, the mean over its kind; 0 for one that is alone of its class."""
    cosines, of_a_kind = similarities(embeddings, labels)
    log_shares = jax.nn.log_softmax(cosines / TEMPERATURE, axis=-1)
    total = jnp.sum(jnp.where(of_a_kind, log_shares, 0.0), axis=-1)
    return -total / jnp.maximum(of_a_kind.sum(-1), 1)


def nearest(embeddings: jax.Array, labels: jax.Array) -> dict[str, jax.Array]:
    """Whether the nearest other image of the batch is of the same class."""
    cosines, _ = similarities(embeddings, labels)
    return {"nearest": labels[jnp.argmax(cosines, axis=-1)] == labels}


def get_config() -> training.TrainConfig:
    config = training.TrainConfig(steps=400, batch_size=128, eval_batch_size=125)
    config.log_every, config.eval_every, config.checkpoint_every = 50, 200, 200
    return config


def get_parts(config: training.TrainConfig, images: training.Images) -> training.Parts:
    channels, rngs_of = images.image_shape[-1], nnx.Rngs
    return training.Parts(
        make_model=lambda: Embedding(channels, rngs=rngs_of(config.seed)),
        loss=contrastive,
        evaluate=nearest,
    )
