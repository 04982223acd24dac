"""A training step of SphereNet, spherical against plain, as JSON.

python benchmarks/train_step.py
python benchmarks/train_step.py --batch=128 --dtype=bfloat16 --rounds=50   # on a GPU
"""

import argparse
import json

import jax
import jax.numpy as jnp
import numpy as np
from _measure import Candidate, compare, setting
from _step import SIMILARITIES, make_step
from flax import nnx

from hypersphere import models


def candidate(name: str, options: argparse.Namespace) -> Candidate:
    """One training step: loss, gradient, momentum SGD, batch statistics."""
    net = models.SphereNet(
        depth=options.depth,
        width=options.width,
        similarity=SIMILARITIES[name],
        dtype=jnp.dtype(options.dtype),
        rngs=nnx.Rngs(0),
    )
    step, state = make_step(net)
    generator = np.random.default_rng(0)
    images = generator.standard_normal((options.batch, 32, 32, 3), np.float32)
    labels = generator.integers(0, 10, options.batch)
    return Candidate(name, step, jax.device_put((*state, images, labels)))


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
