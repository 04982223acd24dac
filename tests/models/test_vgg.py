import jax.numpy as jnp
import pytest
from flax import nnx

from hypersphere import models, nn
from tests.models.sizes import IMAGENET, count, shapes

VGG = models.VGG


@pytest.mark.parametrize(
    ("depth", "published", "with_norm"),
    [
        (11, 132_863_336, 132_868_840),
        pytest.param(13, 133_047_848, 133_053_736, marks=pytest.mark.slow),
        pytest.param(16, 138_357_544, 138_365_992, marks=pytest.mark.slow),
        pytest.param(19, 143_667_240, 143_678_248, marks=pytest.mark.slow),
    ],
)
def test_networks_have_torchvisions_number_of_parameters(depth, published, with_norm):
    ours = count(VGG, depth=depth, similarity=None, **IMAGENET)
    found = shapes(VGG, depth=depth, **IMAGENET)
    kernels = {path: shape for path, shape in found.items() if path[-1] == "kernel"}
    assert len(kernels) == depth
    biases = sum(shape[-1] for shape in kernels.values())  # theirs has one per filter
    assert ours.kernels + biases == published
    assert ours.kernels + ours.norms + biases == with_norm
    assert count(VGG, depth=depth, **IMAGENET) == ours


def test_the_layers_of_features_are_of_the_same_kind_and_cover_the_grid():
    for image_size, window in [(32, (1, 1)), (224, (7, 7)), ((40, 64), (2, 2))]:
        net = nnx.eval_shape(
            lambda size=image_size: VGG(image_size=size, rngs=nnx.Rngs(0))
        )
        first, second = net.feature_layers
        assert type(first.conv) is type(second.conv) is nn.SphereConv
        assert (first.conv.kernel_size, second.conv.kernel_size) == (window, (1, 1))
        assert first.norm is None and second.activation is models.relu


def test_dropout_is_after_each_layer_of_features():
    net = nnx.eval_shape(lambda: VGG(depth=11, dropout=0.5, rngs=nnx.Rngs(0)))
    images = jnp.ones((2, 32, 32, 3))
    with pytest.raises(ValueError, match="rngs"):
        nnx.eval_shape(lambda net: net.features(images), net)
    net.eval()
    nnx.eval_shape(lambda net: net(images), net)
    drops = []

    def call(net):
        net.dropout = lambda x, rngs: drops.append(x.shape) or x
        return net(images)

    nnx.eval_shape(call, net)
    assert drops == [(2, 1, 1, 4096), (2, 4096)]


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        (dict(depth=12), r"`VGG` needs `depth` to be 11, 13, 16 or 19, got `depth=12`"),
        (dict(image_size=(64, 31)), r"at least 32, got `image_size=\(64, 31\)`"),
        (dict(width=1 / 200), r"`VGG`.*leaves every layer a filter"),
    ],
)
def test_a_wrong_argument_is_named(as_a_user, arguments, message):
    with pytest.raises(ValueError, match=message):
        VGG(**arguments, rngs=nnx.Rngs(0))
