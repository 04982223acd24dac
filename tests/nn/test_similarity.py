import functools

import jax
import jax.numpy as jnp
import numpy as np
import pytest
from flax import nnx

from hypersphere import nn, ops
from tests import helpers, reference

X = reference.normal(2, 6, 6, 3)


def make(**arguments):
    sharpened = functools.partial(nn.SharpenedCosine, **arguments)
    return nn.SphereConv(
        3, 5, (3, 3), similarity=sharpened, eps=1e-3, use_bias=False, rngs=nnx.Rngs(0)
    )


def sharpened(layer, x, p, q):
    """What the layer answers, in float64."""
    cos = reference.sphere_conv(x, layer.kernel[...], eps=1e-3)
    norm = reference.patch_norm(x, (3, 3), (1, 1), "SAME", (1, 1), 1, 1e-3)
    return reference.sharpened_cosine(cos, p, q, norm)


def test_powers_start_between_one_and_three_and_differ():
    p = np.asarray(nn.SharpenedCosine(1000, rngs=nnx.Rngs(0)).p)
    assert 1 <= p.min() < 1.05 and 2.95 < p.max() <= 3
    assert abs(p.mean() - 2) < 0.05
    other = nn.SharpenedCosine(1000, rngs=nnx.Rngs(1)).p
    assert not np.array_equal(p, other)
    high = nn.SharpenedCosine(100, init=(5.0, 6.0), rngs=nnx.Rngs(0)).p
    assert 5 <= high.min() and high.max() <= 6


def test_powers_stay_above_a_tenth_and_damping_above_zero():
    layer = nn.SharpenedCosine(4, q=0.5, rngs=nnx.Rngs(0))
    layer.raw[...] = jnp.array([-2.0, -1e-3, 0.0, 5.0])
    np.testing.assert_allclose(layer.p, [2.1, 0.101, 0.1, 5.1], rtol=1e-6)
    np.testing.assert_allclose(jnp.exp(layer.log_q[...]), 0.5, rtol=1e-6)


@pytest.mark.parametrize("q", [1e-3, 0.5])
def test_a_layer_and_its_pooling_equal_the_slow_reference(q):
    layer = make(q=q)
    y = nnx.jit(lambda layer, x: layer(x))(layer, X)
    p = np.float64(layer.similarity.p)
    helpers.assert_close(y, truth := sharpened(layer, X, p, q))
    pooled = nn.max_abs_pool(y, (2, 2), (2, 2))
    helpers.assert_close(pooled, reference.max_abs_pool(truth, (2, 2), (2, 2)))


@pytest.mark.parametrize("size", [1.0, 0.0, 1e-20, 1e18])
def test_power_and_damping_learn_at_every_size(size):
    layer = make(q=0.1)
    target = reference.normal(2, 6, 6, 5, seed=1)
    graphdef, params = nnx.split(layer)

    @jax.jit
    def slopes(params, x):
        total = lambda params: jnp.sum(nnx.merge(graphdef, params)(x) * target)  # noqa: E731
        return jax.grad(total)(params)

    gradients = slopes(params, jnp.asarray(X * np.float32(size)))
    assert all(np.isfinite(leaf).all() for leaf in jax.tree.leaves(gradients))
    if size != 1:
        return
    slope = gradients["similarity"]
    raw = np.float64(layer.similarity.raw[...])

    def total(raw, log_q):
        y = sharpened(layer, X, np.abs(raw) + 0.1, np.exp(log_q))
        return (y * target).sum((0, 1, 2))

    log_q = np.log(0.1)
    by_power = (total(raw + 1e-6, log_q) - total(raw - 1e-6, log_q)) / 2e-6
    by_damping = (total(raw, log_q + 1e-6) - total(raw, log_q - 1e-6)).sum() / 2e-6
    np.testing.assert_allclose(slope["raw"][...], by_power, rtol=1e-3, atol=1e-3)
    np.testing.assert_allclose(slope["log_q"][...], by_damping, rtol=1e-3, atol=1e-3)
    assert (np.abs(by_power) > 1e-2).all() and abs(by_damping) > 1e-2


def test_takes_the_place_of_a_similarity_in_a_dense_layer_too():
    layer = nn.SphereLinear(
        6, 5, similarity=nn.SharpenedCosine, use_bias=False, rngs=nnx.Rngs(0)
    )
    x = jnp.asarray(reference.normal(3, 6))
    cos = reference.sphere_conv(x[None], layer.kernel[...][None])[0]
    norm = np.sqrt((np.float64(x) ** 2).sum(-1, keepdims=True) + 1e-4)
    p = np.float64(layer.similarity.p)
    truth = reference.sharpened_cosine(cos, p, 1e-3, norm)
    helpers.assert_close(layer(x), truth)


def test_bad_arguments_are_named(as_a_user):
    for q in (0.0, -1.0, float("inf")):
        with pytest.raises(
            ValueError, match=rf"`SharpenedCosine` needs a finite `q > 0`, got `q={q}"
        ):
            nn.SharpenedCosine(4, q=q, rngs=nnx.Rngs(0))
    with pytest.raises(ValueError, match=r"`SharpenedCosine` needs .*`in_features=4`"):
        nn.SharpenedCosine(4, rngs=nnx.Rngs(0))(jnp.zeros((2, 3)))
    assert callable(ops.max_abs_pool) and nn.max_abs_pool is ops.max_abs_pool
