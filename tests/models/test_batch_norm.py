import jax
import jax.numpy as jnp
import numpy as np
import pytest
from flax import nnx

from hypersphere import models

DECAY = 0.9


def averages_after(kind, batches, **arguments):
    norm = models.BatchNorm(
        2, averages=kind, momentum=DECAY, rngs=nnx.Rngs(0), **arguments
    )
    for batch in batches:
        norm(batch)
    return norm


@pytest.fixture
def batches(draw):
    return [draw((16, 2)) * 3 + 5 for _ in range(4)]


def exponential_average(values, start):
    average = np.asarray(start, np.float64)
    for value in values:
        average = DECAY * average + (1 - DECAY) * np.asarray(value, np.float64)
    return average


def test_averages_begin_as_said(batches):
    means = [np.mean(np.asarray(b, np.float64), 0) for b in batches]
    variances = [np.var(np.asarray(b, np.float64), 0) for b in batches]
    filled = 1 - DECAY ** len(batches)
    truth = {
        "flax": (exponential_average(means, 0), exponential_average(variances, 1)),
        "zero": (exponential_average(means, 0), exponential_average(variances, 0)),
    }
    truth["debiased"] = tuple(value / filled for value in truth["zero"])
    for kind, (mean, variance) in truth.items():
        norm = averages_after(kind, batches)
        np.testing.assert_allclose(norm.mean[...], mean, rtol=1e-5)
        np.testing.assert_allclose(norm.var[...], variance, rtol=1e-4)


def test_flax_averages_are_flax(batches):
    flax_norm = nnx.BatchNorm(2, momentum=DECAY, rngs=nnx.Rngs(0))
    for batch in batches:
        flax_norm(batch)
    ours = averages_after("flax", batches)
    np.testing.assert_array_equal(ours.mean[...], flax_norm.mean[...])
    np.testing.assert_array_equal(ours.var[...], flax_norm.var[...])


@pytest.mark.parametrize("kind", ["flax", "zero", "debiased"])
def test_evaluation_uses_the_averages_and_leaves_them(batches, kind):
    norm = averages_after(kind, batches, epsilon=1e-3)
    before = jax.tree.map(jnp.copy, nnx.state(norm))
    norm.eval()
    y = norm(batches[0])
    mean, var = np.asarray(norm.mean[...]), np.asarray(norm.var[...])
    truth = (np.asarray(batches[0]) - mean) / np.sqrt(var + 1e-3)
    np.testing.assert_allclose(y, truth, rtol=1e-4, atol=1e-5)
    jax.tree.map(np.testing.assert_array_equal, nnx.state(norm), before)


def test_unknown_averages_are_refused(as_a_user):
    with pytest.raises(ValueError, match=r"'flax', 'zero' or 'debiased', got `averag"):
        models.BatchNorm(2, averages="one", rngs=nnx.Rngs(0))
