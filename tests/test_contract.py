"""What every public layer, loss and regularizer keeps to, one row for each."""

import functools
import inspect
import re
import types
from collections.abc import Callable
from typing import Any, NamedTuple

import chex
import jax
import jax.numpy as jnp
import numpy as np
import pytest
from flax import nnx

from hypersphere import losses, nn, ops, regularizers
from tests import helpers, reference


class Row(NamedTuple):
    make: Callable[[nnx.Rngs], Callable]  # a layer, or a function of `inputs`
    inputs: Callable[[int, float], tuple[Any, ...]]  # of a seed and a size
    sizes: tuple[float, ...] = (1.0, 0.0, 1e18)
    per_example: bool = True  # whether the first axis is that of the examples


def images(seed, size):
    return (size * reference.normal(3, 5, 4, 4, seed=seed),)


def features(seed, size):
    return (size * reference.normal(3, 4, seed=seed),)


def cosines(seed, size):
    return (np.tanh(size * reference.normal(3, 4, seed=seed)),)


def answers(seed, size):
    """Cosines and labels, and features of the given length."""
    labels = np.random.default_rng(seed).integers(0, 4, 3)
    lengths = np.abs(size * reference.normal(3, seed=seed + 1))
    return (*cosines(seed, 1.0), labels, lengths)


def scores(seed, size):
    return (*features(seed, size), answers(seed, size)[1])


def steps(seed, size):
    return (np.abs(1e3 * size * reference.normal(3, seed=seed)),)


def on_answers(loss):
    return lambda rngs: (
        lambda cos, labels, lengths: loss(cos, labels, feature_norm=lengths)
    )


ROWS = {
    "nn.SphereConv": Row(
        lambda rngs: nn.SphereConv(
            4, 6, (3, 2), similarity=nn.LearnableSigmoid, rngs=rngs
        ),
        images,
    ),
    "nn.SphereLinear": Row(
        lambda rngs: nn.SphereLinear(4, 6, similarity=ops.Linear(), rngs=rngs),
        features,
    ),
    "nn.SphereNorm": Row(
        lambda rngs: nn.SphereNorm(
            nnx.Conv(4, 6, (3, 2), use_bias=False, rngs=rngs), similarity=ops.Sigmoid()
        ),
        images,
    ),
    "nn.AngularHead": Row(lambda rngs: nn.AngularHead(4, 6, rngs=rngs), features),
    "nn.LearnableSigmoid": Row(
        lambda rngs: nn.LearnableSigmoid(4, rngs=rngs), cosines, sizes=(1.0, 0.0)
    ),
    "losses.softmax": Row(
        lambda rngs: functools.partial(losses.softmax, label_smoothing=0.1, floor=1e-4),
        scores,
    ),
    "losses.w_softmax": Row(on_answers(losses.w_softmax), answers),
    "losses.ga_softmax": Row(on_answers(losses.ga_softmax), answers),
    "losses.a_softmax": Row(on_answers(losses.a_softmax), answers),
    "losses.annealed_margin_weight": Row(
        lambda rngs: losses.annealed_margin_weight(), steps
    ),
    "regularizers.orthogonality": Row(
        lambda rngs: regularizers.orthogonality,
        images,
        sizes=(1.0, 0.0, 1e8),  # its fourth power is in range
        per_example=False,
    ),
    "ops.Cosine": Row(lambda rngs: ops.Cosine(), cosines, sizes=(1.0, 0.0)),
    "ops.Linear": Row(lambda rngs: ops.Linear(), cosines, sizes=(1.0, 0.0)),
    "ops.Sigmoid": Row(lambda rngs: ops.Sigmoid(), cosines, sizes=(1.0, 0.0)),
}
MODULES = {"nn": nn, "losses": losses, "regularizers": regularizers, "ops": ops}

every_row = pytest.mark.parametrize("name", ROWS)
per_example = [name for name, row in ROWS.items() if row.per_example]
every_layer = pytest.mark.parametrize("name", [n for n in ROWS if n.startswith("nn.")])


def public():
    """Every public name: of `ops` too."""
    return {
        f"{module}.{name}": value
        for module, content in MODULES.items()
        for name, value in vars(content).items()
        if not name.startswith("_") and not isinstance(value, types.ModuleType)
    }


def without_a_row():
    def is_similarity(value):
        is_class = isinstance(value, type) and value is not ops.Similarity
        return is_class and issubclass(value, ops.Similarity)

    needed = {
        name
        for name, value in public().items()
        if not name.startswith("ops.") or is_similarity(value)
    }
    return needed - set(ROWS)


def test_every_public_name_has_a_row():
    assert without_a_row() == set()
    assert set(ROWS) <= set(public())


def test_a_public_name_without_a_row_is_noticed(monkeypatch):
    monkeypatch.setattr(losses, "new_loss", lambda cos: cos, raising=False)
    monkeypatch.setattr(ops, "Quadratic", type("Quadratic", (ops.Cosine,), {}), False)
    assert without_a_row() == {"losses.new_loss", "ops.Quadratic"}


def split(made):
    """The parameters, and a pure function of them and the inputs."""
    if not isinstance(made, nnx.Module):
        return {}, lambda params, *inputs: made(*inputs)
    graphdef, params = nnx.split(made)
    return params, lambda params, *inputs: nnx.merge(graphdef, params)(*inputs)


@functools.cache
def built(name):
    """One object per row, its parameters, and itself as a compiled pure function."""
    made = ROWS[name].make(nnx.Rngs(0))
    params, apply = split(made)
    return made, params, jax.jit(apply)


@every_row
def test_compiled_equals_eager_and_neither_changes_the_parameters(name):
    made, params, compiled = built(name)
    before = jax.tree.map(np.array, params)
    inputs = tuple(map(jnp.asarray, ROWS[name].inputs(1, 1.0)))
    eager = made(*inputs)
    jax.tree.map(
        lambda one, other: helpers.assert_close(one, np.float64(other)),
        compiled(params, *inputs),
        eager,
    )
    if params:
        chex.assert_trees_all_equal(nnx.state(made), before)


@pytest.mark.parametrize("name", per_example)
def test_an_example_does_not_know_the_rest_of_the_batch(name):
    _, params, compiled = built(name)
    inputs, others = ROWS[name].inputs(1, 1.0), ROWS[name].inputs(2, 1.0)
    mixed = [
        np.concatenate([a[:1], b[1:]]) for a, b in zip(inputs, others, strict=True)
    ]
    before = jax.tree.leaves(compiled(params, *inputs))
    after = jax.tree.leaves(compiled(params, *mixed))
    for one, other in zip(before, after, strict=True):
        np.testing.assert_array_equal(one[0], other[0])
        assert not np.array_equal(one[1:], other[1:])


@every_layer
def test_a_seed_decides_the_parameters(name):
    states = [nnx.state(ROWS[name].make(nnx.Rngs(seed))) for seed in (0, 0, 1)]
    chex.assert_trees_all_equal(states[0], states[1])
    kernels = [
        [leaf for path, leaf in nnx.to_flat_state(state) if path[-1] == "kernel"]
        for state in states
    ]
    for one, other in zip(kernels[0], kernels[2], strict=True):
        assert not np.array_equal(one[...], other[...])


@every_row
def test_a_second_call_is_not_traced_again(name):
    params, apply = split(ROWS[name].make(nnx.Rngs(0)))
    again, _ = split(ROWS[name].make(nnx.Rngs(1)))
    chex.clear_trace_counter()
    traced_once = jax.jit(chex.assert_max_traces(apply, n=1))
    traced_once(params, *ROWS[name].inputs(1, 1.0))
    traced_once(again, *ROWS[name].inputs(2, 1.0))


@every_row
def test_values_and_gradients_are_finite_at_every_size(name):
    row = ROWS[name]
    _, params, compiled = built(name)

    @jax.jit
    def slopes(params, floats, integers, weights):
        def total(params, floats):
            merged = [floats.get(i, integers.get(i)) for i in range(len(inputs))]
            out = compiled(params, *merged)
            products = jax.tree.map(lambda a, b: jnp.sum(a * b), out, weights)
            return sum(jax.tree.leaves(products)), out

        return jax.grad(total, (0, 1), has_aux=True)(params, floats)

    for size in row.sizes:
        inputs = [np.asarray(a) for a in row.inputs(1, size)]
        floats = {i: np.float32(a) for i, a in enumerate(inputs) if a.dtype.kind == "f"}
        integers = {i: a for i, a in enumerate(inputs) if a.dtype.kind != "f"}
        shapes = jax.eval_shape(compiled, params, *inputs)
        weights = jax.tree.map(lambda a: reference.normal(*a.shape, seed=5), shapes)
        chex.assert_tree_all_finite(slopes(params, floats, integers, weights))


def section(docstring, title):
    """The indented text under a title of a docstring, or nothing."""
    found = re.search(rf"^{title}:\n((?:(?: .*)?\n?)*)", docstring, re.MULTILINE)
    return found and found[1]


@pytest.mark.parametrize("name", sorted(set(public()) - {"ops.Similarity"}))
def test_the_docstring_names_every_argument_and_shows_an_example(name):
    value = public()[name]
    docstring = inspect.getdoc(value)
    assert ">>> " in (section(docstring, "Example") or "")
    arguments = section(docstring, "Args") or ""
    function = value.__init__ if isinstance(value, type) else value
    parameters = [p for p in inspect.signature(function).parameters if p != "self"]
    described = re.findall(r"^    (\w+): \S", arguments, re.MULTILINE)
    assert described == parameters


def test_a_missing_argument_of_a_docstring_is_noticed():
    docstring = "One.\n\nArgs:\n    a: First.\n        More.\n\nExample:\n    >>> 1\n"
    assert section(docstring, "Args") == "    a: First.\n        More.\n\n"
    assert section(docstring, "Example") == "    >>> 1\n"
    assert section(docstring, "Raises") is None
