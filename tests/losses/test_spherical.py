"""Losses on plain scores: explicit loops in float64, and what changes nothing."""

import functools
import math

import jax
import jax.numpy as jnp
import numpy as np
import pytest

from hypersphere import losses
from tests import helpers, reference

SCORES = reference.normal(6, 5) * 3
LABELS = np.array([0, 4, 1, 2, 3, 0])


def spherical(scores, label, eps=1e-3):
    squares = [o * o + eps for o in scores]
    return -math.log(squares[label] / sum(squares))


def taylor(scores, label):
    parts = [1 + o + o * o / 2 for o in scores]
    return -math.log(parts[label] / sum(parts))


def z(scores, label, sharpness=1.0, target=2.0):
    mean = sum(scores) / len(scores)
    deviation = math.sqrt(sum((o - mean) ** 2 for o in scores) / len(scores))
    below = target - (scores[label] - mean) / deviation
    return math.log(1 + math.exp(sharpness * below)) / sharpness


PAIRS = {
    "spherical": (losses.spherical_softmax, spherical),
    "taylor": (losses.taylor_softmax, taylor),
    "z": (losses.z_loss, z),
    "z, sharper": (
        functools.partial(losses.z_loss, sharpness=3.0, target=1.0),
        functools.partial(z, sharpness=3.0, target=1.0),
    ),
}


@pytest.mark.parametrize(("loss", "truth"), PAIRS.values(), ids=PAIRS)
def test_values_are_those_of_the_loop(loss, truth):
    expected = [truth(*each) for each in zip(SCORES.tolist(), LABELS, strict=True)]
    helpers.assert_close(jax.jit(loss)(SCORES, LABELS), np.array(expected))


def test_the_z_loss_does_not_see_shift_and_scale():
    found = jax.jit(losses.z_loss)(SCORES, LABELS)
    moved = jax.jit(losses.z_loss)(50 * SCORES - 7, LABELS)
    np.testing.assert_allclose(moved, found, rtol=1e-4)


@pytest.mark.parametrize("loss", ["spherical_softmax", "taylor_softmax", "z_loss"])
def test_gradients_are_finite_whatever_the_scores(loss):
    @jax.jit
    def both(scores):
        total = lambda o: getattr(losses, loss)(o, jnp.asarray(LABELS)).sum()  # noqa: E731
        return jax.value_and_grad(total)(scores)

    for size in (0.0, 1e-30, 1.0, 1e20, 1e38):
        value, gradient = both((SCORES / 9 * size).astype(np.float32))
        assert jnp.isfinite(value) and jnp.isfinite(gradient).all(), size


@pytest.mark.parametrize(
    ("loss", "logits"),
    [
        (losses.spherical_softmax, losses.spherical_logits),
        (
            losses.taylor_softmax,
            lambda scores: losses.spherical_logits(scores + 1, eps=1.0),
        ),
    ],
    ids=["spherical", "taylor"],
)
def test_the_softmax_of_the_logits_is_the_loss(loss, logits):
    @jax.jit
    def both(scores, labels):
        return loss(scores, labels), losses.softmax(logits(scores), labels)

    np.testing.assert_allclose(*both(SCORES, LABELS), rtol=1e-5, atol=1e-6)
    assert np.isfinite(losses.spherical_logits(jnp.array([[0.0, 1e38, -1e38]]))).all()
