"""Optimizers by name that keep parameters on spheres."""

import chex
import jax
import numpy as np
import optax
import pytest

from hypersphere import optim
from hypersphere.recipes._muon import muon
from hypersphere.recipes._parameters import path_of
from tests import helpers
from tests.recipes.test_optimizers import (
    PLAIN,
    RATE,
    SPHERICAL,
    STEPS,
    by_path,
    config_of,
    followed,
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
        "hyperball around muon": by_hand(
            INNER, optim.hyperball(optax.chain(*muon(INNER)), rate), adam
        ),
        "hyperball of filters": by_hand(
            INNER, optim.spherical(optax.scale_by_adam(), rate), adam
        ),
        "manifold_muon": by_hand(
            INNER,
            optax.chain(
                optax.ema(0.9, debias=False), optim.manifold_muon(rate, dual_steps=3)
            ),
            adam,
        ),
        "adamp": optim.adamp(rate),
        "sgdp": optim.sgdp(rate, momentum=0.9),
    }


@pytest.mark.parametrize(
    "name", helpers.sampled(truths(), "riemannian_adam", "hyperball around muon")
)
def test_those_on_spheres_are_ours_for_what_belongs_there(
    name, model, params, gradients
):
    fields = {
        "hyperball around muon": {"base": "muon"},
        "hyperball of filters": {"each_filter": True},
        "manifold_muon": {"dual_steps": 3},
    }.get(name, {})
    config = config_of(name.split()[0], schedule="cosine", **fields)
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
        ({"keep_norm_every": 1}, "which keeps lengths at every step"),
        ({"frozen": ("layers.*",)}, "there are none in this network"),
    ],
)
def test_what_spheres_have_no_use_for_is_refused(fields, message, model):
    with pytest.raises(ValueError, match=message):
        config_of("riemannian_adam", **fields).make(10, model)


def test_kernels_are_brought_back_to_the_norm_they_began_with(model, params, gradients):
    optimizer = config_of("adam", keep_norm_every=STEPS).make(10, model)
    begun, (*_, ended) = by_path(params), followed(optimizer, params, gradients)[0]
    changed = {
        path: abs(np.linalg.norm(ended[path]) / np.linalg.norm(begun[path]) - 1)
        for path in begun
    }
    assert all(changed[path] < 1e-6 for path in INNER)
    assert all(change > 1e-4 for path, change in changed.items() if path not in INNER)


@pytest.mark.parametrize(
    ("fields", "message"),
    [
        ({"unit_norm_every": 2}, "to different lengths"),
        ({"weight_decay": 0.1, "decay": ("plain.kernel",)}, "would do nothing"),
        ({"frozen": ("layers.*", "plain.*")}, "there are none"),
    ],
)
def test_norms_that_cannot_be_kept_are_refused(fields, message, model):
    with pytest.raises(ValueError, match=message):
        config_of("adam", keep_norm_every=1, **fields).make(10, model)


def test_decay_of_filters_that_are_brought_back_to_length_one_is_refused(model):
    config = config_of("adam", unit_norm_every=1, weight_decay=0.1, decay=("*.kernel",))
    with pytest.raises(ValueError, match=r"`config.optim.unit_norm_every=1` keeps"):
        config.make(10, model)
    config.unit_norm_every = 2  # between whiles it acts
    config.make(10, model)


@pytest.mark.slow
def test_normuon_is_muon_with_filters_that_move_alike(model, params, gradients):
    ours, _ = trained(config_of("normuon").make(10, model), params, gradients)
    only_inner = lambda tree: jax.tree_util.tree_map_with_path(  # noqa: E731
        lambda keys, _: path_of(keys) in INNER, tree
    )
    truth = optax.chain(
        *muon(INNER),
        optax.masked(optim.scale_by_filter_rms(), only_inner),
        optax.scale_by_learning_rate(RATE),
    )
    expected, _ = trained(truth, params, gradients)
    chex.assert_trees_all_close(ours, expected, rtol=1e-6, atol=1e-7)
