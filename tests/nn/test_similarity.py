import functools

import jax
import jax.numpy as jnp
import numpy as np
import pytest
from flax import nnx

from hypersphere import nn, ops
from tests import helpers, reference

X = reference.normal(2, 6, 6, 3)


POWERS = np.random.default_rng(0).uniform(1, 3, 5)
TARGET = reference.normal(2, 6, 6, 5, seed=1)


def at(q, make_layer):
    """A layer of five filters with known powers and damping."""
    layer = helpers.filled(make_layer)
    layer.similarity.raw[...] = jax.device_put(np.float32(POWERS - 0.1))
    layer.similarity.log_q[...] = jax.device_put(np.float32(np.log(q)))
    return layer


def make(q):
    options = dict(similarity=nn.SharpenedCosine, eps=1e-3, use_bias=False)
    return at(q, lambda: nn.SphereConv(3, 5, (3, 3), rngs=nnx.Rngs(0), **options))


@functools.partial(jax.jit, static_argnums=0)
def pooled(graphdef, state, x):
    y = nnx.merge(graphdef, state)(x)
    return y, nn.max_abs_pool(y, (2, 2), (2, 2))


@functools.partial(jax.jit, static_argnums=0)
def slopes(graphdef, params, x):
    total = lambda params: jnp.sum(nnx.merge(graphdef, params)(x) * TARGET)  # noqa: E731
    return jax.grad(total)(params)


def sharpened(layer, x, p, q):
    """What the layer answers, in float64."""
    cos = reference.sphere_conv(x, layer.kernel[...], eps=1e-3)
    norm = reference.patch_norm(x, (3, 3), (1, 1), "SAME", (1, 1), 1, 1e-3)
    return reference.sharpened_cosine(cos, p, q, norm)


def test_powers_start_between_one_and_three_and_differ():
    def start(count, seed, **arguments):
        return nn.SharpenedCosine(count, rngs=nnx.Rngs(seed), **arguments).p

    starts = jax.jit(
        lambda: (start(1000, 0), start(1000, 1), start(100, 0, init=(5.0, 6.0)))
    )
    p, other, high = map(np.asarray, starts())
    assert 1 <= p.min() < 1.05 and 2.95 < p.max() <= 3
    assert abs(p.mean() - 2) < 0.05
    assert not np.array_equal(p, other)
    assert 5 <= high.min() and high.max() <= 6


def test_powers_stay_above_a_tenth_and_damping_above_zero():
    @jax.jit
    def start(raw):
        layer, other = (
            nn.SharpenedCosine(4, **options, rngs=nnx.Rngs(0))
            for options in (dict(q=0.5), {})
        )
        layer.raw[...] = raw
        return layer.p, jnp.exp(layer.log_q[...]), jnp.exp(other.log_q[...])

    p, *damping = start(np.array([-2.0, -1e-3, 0.0, 5.0], np.float32))
    np.testing.assert_allclose(p, [2.1, 0.101, 0.1, 5.1], rtol=1e-6)
    np.testing.assert_allclose(damping, [0.5, 1e-3], rtol=1e-6)


@pytest.mark.parametrize("q", [1e-3, 0.5])
def test_a_layer_and_its_pooling_equal_the_slow_reference(q):
    layer = make(q)
    y, maxima = pooled(*nnx.split(layer), X)
    helpers.assert_close(y, truth := sharpened(layer, X, POWERS, q))
    helpers.assert_close(maxima, reference.max_abs_pool(truth, (2, 2), (2, 2)))


@pytest.mark.parametrize("size", [1.0, 0.0, 1e-20, 1e18])
def test_power_and_damping_learn_at_every_size(size):
    layer = make(q=0.1)
    gradients = slopes(*nnx.split(layer), X * np.float32(size))
    assert all(np.isfinite(leaf).all() for leaf in jax.tree.leaves(gradients))
    if size != 1:
        return
    slope = gradients["similarity"]
    raw = np.float64(layer.similarity.raw[...])

    def total(raw, log_q):
        y = sharpened(layer, X, np.abs(raw) + 0.1, np.exp(log_q))
        return (y * TARGET).sum((0, 1, 2))

    log_q = np.log(0.1)
    by_power = (total(raw + 1e-6, log_q) - total(raw - 1e-6, log_q)) / 2e-6
    by_damping = (total(raw, log_q + 1e-6) - total(raw, log_q - 1e-6)).sum() / 2e-6
    np.testing.assert_allclose(slope["raw"][...], by_power, rtol=1e-3, atol=1e-3)
    np.testing.assert_allclose(slope["log_q"][...], by_damping, rtol=1e-3, atol=1e-3)
    assert (np.abs(by_power) > 1e-2).all() and abs(by_damping) > 1e-2


def test_takes_the_place_of_a_similarity_in_a_dense_layer_too():
    options = dict(similarity=nn.SharpenedCosine, use_bias=False)
    layer = at(1e-3, lambda: nn.SphereLinear(6, 5, rngs=nnx.Rngs(0), **options))
    x = reference.normal(3, 6)
    kernel = np.asarray(layer.kernel[...])
    cos = reference.sphere_conv(x[None], kernel[None])[0]
    norm = np.sqrt((np.float64(x) ** 2).sum(-1, keepdims=True) + 1e-4)
    truth = reference.sharpened_cosine(cos, POWERS, 1e-3, norm)
    helpers.assert_close(helpers.respond(layer, x), truth)


def test_bad_arguments_are_named(as_a_user):
    for q in (0.0, -1.0, float("inf")):
        with pytest.raises(
            ValueError, match=rf"`SharpenedCosine` needs a finite `q > 0`, got `q={q}"
        ):
            nn.SharpenedCosine(4, q=q, rngs=nnx.Rngs(0))
    with pytest.raises(ValueError, match=r"`SharpenedCosine` needs .*`features=4`"):
        helpers.filled(lambda: nn.SharpenedCosine(4, rngs=nnx.Rngs(0)))(X[0, 0])
    assert callable(ops.max_abs_pool) and nn.max_abs_pool is ops.max_abs_pool
