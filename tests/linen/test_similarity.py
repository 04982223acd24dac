import functools

import jax
import jax.numpy as jnp
import numpy as np
import pytest
from flax import nnx

from hypersphere import linen, nn, ops
from tests.linen import twins

IMAGE = (2, 5, 4, 3)


def gradient(layer, variables, x):
    return jax.grad(lambda v: jnp.sum(jnp.sin(3 * layer.apply(v, x))))(variables)


@pytest.mark.parametrize("name", ["LearnableSigmoid", "SharpenedCosine"])
def test_is_the_twin_of_the_nnx_module(draw, name):
    layer = getattr(nn, name)(6, rngs=nnx.Rngs(0))
    variables = twins.variables_of(layer)
    cos = jnp.tanh(draw((3, 6)))
    twins.assert_same(getattr(linen, name)(6).apply(variables, cos), layer(cos))


def test_the_softness_is_learned_and_stands_under_similarity(draw):
    x = draw(IMAGE)
    layer = linen.SphereConv(6, (3, 2), similarity=linen.LearnableSigmoid)
    variables = layer.init(jax.random.key(0), x)
    np.testing.assert_array_equal(
        variables["params"]["similarity"]["raw"], np.full(6, 0.7, np.float32)
    )
    assert np.all(gradient(layer, variables, x)["params"]["similarity"]["raw"] != 0)


def test_the_powers_and_the_damping_start_where_they_should(draw):
    layer = functools.partial(linen.SharpenedCosine, start=(2.0, 2.5), q=0.1)
    conv, x = linen.SphereConv(64, (3, 2), similarity=layer), draw(IMAGE)
    variables = conv.init(jax.random.key(0), x)
    raw, log_q = (variables["params"]["similarity"][k] for k in ("raw", "log_q"))
    assert raw.shape == (64,) and np.all((raw >= 1.9) & (raw < 2.4))
    assert np.unique(raw).size > 60
    np.testing.assert_allclose(np.exp(log_q), 0.1, rtol=1e-6)
    grads = gradient(conv, variables, x)["params"]["similarity"]
    assert grads["log_q"] != 0 and np.all(grads["raw"] != 0)


def make_own(similarity):
    return linen.SphereConv(6, (3, 2), similarity=similarity)


@pytest.mark.parametrize(
    "similarity",
    [
        linen.LearnableSigmoid,
        functools.partial(linen.LearnableSigmoid, start=0.7),
        linen.LearnableSigmoid(6),
    ],
)
def test_a_class_a_partial_and_a_module_make_the_same_layer(draw, similarity):
    x, key = draw(IMAGE), jax.random.key(0)
    expected = make_own(ops.Sigmoid(0.75)).init_with_output(key, x)[0]
    answer, variables = make_own(similarity).init_with_output(key, x)
    np.testing.assert_allclose(answer, expected, rtol=1e-5, atol=1e-6)
    assert set(variables["params"]["similarity"]) == {"raw"}


@pytest.mark.parametrize(
    "similarity", [ops.Linear, functools.partial(ops.Sigmoid, 0.3), jnp.square]
)
def test_other_classes_and_functions_are_taken_too(draw, similarity):
    x, key = draw(IMAGE), jax.random.key(0)
    made = similarity if similarity is jnp.square else similarity()
    expected = make_own(made).init_with_output(key, x)
    twins.assert_same(make_own(similarity).init_with_output(key, x), expected)


@pytest.mark.usefixtures("as_a_user")
def test_wrong_arguments_are_refused():
    cos, key = jnp.zeros((2, 3)), jax.random.key(0)
    with pytest.raises(ValueError, match="`SharpenedCosine` needs a finite `q > 0`"):
        linen.SharpenedCosine(3, q=0.0)
    for module in (linen.LearnableSigmoid, linen.SharpenedCosine):
        with pytest.raises(ValueError, match=f"`{module.__name__}` needs .*features=4"):
            module(4).init(key, cos)
