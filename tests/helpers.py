"""What several tests share: tolerances, a gradient check, models at no cost."""

from collections.abc import Callable
from typing import Any

import jax
import jax.numpy as jnp
import numpy as np
from flax import nnx
from jax.test_util import check_grads

TOLERANCE = {
    "float64": dict(rtol=1e-10, atol=1e-10),
    "float32": dict(rtol=1e-5, atol=1e-6),
    "float16": dict(rtol=2e-3, atol=2e-3),
    "bfloat16": dict(rtol=2e-2, atol=2e-2),
}


def assert_close(actual, expected, dtype="float32"):
    actual = np.asarray(actual, np.float64)
    np.testing.assert_allclose(actual, expected, **TOLERANCE[dtype])


def check_gradients(function, *arguments, order=1):
    """Forward and reverse derivatives agree with finite differences."""
    compiled = jax.jit(function)
    wrapped = lambda *args: compiled(*map(jnp.asarray, args))  # noqa: E731
    check_grads(wrapped, arguments, order, atol=1e-2, rtol=1e-2, eps=1e-2)


def filled(make: Callable[[], Any], seed: int = 0) -> Any:
    """What `make` makes, with parameters drawn by NumPy, which compiles nothing.

    Kernels have the spread that keeps activations at about one, vectors are near what
    they start as; running averages and counts start where batch normalization has them.
    """
    draw = np.random.default_rng([20171103, seed])
    graphdef, state = nnx.split(nnx.eval_shape(make))
    flat = [
        (
            path,
            leaf.replace(jax.device_put(_start(path, leaf, draw).astype(leaf.dtype))),
        )
        for path, leaf in nnx.to_flat_state(state)
    ]
    return nnx.merge(graphdef, nnx.from_flat_state(flat))


def _start(path: tuple, leaf: nnx.Variable, draw: np.random.Generator) -> np.ndarray:
    name, shape = path[-1], leaf.shape
    if not isinstance(leaf, nnx.Param):
        return np.full(shape, float(name == "var"))
    noise = draw.standard_normal(shape)
    if len(shape) > 1:
        return noise * np.sqrt(2 * shape[-1] / noise.size)
    return {"scale": 1.0, "raw": 0.7}.get(name, 0.0) + 0.1 * noise


def respond(layer: Callable, *inputs: Any) -> Any:
    """A layer's answer, compiled once instead of operation by operation.

    What the layer would write, such as a running average, is forgotten.
    """
    graphdef, state = nnx.split(layer)
    return jax.jit(lambda state, *x: nnx.merge(graphdef, state)(*x))(state, *inputs)
