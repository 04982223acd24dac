import functools

import jax
import numpy as np
import pytest

from hypersphere import losses
from tests.training.small import section

LABELS = np.array([0, 1, 2, 0, 1], np.int32)


def given(name, **fields):
    """The loss that a config names, where fields that it does not have are others'."""
    return section("loss", name=name, **fields).make()


@pytest.fixture
def outputs(draw):
    """Cosines and lengths of five examples."""
    return np.tanh(draw((5, 3))), np.full((5, 1), 3.0, np.float32)


def test_losses_are_those_of_the_package(outputs):
    truth = {
        "w_softmax": losses.w_softmax,
        "ga_softmax": functools.partial(losses.ga_softmax, margin=2.0),
        "a_softmax": functools.partial(losses.a_softmax, margin=2.0),
    }

    def each(cos, norm, labels):
        for name, loss in truth.items():
            ours = given(name, margin=2.0)
            yield ours((cos, norm), labels, 0), loss(cos, labels, feature_norm=norm)
        plain = given("softmax", label_smoothing=0.1, floor=1e-3)
        smooth = losses.softmax(cos, labels, label_smoothing=0.1, floor=1e-3)
        yield plain(cos, labels, 0), smooth
        ours = given("w_softmax", label_smoothing=0.01, floor=1e-4)(
            (cos, norm), labels, 0
        )
        smooth = losses.softmax(norm * cos, labels, label_smoothing=0.01, floor=1e-4)
        yield ours, smooth

    pairs = jax.jit(lambda *arguments: list(each(*arguments)))
    for ours, expected in pairs(*outputs, LABELS):
        np.testing.assert_array_equal(ours, expected)


def test_the_margin_is_annealed_in_by_the_step(outputs):
    loss = given("ga_softmax", similarity="cosine", anneal=True)
    weight = losses.annealed_margin_weight()

    @jax.jit
    def both(cos, norm, labels, step):
        truth = losses.a_softmax(
            cos, labels, feature_norm=norm, margin_weight=weight(step)
        )
        return loss((cos, norm), labels, step), truth

    for step in (0, 1_000, 100_000):
        ours, truth = both(*outputs, LABELS, np.int32(step))
        np.testing.assert_allclose(ours, truth, rtol=1e-6)
