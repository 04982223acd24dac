"""Optimizers by name that keep parameters on spheres."""

import chex
import jax
import optax
import pytest

from hypersphere import optim
from hypersphere.recipes._parameters import path_of
from tests import helpers
from tests.recipes.test_optimizers import (
    PLAIN,
    RATE,
    SPHERICAL,
    config_of,
    gradients as gradients,
    model as model,
    params as params,
    trained,
)


def by_hand(chosen, sphere, rest):
    """Some parameters by one optimizer, the others by another one."""
    label = lambda params: jax.tree_util.tree_map_with_path(  # noqa: E731
        lambda keys, _: "sphere" if path_of(keys) in chosen else "rest", params
    )
    return optax.partition({"sphere": sphere, "rest": rest}, label)


INNER = {"layers.0.kernel", "layers.1.layer.kernel", "plain.kernel"}  # not the head's


def truths():
    """What each name means, at a falling rate."""
    rate = optax.cosine_decay_schedule(RATE, 10)
    adam = optax.adam(rate)
    return {
        "riemannian_sgd": by_hand(
            SPHERICAL,
            optim.riemannian_sgd(rate, momentum=0.9),
            optax.sgd(rate, momentum=0.9),
        ),
        "riemannian_adam": by_hand(SPHERICAL, optim.riemannian_adam(rate), adam),
        "hyperball": by_hand(INNER, optim.hyperball(optax.scale_by_adam(), rate), adam),
        "adamp": optim.adamp(rate),
        "sgdp": optim.sgdp(rate, momentum=0.9),
    }


@pytest.mark.parametrize(
    "name", helpers.sampled(truths(), "riemannian_adam", "hyperball")
)
def test_those_on_spheres_are_ours_for_what_belongs_there(
    name, model, params, gradients
):
    config = config_of(name, schedule="cosine")
    ours, _ = trained(config.make(10, model), params, gradients)
    expected, _ = trained(truths()[name], params, gradients)
    chex.assert_trees_all_close(ours, expected, rtol=1e-6, atol=1e-7)


def test_what_is_projected_decays_by_its_own_rule(model, params, gradients):
    config = config_of("adamp", weight_decay=0.1)
    ours, _ = trained(config.make(10, model), params, gradients)
    truth = by_hand(PLAIN, optim.adamp(RATE, weight_decay=0.1), optim.adamp(RATE))
    expected, _ = trained(truth, params, gradients)
    chex.assert_trees_all_close(ours, expected, rtol=1e-6, atol=1e-7)


@pytest.mark.parametrize(
    ("fields", "message"),
    [
        ({"weight_decay": 0.1, "decay": ("*.kernel",)}, "would do nothing"),
        ({"unit_norm_every": 1}, "which keeps lengths at every step"),
        ({"frozen": ("layers.*",)}, "there are none in this network"),
    ],
)
def test_what_spheres_have_no_use_for_is_refused(fields, message, model):
    with pytest.raises(ValueError, match=message):
        config_of("riemannian_adam", **fields).make(10, model)
