import functools

import jax
import jax.numpy as jnp
import numpy as np
import pytest
from flax import nnx

from hypersphere import linen, nn, ops
from tests import helpers
from tests.linen import twins

IMAGE = (2, 5, 4, 3)


def started(layer, x):
    """What a layer starts from, and the gradient there, of its similarity."""

    @jax.jit
    def start(x):
        variables = layer.init(jax.random.key(0), x)
        waves = lambda v: jnp.sum(jnp.sin(3 * layer.apply(v, x)))  # noqa: E731
        both = variables, jax.grad(waves)(variables)
        return [tree["params"]["similarity"] for tree in both]

    return start(x)


@pytest.mark.parametrize("name", ["LearnableSigmoid", "SharpenedCosine"])
def test_is_the_twin_of_the_nnx_module(draw, name):
    layer = helpers.filled(lambda: getattr(nn, name)(6, rngs=nnx.Rngs(0)))
    cos = np.tanh(draw((3, 6)))
    twins.assert_twins(layer, getattr(linen, name)(6), cos)


def test_the_softness_is_learned_and_stands_under_similarity(draw):
    layer = linen.SphereConv(6, (3, 2), similarity=linen.LearnableSigmoid)
    start, slope = started(layer, draw(IMAGE))
    np.testing.assert_array_equal(start["raw"], np.full(6, 0.7, np.float32))
    assert np.all(np.asarray(slope["raw"]) != 0)


def test_the_powers_and_the_damping_start_where_they_should(draw):
    layer = functools.partial(linen.SharpenedCosine, start=(2.0, 2.5), q=0.1)
    start, slope = started(linen.SphereConv(64, (3, 2), similarity=layer), draw(IMAGE))
    raw = np.asarray(start["raw"])
    assert raw.shape == (64,) and np.all((raw >= 1.9) & (raw < 2.4))
    assert np.unique(raw).size > 60
    np.testing.assert_allclose(np.exp(start["log_q"]), 0.1, rtol=1e-6)
    assert np.asarray(slope["log_q"]) != 0 and np.all(np.asarray(slope["raw"]) != 0)


def answers_and_starts(x, *similarities):
    layers = [linen.SphereConv(6, (3, 2), similarity=s) for s in similarities]
    start = lambda layer, x: layer.init_with_output(jax.random.key(0), x)  # noqa: E731
    return jax.jit(lambda x: [start(layer, x) for layer in layers])(x)


def test_a_class_a_partial_and_a_module_make_the_same_layer(draw):
    (expected, _), *others = answers_and_starts(
        draw(IMAGE),
        ops.Sigmoid(0.75),
        linen.LearnableSigmoid,
        functools.partial(linen.LearnableSigmoid, start=0.7),
        linen.LearnableSigmoid(6),
    )
    for answer, variables in others:
        np.testing.assert_allclose(answer, expected, rtol=1e-5, atol=1e-6)
        assert set(variables["params"]["similarity"]) == {"raw"}


@pytest.mark.parametrize(
    ("similarity", "made"),
    [
        (ops.Linear, ops.Linear()),
        (functools.partial(ops.Sigmoid, 0.3), ops.Sigmoid(0.3)),
        (jnp.square, jnp.square),
    ],
)
def test_other_classes_and_functions_are_taken_too(draw, similarity, made):
    answer, expected = answers_and_starts(draw(IMAGE), similarity, made)
    twins.assert_same(answer, expected)


@pytest.mark.usefixtures("as_a_user")
def test_wrong_arguments_are_refused():
    with pytest.raises(ValueError, match="`SharpenedCosine` needs a finite `q > 0`"):
        linen.SharpenedCosine(3, q=0.0)
    for module in (linen.LearnableSigmoid, linen.SharpenedCosine):
        with pytest.raises(ValueError, match=f"`{module.__name__}` needs .*features=4"):
            twins.init_shapes(module(4), np.zeros((2, 3), np.float32))
