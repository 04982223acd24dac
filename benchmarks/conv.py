"""One layer with BatchNorm and ReLU, spherical against plain, as JSON.

python benchmarks/conv.py
python benchmarks/conv.py --batch=256 --dtypes bfloat16 --rounds=100   # on a GPU
"""

import argparse
import functools
import json
from collections.abc import Callable
from typing import Any

import jax
import jax.numpy as jnp
import numpy as np
from _measure import Candidate, compare, setting
from _step import SIMILARITIES
from flax import nnx

from hypersphere import nn

# Height and width, window, features in and out.
SHAPES = {
    "3x3, 64 features": (32, 3, 64, 64),
    "3x3, 128 features": (32, 3, 128, 128),
    "3x3, 256 features": (8, 3, 256, 256),
    "first layer": (32, 3, 3, 128),
    "1x1": (16, 1, 256, 256),
}


class Block(nnx.Module):
    """What the layer is measured in."""

    def __init__(self, conv: Any, features: int, dtype: Any):
        self.conv = conv
        self.norm = nnx.BatchNorm(features, dtype=dtype, rngs=nnx.Rngs(0))

    def __call__(self, x: jax.Array) -> jax.Array:
        """As in a network."""
        return jax.nn.relu(self.norm(self.conv(x)))


def forward(graphdef: Any, params: Any, rest: Any, x: jax.Array) -> Any:
    """The answer, and the batch statistics."""
    block = nnx.merge(graphdef, params, rest, copy=True)
    return block(x), nnx.state(block, nnx.BatchStat)


def train(graphdef: Any, params: Any, rest: Any, x: jax.Array, ct: jax.Array) -> Any:
    """The gradients to parameters and input."""

    def total(params, x):
        answer, after = forward(graphdef, params, rest, x)
        return jnp.vdot(answer, ct).astype(jnp.float32), after

    return jax.grad(total, (0, 1), has_aux=True)(params, x)


def candidates(
    shape: tuple[int, int, int, int], batch: int, dtype: Any
) -> tuple[list[Candidate], list[Candidate]]:
    """Forward passes and training steps, one of each per similarity."""
    size, window, inputs, outputs = shape
    generator = np.random.default_rng(0)

    def draw(features: int) -> jax.Array:
        values = generator.standard_normal((batch, size, size, features), np.float32)
        return jnp.asarray(values, dtype)

    x, ct = draw(inputs), draw(outputs)
    passes, steps = [], []
    for name, similarity in SIMILARITIES.items():
        make: Callable[..., Any] = nnx.Conv
        if similarity is not None:
            make = functools.partial(nn.SphereConv, similarity=similarity)
        conv = make(
            inputs,
            outputs,
            (window, window),
            use_bias=False,
            dtype=dtype,
            rngs=nnx.Rngs(0),
        )
        graphdef, params, rest = nnx.split(Block(conv, outputs, dtype), nnx.Param, ...)
        passes.append(
            Candidate(name, functools.partial(forward, graphdef), (params, rest, x))
        )
        steps.append(
            Candidate(name, functools.partial(train, graphdef), (params, rest, x, ct))
        )
    return passes, steps


def main() -> None:
    """Prints one row per shape, dtype, pass and similarity."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--batch", type=int, default=16)
    parser.add_argument("--dtypes", nargs="+", default=["float32", "bfloat16"])
    parser.add_argument("--shapes", nargs="+", default=list(SHAPES), choices=SHAPES)
    parser.add_argument("--rounds", type=int, default=15)
    options = parser.parse_args()
    rows = []
    for dtype in options.dtypes:
        for shape in options.shapes:
            both = candidates(SHAPES[shape], options.batch, jnp.dtype(dtype))
            for kind, compared in zip(("forward", "training"), both, strict=True):
                for row in compare(compared, rounds=options.rounds):
                    rows.append({"shape": shape, "dtype": dtype, "pass": kind, **row})
    print(json.dumps({**setting(**vars(options)), "rows": rows}, indent=2))


if __name__ == "__main__":
    main()
