import jax
import numpy as np
import pytest

from tests.helpers import respond
from tests.training.small import arrays, config_of, fresh, set_up, train_images


@pytest.fixture(scope="module")
def setup():
    return set_up(config_of())


def images_of(setup):
    return jax.device_put(train_images(setup, 0))


def normalized(images):
    return (np.asarray(images, np.float32) - 127.5) / 128


def test_the_template_is_what_the_beginning_is(setup):
    state, template = setup.program.init(), setup.program.template
    assert jax.tree.structure(state) == jax.tree.structure(template)
    for leaf, promised in zip(*map(jax.tree.leaves, (state, template)), strict=True):
        assert (leaf.shape, leaf.dtype) == (promised.shape, promised.dtype)
        assert leaf.sharding == promised.sharding
    assert (int(state.step), int(state.position), int(state.skipped)) == (0, 0, 0)


def test_a_step_takes_the_memory_of_the_state_it_was_given(setup):
    state = fresh(setup)
    after, _ = setup.program.train(state, *setup.feed.take(0, 1))
    assert all(leaf.is_deleted() for leaf in jax.tree.leaves(state.params))
    assert (int(after.step), int(after.position)) == (1, 1)


def test_a_pool_in_order_is_the_batch_of_these_images(setup):
    pool, order = setup.feed.take(0, 1)
    chosen, _ = setup.program.train(fresh(setup), pool, order)
    given, _ = setup.program.train(fresh(setup), images_of(setup), None)
    near = lambda a, b: np.testing.assert_allclose(a, b, rtol=1e-5, atol=1e-7)  # noqa: E731
    jax.tree.map(near, chosen.params, given.params)


def test_an_evaluation_sums_what_has_weight(setup):
    state, (images, labels) = fresh(setup), images_of(setup)
    weights = np.array([1, 0, 1, 1, 0.5, 0, 1, 1], np.float32)
    sums = setup.program.judge(state, (images, labels), None, weights)
    scores = respond(setup.program.task.model(state), normalized(images))
    scores = np.asarray(scores, np.float64)
    log_sums = np.log(np.exp(scores).sum(1))
    each = log_sums - scores[np.arange(8), np.asarray(labels)]
    right = scores.argmax(1) == np.asarray(labels)
    assert float(sums["examples"]) == 5.5
    assert float(sums["loss"]) == pytest.approx((weights * each).sum(), rel=1e-5)
    assert float(sums["accuracy"]) == (weights * right).sum()


def test_features_are_what_the_head_of_the_model_sees(setup):
    state, pool = fresh(setup), images_of(setup)
    features = setup.program.features(state, pool, None)
    model = setup.program.task.model(state)
    expected = jax.jit(model.features)(normalized(pool[0]))
    np.testing.assert_allclose(features, expected, rtol=1e-5, atol=1e-6)


def test_what_is_brought_everywhere_stays_what_it_is(setup):
    tree = jax.device_put({"a": np.arange(3), "b": np.ones((2, 2), np.float32)})
    whole = setup.program.everywhere(tree)
    assert all(leaf.is_fully_replicated for leaf in jax.tree.leaves(whole))
    jax.tree.map(np.testing.assert_array_equal, arrays(whole), arrays(tree))


def test_operations_are_counted_for_one_step_whatever_the_call(setup):
    template = setup.program.template
    one = setup.program.flops(template, *setup.feed.take(0, 1))
    assert one == setup.program.flops(template, *setup.feed.take(0, 3))
    # Twice the products and sums of the first convolution, forward alone.
    assert one > 2 * 8 * 8 * 8 * 9 * 2
