"""What several tests share: tolerances, a gradient check, models at no cost."""

from collections.abc import Callable, Iterable, Mapping
from typing import Any

import chex
import jax
import numpy as np
import pytest
from flax import nnx

TOLERANCE = {
    "float64": dict(rtol=1e-10, atol=1e-10),
    "float32": dict(rtol=1e-5, atol=1e-6),
    "float16": dict(rtol=2e-3, atol=2e-3),
    "bfloat16": dict(rtol=2e-2, atol=2e-2),
}


def sampled(cases: Iterable[str], *fast: str) -> list[Any]:
    """Parameters of which those named are fast tests and the others slow ones."""
    return sampled_rows({case: (case,) for case in cases}, *fast)


def sampled_rows(rows: Mapping[str, tuple[Any, ...]], *fast: str) -> list[Any]:
    """The same for several parameters a test, which stand under a name."""
    assert set(fast) <= set(rows)
    marks = lambda name: () if name in fast else pytest.mark.slow  # noqa: E731
    return [
        pytest.param(*row, marks=marks(name), id=name) for name, row in rows.items()
    ]


def assert_close(actual, expected, dtype="float32"):
    actual = np.asarray(actual, np.float64)
    np.testing.assert_allclose(actual, expected, **TOLERANCE[dtype])


def check_gradients(function, *arguments, order=1):
    """Forward and reverse derivatives agree with finite differences.

    One program gives all of them: `jax.test_util.check_grads` compiles dozens.
    """
    random = np.random.default_rng(20171103)
    drawn = lambda a: random.standard_normal(a.shape).astype(a.dtype)  # noqa: E731
    along = jax.tree.map(drawn, arguments)

    def ladder(f, order):
        """A function, how it changes along the line, what it pulls back, and of what.

        Of the function, and up to the order of the two that come of it.
        """
        weights = jax.tree.map(drawn, jax.eval_shape(f, *arguments))
        forward = lambda *x: jax.jvp(f, x, along)[1]  # noqa: E731
        reverse = lambda *x: jax.vjp(f, *x)[1](weights)  # noqa: E731
        above = [forward, reverse] if order > 1 else []
        rungs = [rung for g in above for rung in ladder(g, order - 1)]
        return [(f, forward, reverse, weights), *rungs]

    rungs = ladder(function, order)
    compiled = jax.jit(lambda *x: [[f(*x) for f in rung[:3]] for rung in rungs])
    step, close = 1e-2, dict(atol=1e-2, rtol=1e-2)
    moved = lambda s: jax.tree.map(lambda a, t: a + s * t, arguments, along)  # noqa: E731
    low, at, high = (compiled(*moved(np.float32(s))) for s in (-step, 0, step))
    inner = lambda a, b: sum(jax.tree.leaves(jax.tree.map(np.vdot, a, b)))  # noqa: E731
    slope = lambda a, b: (np.asarray(b) - np.asarray(a)) / (2 * step)  # noqa: E731
    for i, (_, forward, reverse) in enumerate(at):
        numeric = jax.tree.map(slope, low[i][0], high[i][0])
        chex.assert_trees_all_close(forward, numeric, **close)
        of_weights = inner(rungs[i][-1], numeric)
        np.testing.assert_allclose(inner(reverse, along), of_weights, **close)


def filled(make: Callable[[], Any], seed: int = 0) -> Any:
    """What `make` makes, with parameters drawn by NumPy, which compiles nothing.

    Kernels have the spread that keeps activations at about one, vectors are near what
    they start as; running averages and counts start where batch normalization has
    them. An array that is given to the model, such as a mask, is kept.
    """
    given = {}

    def shaped():
        model = make()
        for path, module in nnx.iter_modules(model):
            for name, value in vars(module).items():
                is_array = isinstance(value, np.ndarray | jax.Array)
                if is_array and not isinstance(value, jax.core.Tracer):
                    given[path, name] = value
        return model

    draw = np.random.default_rng([20171103, seed])
    graphdef, state = nnx.split(nnx.eval_shape(shaped))
    flat = [
        (path, _filled(path, leaf, draw)) for path, leaf in nnx.to_flat_state(state)
    ]
    model = nnx.merge(graphdef, nnx.from_flat_state(flat))
    modules = dict(nnx.iter_modules(model))
    for (path, name), value in given.items():
        setattr(modules[path], name, value)
    return model


def _filled(path: tuple, leaf: Any, draw: np.random.Generator) -> Any:
    if not isinstance(leaf, nnx.Variable):
        return leaf  # an array that is given
    start = _start(path, leaf, draw).astype(leaf.dtype)
    return leaf.replace(jax.device_put(start))


def _start(path: tuple, leaf: nnx.Variable, draw: np.random.Generator) -> np.ndarray:
    name, shape = path[-1], leaf.shape
    if not isinstance(leaf, nnx.Param):
        return np.full(shape, float(name == "var"))
    noise = draw.standard_normal(shape)
    if len(shape) > 1:
        return noise * np.sqrt(2 * shape[-1] / noise.size)
    return {"scale": 1.0, "radius": 1.0, "raw": 0.7}.get(name, 0.0) + 0.1 * noise


def respond(layer: Callable, *inputs: Any) -> Any:
    """A layer's answer, compiled once instead of operation by operation.

    What the layer would write, such as a running average, is forgotten.
    """
    graphdef, state = nnx.split(layer)
    return jax.jit(lambda state, *x: nnx.merge(graphdef, state)(*x))(state, *inputs)
