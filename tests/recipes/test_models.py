import json

import numpy as np
import pytest
from flax import nnx

from hypersphere import models, nn, ops, training
from hypersphere.training.settings import check
from tests.training.small import config_of, section

IMAGES = training.Images("", (8, 8, 3), 3, 9)


def small(**model):
    config = training.TrainConfig()
    config.model.depth, config.model.width = 3, 1 / 64
    for name, value in model.items():
        setattr(config.model, name, value)
    return config


def test_the_similarity_has_the_softness_of_the_config():
    model = shape_of(8, similarity="sigmoid", k=0.2)
    assert model.stages[0][0].conv.similarity == ops.Sigmoid(0.2)


def shape_of(image_size=32, **model):
    """The network of a config, without computing its parameters."""
    config = small(**model)
    images = IMAGES._replace(image_shape=(image_size, image_size, 3))
    return nnx.eval_shape(lambda: config.model.make(config, images))


@pytest.mark.parametrize(
    ("name", "fields", "kind"),
    [
        ("spherenet", dict(depth=3), models.SphereNet),
        ("resnet", dict(depth=20, width=1.0), models.ResNet),
        pytest.param(
            *("vgg", dict(depth=11, width=1.0), models.VGG), marks=pytest.mark.slow
        ),
        pytest.param(
            *("googlenet", dict(width=1.0), models.GoogLeNet), marks=pytest.mark.slow
        ),
        ("decoupled_resnet", {}, models.DecoupledResNet),
    ],
)
def test_the_network_is_the_one_of_the_config(name, fields, kind):
    net = shape_of(name=name, **fields)
    assert type(net) is kind
    assert net.head.kernel.shape[-1] == 3


def test_a_config_says_what_a_resnet_is_made_of():
    net = shape_of(name="resnet", depth=20, width=0.5)
    assert type(net.stages[1][0].shortcut.conv) is nnx.Conv and net.final is None
    other = dict(shortcut="identity", pre_activation=True, magnitude="ball")
    net = shape_of(name="resnet", depth=20, width=0.5, **other)
    assert not isinstance(net.stages[1][0].shortcut, nnx.Module)
    assert net.final is not None
    assert net.stem.conv.magnitude == ops.magnitudes.Ball()


def test_a_decoupled_resnet_has_slopes_or_no_activation_at_all():
    activation = lambda **model: (  # noqa: E731
        shape_of(name="decoupled_resnet", **model).root.activation
    )
    assert isinstance(activation(), models.PReLU)
    assert activation(relu=False) is None


def test_without_a_magnitude_convolutions_are_spherical_or_plain():
    kind = lambda **model: type(  # noqa: E731
        shape_of(name="decoupled_resnet", **model).root.conv
    )
    assert kind() is nn.SphereConv
    assert kind(magnitude="tanh") is nn.DecoupledConv
    assert kind(similarity="none") is nnx.Conv


@pytest.mark.parametrize(
    ("fields", "message"),
    [
        (
            dict(name="resnets"),
            r"`config\.model\.name` needs one of 'spherenet', 'resnet', 'vgg', "
            r"'googlenet', 'decoupled_resnet', got 'resnets'. Did you mean 'resnet'",
        ),
        (dict(magnitude="tan"), r"magnitude` needs one of '', 'sphere', .*mean 'tanh'"),
        (dict(name="resnet"), r"`ResNet` needs `depth` to be 20, .*got `depth=3`"),
    ],
)
def test_what_does_not_exist_is_named(as_a_user, fields, message):
    with pytest.raises(ValueError, match=message):
        config = small(**fields)
        check(config)
        config.model.make(config, IMAGES)


def test_a_config_without_the_newer_fields_is_a_spherenet():
    newer = {"name", "magnitude"}
    fields = json.loads(training.to_json(training.TrainConfig()))
    fields["model"] = {k: v for k, v in fields["model"].items() if k not in newer}
    assert training.from_json(json.dumps(fields)) == training.TrainConfig()


@pytest.mark.slow
@pytest.mark.parametrize(
    "fields",
    [
        dict(name="decoupled_resnet", width=1 / 32, magnitude="tanh"),
        dict(name="vgg", depth=11, width=1 / 32, dropout=0.5),
    ],
    ids=lambda fields: fields["name"],
)
def test_networks_train_in_the_program(tmp_path, fields):
    config = config_of({"data.source": "synthetic:32x32x1,classes=3,examples=48"})
    config.steps, config.model = 3, section("model", momentum=0.5, **fields)
    result = training.train(config, tmp_path)
    assert result["steps"] == 3 and np.isfinite(result["test_loss"])
    names = np.load(tmp_path / "kernels.npz").files
    assert len(names) == {"decoupled_resnet": 18, "vgg": 10}[fields["name"]]


def test_filters_can_begin_orthogonal():
    config = small(kernel_init="orthogonal")
    kernel = config.model.make(config, IMAGES).stages[0][0].conv.kernel[...]
    filters = np.asarray(kernel).reshape(-1, kernel.shape[-1])
    gram = filters.T @ filters / 2
    np.testing.assert_allclose(gram, np.eye(len(gram)), atol=1e-5)
    assert len(gram) > 1
