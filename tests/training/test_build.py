import jax.numpy as jnp
import numpy as np

from hypersphere import losses, ops, training
from hypersphere.training import _build

SHAPE = dict(image_shape=(8, 8, 3), num_classes=3)


def small(**model):
    config = training.TrainConfig()
    config.model.depth, config.model.width = 3, 1 / 64
    for name, value in model.items():
        setattr(config.model, name, value)
    return config


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
