import functools

import jax
import jax.numpy as jnp
import numpy as np
import pytest
from flax import nnx

from hypersphere import losses, recipes, training
from hypersphere.training.run._load import restored
from hypersphere.training.settings._durations import resolve
from tests.training.small import config_of, section

LABELS = np.array([0, 1, 2, 0, 1], np.int32)


def given(name, **fields):
    """The loss that a config names, where fields that it does not have are others'."""
    return section("loss", name=name, **fields).make(None)


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


def combined(cos, labels, *, margin):
    """The three margins of `combined_margin`, as shares of its defaults."""
    return losses.combined_margin(
        cos, labels, times=1.0, angular=0.3 * margin, cosine=0.2 * margin
    )


def magnetic(cos, labels, *, margin):
    """Both margins of `magface`, as shares of its defaults."""
    margins = 0.45 * margin, 0.8 * margin
    norm = jnp.full((5, 1), 3.0)
    return losses.magface(cos, labels, feature_norm=norm, margins=margins)


RAMPED = {
    "combined_margin": (1.0, 0.0, combined),
    "arcface": (0.5, 0.0, losses.arcface),
    "cosface": (0.35, 0.0, losses.cosface),
    "sphereface": (1.7, 1.0, losses.sphereface),
    "sphereface_r": (1.5, 1.0, losses.sphereface_r),
    "magface": (1.0, 0.0, magnetic),
}


@pytest.mark.parametrize("name", RAMPED)
def test_a_margin_comes_in_shares_of_the_run(name, outputs):
    config = training.TrainConfig(steps=400)
    config.loss = {"name": name, "ramp_begin": "10%", "ramp_end": "50%"}
    config.loss.ramp_shape = "linear"
    made = resolve(config, examples=100).loss.make(None)
    whole, none, loss = RAMPED[name]
    both = jax.jit(
        lambda cos, norm, margin, step: (
            made((cos, norm), jnp.asarray(LABELS), step),
            loss(cos, jnp.asarray(LABELS), margin=margin),
        )
    )
    for step, share in ((0, 0.0), (40, 0.0), (120, 0.5), (200, 1.0), (399, 1.0)):
        margin = none + (whole - none) * share
        ours, truth = both(*outputs, margin, np.int32(step))
        np.testing.assert_allclose(ours, truth, rtol=1e-5)


def test_a_ramp_that_ends_before_it_begins_is_refused():
    with pytest.raises(ValueError, match=r"ramp_end.*after.*got 0 and 10 steps"):
        given("arcface", ramp_begin=10)


STATEFUL = {"adaface", "curricularface", "adacos"}
IMAGES = training.Images("", (8, 8, 1), 3, 48)


def test_every_loss_is_called_by_its_name_and_keeps_what_it_needs(outputs):
    made = {name: kind().make(IMAGES) for name, kind in recipes.LOSSES.items()}
    split = {
        name: nnx.split(loss) if isinstance(loss, nnx.Module) else (None, loss)
        for name, loss in made.items()
    }
    states = {name: state for name, (graph, state) in split.items() if graph}
    assert states.keys() == {*STATEFUL, "sphereface2"}

    @jax.jit
    def called(states, cos, norm):
        found = {}
        for name, (graph, loss) in split.items():
            call = loss if graph is None else nnx.merge(graph, states[name])
            is_linear = recipes.LOSSES[name].head == "linear"
            given = cos if is_linear else (cos, norm)
            found[name] = call(given, jnp.asarray(LABELS), 0)
            if graph is not None:
                states[name] = nnx.state(call)
        return found, states

    found, after = called(states, *outputs)
    for name, loss in found.items():
        assert loss.shape == (5,) and np.isfinite(loss).all(), name
    for name, state in states.items():
        pairs = zip(jax.tree.leaves(state), jax.tree.leaves(after[name]), strict=True)
        assert any(one != other for one, other in pairs) == (name in STATEFUL), name


def test_in_an_evaluation_what_a_loss_keeps_stays_and_the_batch_does_not_matter(
    outputs,
):
    made = {name: recipes.LOSSES[name]().make(IMAGES) for name in STATEFUL}
    for loss in made.values():
        loss.eval()
    split = {name: nnx.split(loss) for name, loss in made.items()}

    @jax.jit
    def called(cos, norm, labels):
        merged = {name: nnx.merge(*parts) for name, parts in split.items()}
        found = {name: loss((cos, norm), labels, 0) for name, loss in merged.items()}
        return found, {name: nnx.state(loss) for name, loss in merged.items()}

    whole, after = called(*outputs, jnp.asarray(LABELS))
    rows = slice(0, 2)
    part, _ = called(*(x[rows] for x in outputs), jnp.asarray(LABELS[rows]))
    for name, (_, before) in split.items():
        np.testing.assert_allclose(part[name], whole[name][rows], rtol=1e-6)
        jax.tree.map(np.testing.assert_array_equal, after[name], before)


@pytest.mark.slow
@pytest.mark.parametrize("name", ["adaface", "sphereface2"])
def test_what_a_loss_keeps_is_trained_and_saved(name, tmp_path):
    result = training.train(config_of({"loss.name": name}), tmp_path)
    assert np.isfinite(result["test_loss"])
    _, state, _ = restored(tmp_path)
    start = recipes.LOSSES[name]().make(IMAGES)
    own = {"adaface": state.stats, "sphereface2": state.params}[name]["loss"]
    before = jax.tree.leaves(nnx.state(start, nnx.Variable))
    assert all(
        one != other for one, other in zip(jax.tree.leaves(own), before, strict=True)
    )


def test_the_predicted_class_is_the_most_probable_one():
    scores = np.array([[-3.0, 2.0, 0.5], [-1.5, -1.0, -0.5]], np.float32)
    for name, predicted in (("softmax", [1, 2]), ("spherical_softmax", [0, 0])):
        found = recipes.LOSSES[name]().scores(scores)
        np.testing.assert_array_equal(np.argmax(found, -1), predicted)
    every = jax.jit(jax.vmap(losses.taylor_softmax, (None, 0)))
    each = every(scores, np.tile(np.arange(3, dtype=np.int32)[:, None], 2))
    best = np.argmin(each, axis=0)
    found = recipes.LOSSES["taylor_softmax"]().scores(scores)
    np.testing.assert_array_equal(found[[0, 1], best], found.max(-1))
