"""A training step of SphereNet, spherical against plain, as JSON.

python benchmarks/train_step.py
python benchmarks/train_step.py --batch=128 --dtype=bfloat16 --rounds=50   # on a GPU
"""

import argparse
import json

import jax
import jax.numpy as jnp
import numpy as np
import optax
from _measure import Candidate, compare, setting
from flax import nnx

from hypersphere import models, nn, ops

SIMILARITIES = {
    "plain": None,
    "cosine": ops.Cosine(),
    "linear": ops.Linear(),
    "sigmoid": ops.Sigmoid(),
    "learnable sigmoid": nn.LearnableSigmoid,
}


def candidate(name: str, options: argparse.Namespace) -> Candidate:
    """One training step: loss, gradient, momentum SGD, batch statistics."""
    net = models.SphereNet(
        depth=options.depth,
        width=options.width,
        similarity=SIMILARITIES[name],
        dtype=jnp.dtype(options.dtype),
        rngs=nnx.Rngs(0),
    )
    graphdef, params, rest = nnx.split(net, nnx.Param, ...)
    optimizer = optax.sgd(0.1, momentum=0.9)

    def step(params, momentum, rest, images, labels):
        def loss(params):
            model = nnx.merge(graphdef, params, rest, copy=True)
            entropy = optax.softmax_cross_entropy_with_integer_labels
            value = entropy(model(images), labels).mean()
            return value, nnx.state(model, nnx.Not(nnx.Param))

        (value, after), slopes = jax.value_and_grad(loss, has_aux=True)(params)
        updates, momentum = optimizer.update(slopes, momentum)
        return optax.apply_updates(params, updates), momentum, after, value

    generator = np.random.default_rng(0)
    images = generator.standard_normal((options.batch, 32, 32, 3), np.float32)
    labels = generator.integers(0, 10, options.batch)
    inputs = (params, optimizer.init(params), rest, images, labels)
    return Candidate(name, step, jax.device_put(inputs))


def main() -> None:
    """Prints one row per similarity."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--depth", type=int, default=9)
    parser.add_argument("--width", type=float, default=1.0)
    parser.add_argument("--batch", type=int, default=16)
    parser.add_argument("--dtype", default="float32")
    parser.add_argument("--rounds", type=int, default=15)
    options = parser.parse_args()
    rows = compare(
        [candidate(name, options) for name in SIMILARITIES], rounds=options.rounds
    )
    print(json.dumps({**setting(**vars(options)), "rows": rows}, indent=2))


if __name__ == "__main__":
    main()
