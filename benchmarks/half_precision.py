"""g on the rounded product or on the float32 accumulator: error, time, memory, as JSON.

python benchmarks/half_precision.py
python benchmarks/half_precision.py --batch=256 --rounds=100   # on a GPU
"""

import argparse
import json
from typing import Any

import jax
import jax.numpy as jnp
import numpy as np
from _measure import Candidate, compare, setting

from hypersphere import ops

SIMILARITIES = {
    "cosine": ops.Cosine(),
    "linear": ops.Linear(),
    "sigmoid": ops.Sigmoid(),
}


def near_poles(
    generator: np.random.Generator, shape: tuple[int, ...], filters: int
) -> tuple[np.ndarray, np.ndarray]:
    """Vectors at all angles to one filter or another, many near 0 and pi."""
    kernel = generator.standard_normal((shape[-1], filters))
    noise = generator.standard_normal(shape)
    share = 10.0 ** generator.uniform(-3, 1, (*shape[:-1], 1))
    sign = generator.choice([-1, 1], (*shape[:-1], 1))
    chosen = kernel.T[generator.integers(0, filters, shape[:-1])]
    return sign * chosen + share * noise, kernel


def errors(dtype: Any) -> list[dict[str, Any]]:
    """The largest error of each way, in units of one rounding of the true answer."""
    x, kernel = near_poles(np.random.default_rng(0), (4096, 576), 64)
    x, kernel = jnp.asarray(x, dtype), jnp.asarray(kernel, dtype)
    wide = np.asarray(x, np.float64), np.asarray(kernel, np.float64)
    lengths = [
        np.sqrt(np.sum(a**2, axis=axis, keepdims=True) + 1e-4)
        for a, axis in zip(wide, (1, 0), strict=True)
    ]
    cos = np.clip(wide[0] @ wide[1] / lengths[0] / lengths[1], -1, 1)
    latitude = np.arcsin(cos)
    truths = {
        "cosine": cos,
        "linear": latitude * 2 / np.pi,
        "sigmoid": np.tanh(latitude / 0.6) / np.tanh(np.pi / 1.2),
    }
    rows = []
    for name, similarity in SIMILARITIES.items():
        truth = truths[name]
        once = np.abs(np.asarray(jnp.asarray(truth, dtype), np.float64) - truth).max()
        row: dict[str, Any] = {"dtype": jnp.dtype(dtype).name, "similarity": name}
        for way, preferred in (("rounded", None), ("accumulator", jnp.float32)):
            answer = ops.sphere_dense(
                x, kernel, similarity=similarity, preferred_element_type=preferred
            ).astype(dtype)
            error = np.abs(np.asarray(answer, np.float64) - truth).max()
            row[f"{way}_error_in_roundings"] = round(float(error / once), 2)
        rows.append(row)
    return rows


def costs(batch: int, dtype: Any, rounds: int) -> list[dict[str, Any]]:
    """A training step of one 3x3 layer either way, relative to the rounded product."""
    generator = np.random.default_rng(0)

    def draw(*shape: int) -> jax.Array:
        return jnp.asarray(generator.standard_normal(shape, np.float32), dtype)

    arguments = draw(batch, 32, 32, 128), draw(3, 3, 128, 128), draw(batch, 32, 32, 128)
    rows = []
    for name, similarity in SIMILARITIES.items():

        def step(preferred, similarity=similarity):
            def total(x, kernel, ct):
                answer = ops.sphere_conv(
                    x,
                    kernel,
                    similarity=similarity,
                    preferred_element_type=preferred,
                ).astype(ct.dtype)
                return jnp.vdot(answer, ct).astype(jnp.float32)

            return jax.grad(total, (0, 1))

        ways = {"rounded": None, "accumulator": jnp.float32}
        compared = compare(
            [Candidate(way, step(wide), arguments) for way, wide in ways.items()],
            rounds=rounds,
        )
        rows += [
            {"dtype": jnp.dtype(dtype).name, "similarity": name, **row}
            for row in compared
        ]
    return rows


def main() -> None:
    """Prints errors and costs."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--batch", type=int, default=16)
    parser.add_argument("--rounds", type=int, default=15)
    options = parser.parse_args()
    result = {
        **setting(**vars(options)),
        "errors": [
            row for dtype in (jnp.bfloat16, jnp.float16) for row in errors(dtype)
        ],
        "costs": costs(options.batch, jnp.bfloat16, options.rounds),
    }
    print(json.dumps(result, indent=2))


if __name__ == "__main__":
    main()
