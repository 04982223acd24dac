"""Steps on some columns: those of an optimizer that sees no others."""

import jax
import jax.numpy as jnp
import numpy as np
import optax
import pytest

from hypersphere import optim
from tests import reference

PARAMS = {
    "bias": jnp.ones(3),
    "head": {"kernel": jnp.float32(reference.normal(2, 12))},
}
# Classes 1 and 0 of the first half, 5 and 3 of the second, of two columns each.
COLUMNS = {
    "bias": False,
    "head": {"kernel": optim.Columns(index=jnp.array([1, 0, 5, 3]), group=2, shards=2)},
}
TAKEN = np.array([2, 3, 0, 1, 10, 11, 6, 7])
LEFT = np.setdiff1d(np.arange(12), TAKEN)
OPTIMIZERS = {
    "momentum": optax.sgd(0.1, momentum=0.9),
    "clipped adam with decay": optax.chain(
        optax.clip_by_global_norm(0.5),
        optax.adamw(0.1, mask={"bias": True, "head": {"kernel": False}}),
    ),
    "two kinds": optax.partition(
        {"one": optax.adam(0.1), "other": optax.sgd(0.1, momentum=0.9)},
        {"bias": "one", "head": {"kernel": "other"}},
    ),
}


def steps(optimizer):
    """Two steps on some columns, and two of an optimizer that knows only these."""

    @jax.jit
    def both(params, slopes):
        state = optimizer.init(params)
        alone = params | {"head": {"kernel": params["head"]["kernel"][:, TAKEN]}}
        memory = optimizer.init(alone)
        for slope in slopes:
            its, some = optim.take_columns(optimizer, state, params, COLUMNS)
            updates, its = optimizer.update(slope, its, some)
            some = optax.apply_updates(some, updates)
            state, params = optim.put_columns(
                optimizer, state, params, its, some, COLUMNS
            )
            updates, memory = optimizer.update(slope, memory, alone)
            alone = optax.apply_updates(alone, updates)
        return (state, params), (memory, alone)

    slopes = [
        {
            "bias": jnp.full(3, size),
            "head": {"kernel": jnp.float32(reference.normal(2, 8, seed=int(size)))},
        }
        for size in (1.0, 2.0)
    ]
    return both(PARAMS, slopes)


@pytest.mark.parametrize("name", OPTIMIZERS)
def test_the_step_is_that_of_an_optimizer_that_knows_no_others(name):
    (state, params), (memory, alone) = steps(OPTIMIZERS[name])
    before, after = PARAMS["head"]["kernel"], params["head"]["kernel"]
    np.testing.assert_array_equal(after[:, LEFT], before[:, LEFT])
    np.testing.assert_allclose(after[:, TAKEN], alone["head"]["kernel"], rtol=1e-6)
    np.testing.assert_allclose(params["bias"], alone["bias"], rtol=1e-6)
    # What it remembers: the same for these columns, nothing for the others.
    pairs = zip(jax.tree.leaves(state), jax.tree.leaves(memory), strict=True)
    for ours, truth in pairs:
        if ours.shape == before.shape:
            assert not ours[:, LEFT].any()
            ours = ours[:, TAKEN]
        np.testing.assert_allclose(ours, truth, rtol=1e-6)
