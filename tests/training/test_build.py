import jax
import jax.numpy as jnp
import numpy as np
import optax
import pytest
from flax import nnx

from hypersphere import losses, ops, training
from hypersphere.training import _build

SHAPE = dict(image_shape=(8, 8, 3), num_classes=3)


def small(**model):
    config = training.TrainConfig()
    config.model.depth, config.model.width = 3, 1 / 64
    for name, value in model.items():
        setattr(config.model, name, value)
    return config


@pytest.mark.parametrize(
    ("schedule", "warmup", "expected"),
    [
        ("constant", 0, {0: 0.1, 99: 0.1}),
        ("constant", 10, {0: 0.0, 5: 0.05, 10: 0.1, 99: 0.1}),
        ("piecewise", 0, {29: 0.1, 30: 0.01, 59: 0.01, 60: 0.001}),
        ("piecewise", 10, {5: 0.05, 29: 0.1, 30: 0.01, 60: 0.001}),
        ("cosine", 0, {0: 0.1, 50: 0.05, 100: 0.0}),
        ("cosine", 20, {10: 0.05, 20: 0.1, 60: 0.05, 100: 0.0}),
    ],
)
def test_schedules_reach_what_they_say(schedule, warmup, expected):
    config = training.OptimConfig(
        learning_rate=0.1, schedule=schedule, boundaries=(30, 60), warmup_steps=warmup
    )
    rate = _build.make_schedule(config, 100)
    for step, value in expected.items():
        np.testing.assert_allclose(rate(step), value, atol=1e-7)


def test_optimizers_are_those_of_optax():
    gradient = {"w": jnp.array([1.0, -2.0])}
    pairs = {
        "adam": optax.adam(0.1),
        "sgd": optax.sgd(0.1, momentum=0.8, nesterov=True),
    }
    for name, truth in pairs.items():
        config = training.OptimConfig(name=name, momentum=0.8, nesterov=True)
        ours = _build.make_optimizer(config, optax.constant_schedule(0.1))
        update, _ = ours.update(gradient, ours.init(gradient), gradient)
        expected, _ = truth.update(gradient, truth.init(gradient), gradient)
        np.testing.assert_allclose(update["w"], expected["w"], rtol=1e-6)


def test_losses_are_those_of_the_package(draw):
    cos = jnp.tanh(draw((5, 3)))
    norm = jnp.full((5, 1), 3.0)
    labels = jnp.array([0, 1, 2, 0, 1])
    expected = {
        "w_softmax": losses.w_softmax(cos, labels, feature_norm=norm),
        "ga_softmax": losses.ga_softmax(cos, labels, feature_norm=norm, margin=2.0),
        "a_softmax": losses.a_softmax(cos, labels, feature_norm=norm, margin=2.0),
    }
    for name, truth in expected.items():
        loss = _build.make_loss(training.LossConfig(name=name, margin=2.0))
        np.testing.assert_array_equal(loss((cos, norm), labels, 0), truth)
    plain = _build.make_loss(training.LossConfig(label_smoothing=0.1, floor=1e-3))
    truth = losses.softmax(cos, labels, label_smoothing=0.1, floor=1e-3)
    np.testing.assert_array_equal(plain(cos, labels, 0), truth)


def test_the_margin_is_annealed_in_by_the_step(draw):
    cos = jnp.tanh(draw((5, 3)))
    norm, labels = jnp.full((5,), 3.0), jnp.array([0, 1, 2, 0, 1])
    config = training.LossConfig(name="ga_softmax", similarity="cosine", anneal=True)
    loss = _build.make_loss(config)
    weight = losses.annealed_margin_weight()
    for step in (0, 1_000, 100_000):
        truth = losses.a_softmax(
            cos, labels, feature_norm=norm, margin_weight=weight(step)
        )
        np.testing.assert_allclose(loss((cos, norm), labels, step), truth, rtol=1e-6)


def test_the_penalty_is_orthogonality_on_spheres_and_l2_on_the_rest():
    model = _build.make_model(small(similarity="learnable_sigmoid"), **SHAPE)
    flat = {
        ".".join(map(str, path)): np.asarray(leaf[...], np.float64)
        for path, leaf in nnx.to_flat_state(nnx.state(model, nnx.Param))
    }
    orthogonality, l2 = 0.0, 0.0
    for path, value in flat.items():
        if path.endswith("conv.kernel"):
            w = value.reshape(-1, value.shape[-1])
            orthogonality += np.sum((w.T @ w - np.eye(w.shape[1])) ** 2)
        elif not path.endswith("raw"):
            l2 += np.sum(value**2)
    assert orthogonality > 0 and l2 > 0
    config = training.OptimConfig(orthogonality=0.5, l2=0.25)
    np.testing.assert_allclose(
        _build.penalty(model, config), 0.5 * orthogonality + 0.25 * l2, rtol=1e-5
    )


def test_the_plain_twin_has_l2_in_place_of_orthogonality():
    model = _build.make_model(small(similarity="none"), **SHAPE)
    everything = sum(
        float(jnp.sum(jnp.square(leaf)))
        for leaf in jax.tree.leaves(nnx.state(model, nnx.Param))
    )
    config = training.OptimConfig(orthogonality=1.0, l2=0.25)
    np.testing.assert_allclose(
        _build.penalty(model, config), 0.25 * everything, rtol=1e-5
    )


def test_the_kernel_inside_a_sphere_norm_counts_once_and_as_a_sphere():
    model = _build.make_model(small(sphere_norm=True, batch_norm=False), **SHAPE)
    kernels = [
        np.asarray(leaf[...], np.float64).reshape(-1, leaf.shape[-1])
        for path, leaf in nnx.to_flat_state(nnx.state(model, nnx.Param))
        if path[-2] == "layer"
    ]
    truth = sum(np.sum((w.T @ w - np.eye(w.shape[1])) ** 2) for w in kernels)
    penalty = _build.penalty(model, training.OptimConfig(orthogonality=1.0))
    np.testing.assert_allclose(penalty, truth, rtol=1e-5)


def test_the_similarity_has_the_softness_of_the_config():
    config = small(similarity="sigmoid", k=0.2)
    model = _build.make_model(config, **SHAPE)
    assert model.stages[0][0].conv.similarity == ops.Sigmoid(0.2)


def test_w_softmax_takes_the_authors_smoothing(draw):
    cos, norm = jnp.tanh(draw((5, 3))), jnp.full((5, 1), 3.0)
    labels = jnp.array([0, 1, 2, 0, 1])
    config = training.LossConfig(name="w_softmax", label_smoothing=0.01, floor=1e-4)
    truth = losses.softmax(norm * cos, labels, label_smoothing=0.01, floor=1e-4)
    np.testing.assert_allclose(
        _build.make_loss(config)((cos, norm), labels, 0), truth, rtol=1e-6
    )
