"""Steps in float32 of parameters in bfloat16."""

import jax
import jax.numpy as jnp
import numpy as np
import optax
import pytest

from hypersphere import optim


@pytest.fixture(scope="module")
def walked():
    """20 steps of 2^-12 down from one, a 16th of what bfloat16 can tell apart there."""
    optimizer = optim.in_float32(optax.sgd(2.0**-12, momentum=0.0), seed=3)

    @jax.jit
    def walk():
        params = {"half": jnp.ones(20_000, jnp.bfloat16), "whole": jnp.ones(3)}
        state = optimizer.init(params)
        for _ in range(20):
            slope = jax.tree.map(jnp.ones_like, params)
            updates, state = optimizer.update(slope, state, params)
            params = optax.apply_updates(params, updates)
        return params, state

    return walk()


def test_no_step_is_lost_on_average(walked):
    params, _ = walked
    half = np.asarray(params["half"], np.float64)
    assert params["half"].dtype == jnp.bfloat16
    # A step is one of a 16th of the spacing, 2^-8, below one, with that probability.
    error = np.sqrt(20 / 16) * 2.0**-8 / np.sqrt(20_000)
    assert abs(half.mean() - (1 - 20 * 2.0**-12)) < 5 * error
    assert len(np.unique(half)) > 1


def test_what_is_not_half_gets_the_steps_of_the_optimizer(walked):
    params, state = walked
    np.testing.assert_allclose(params["whole"], 1 - 20 * 2.0**-12, rtol=1e-6)
    memory = [x for x in jax.tree.leaves(state.inner) if x.shape == (20_000,)]
    assert memory and all(x.dtype == jnp.float32 for x in memory)


def test_the_parameters_are_needed():
    optimizer = optim.in_float32(optax.sgd(0.1))
    with pytest.raises(ValueError, match="`in_float32` needs the parameters"):
        optimizer.update({}, optimizer.init({}))
