import jax
import numpy as np
import optax
import pytest
from flax import nnx

from hypersphere import nn, optim
from tests import helpers


def test_filters_are_the_unit_vectors_of_what_the_step_gave(draw):
    params = {"kernel": draw((3, 3, 2, 5)), "bias": draw((5,))}
    slopes = jax.tree.map(lambda p: draw(p.shape), params)
    optimizer = optax.chain(optax.sgd(0.1), optim.keep_unit_norm())

    @jax.jit
    def step(params, slopes):
        updates, _ = optimizer.update(slopes, optimizer.init(params), params)
        return optax.apply_updates(params, updates)

    after = step(params, slopes)
    moved = {k: np.float64(params[k]) - 0.1 * np.float64(slopes[k]) for k in params}
    lengths = np.sqrt(np.sum(moved["kernel"] ** 2, axis=(0, 1, 2)))
    helpers.assert_close(after["kernel"], moved["kernel"] / lengths)
    helpers.assert_close(after["bias"], moved["bias"])


def test_between_projections_the_step_is_as_it_was(draw):
    params = {"kernel": draw((4, 3))}
    projection = optim.keep_unit_norm(every=3)
    state = projection.init(params)
    update = jax.jit(projection.update)
    for count in range(1, 7):
        step = {"kernel": draw((4, 3))}
        updates, state = update(step, state, params)
        after = np.asarray(params["kernel"]) + np.asarray(updates["kernel"])
        lengths = np.linalg.norm(after, axis=0)
        if count % 3:
            np.testing.assert_array_equal(updates["kernel"], step["kernel"])
            assert abs(lengths - 1).min() > 1e-3
        else:
            helpers.assert_close(lengths, np.ones(3))


def test_a_layer_answers_as_before_and_masked_ones_keep_their_length(draw):
    layer = helpers.filled(lambda: nn.SphereLinear(4, 3, eps=1e-6, rngs=nnx.Rngs(0)))
    x, before = draw((2, 4)), np.array(layer.kernel[...])
    answer = helpers.respond(layer, x)
    optimizer = nnx.Optimizer(layer, optim.keep_unit_norm(), wrt=nnx.Param)
    nothing = jax.tree.map(np.zeros_like, nnx.state(layer, nnx.Param))

    nnx.jit(lambda optimizer, layer, steps: optimizer.update(layer, steps))(
        optimizer, layer, nothing
    )
    helpers.assert_close(np.linalg.norm(layer.kernel[...], axis=0), np.ones(3))
    helpers.assert_close(helpers.respond(layer, x), np.float64(answer))
    params, nothing = {"kernel": before}, {"kernel": np.zeros_like(before)}
    masked = optax.masked(optim.keep_unit_norm(), {"kernel": False})
    updates, _ = jax.jit(masked.update)(nothing, masked.init(params), params)
    np.testing.assert_array_equal(updates["kernel"], nothing["kernel"])


def test_bad_arguments_are_named():
    with pytest.raises(ValueError, match="`every >= 1`, got `every=0`"):
        optim.keep_unit_norm(every=0)
    with pytest.raises(ValueError, match=r"needs a finite `eps > 0`, got `eps=0"):
        optim.keep_unit_norm(eps=0.0)
    projection = optim.keep_unit_norm()
    with pytest.raises(ValueError, match="needs the parameters"):
        projection.update({}, projection.init({}))
