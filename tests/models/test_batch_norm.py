import functools

import jax
import numpy as np
import pytest
from flax import nnx

from hypersphere import models

DECAY, EPSILON = 0.9, 1e-3
KINDS = ["flax", "zero", "debiased"]


@functools.cache
def steps(make):
    """What a layer holds after some batches, then its evaluation of the first."""

    @jax.jit
    def run(batches):
        norm = make(2, momentum=DECAY, epsilon=EPSILON, rngs=nnx.Rngs(0))
        for batch in batches:
            norm(batch)
        trained = norm.mean[...], norm.var[...], nnx.to_pure_dict(nnx.state(norm))
        norm.eval()
        return *trained, norm(batches[0]), nnx.to_pure_dict(nnx.state(norm))

    return run


LAYERS = {kind: functools.partial(models.BatchNorm, averages=kind) for kind in KINDS}


@pytest.fixture
def batches(draw):
    return [np.asarray(draw((16, 2))) * 3 + 5 for _ in range(4)]


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
        ours = steps(LAYERS[kind])(batches)
        np.testing.assert_allclose(ours[0], mean, rtol=1e-5)
        np.testing.assert_allclose(ours[1], variance, rtol=1e-4)


def test_flax_averages_are_flax(batches):
    mean, var, *_ = steps(LAYERS["flax"])(batches)
    flaxes_mean, flaxes_var, *_ = steps(nnx.BatchNorm)(batches)
    np.testing.assert_array_equal(mean, flaxes_mean)
    np.testing.assert_array_equal(var, flaxes_var)


@pytest.mark.parametrize("kind", KINDS)
def test_evaluation_uses_the_averages_and_leaves_them(batches, kind):
    mean, var, before, y, after = steps(LAYERS[kind])(batches)
    truth = (batches[0] - np.asarray(mean)) / np.sqrt(np.asarray(var) + EPSILON)
    np.testing.assert_allclose(y, truth, rtol=1e-4, atol=1e-5)
    jax.tree.map(np.testing.assert_array_equal, after, before)


def test_unknown_averages_are_refused(as_a_user):
    with pytest.raises(ValueError, match=r"'flax', 'zero' or 'debiased', got `averag"):
        models.BatchNorm(2, averages="one", rngs=nnx.Rngs(0))
