import jax
import numpy as np
import pytest
from flax import nnx

from hypersphere import models, nn, ops
from hypersphere.models import _resnet
from tests import helpers, reference
from tests.models.sizes import IMAGENET, count, shapes

ResNet = models.ResNet
BASIC = _resnet._Plan((16, 16, 32, 64), (1, 2, 1))
BOTTLENECK = BASIC._replace(is_bottleneck=True)


def filled(**arguments):
    return helpers.filled(lambda: ResNet(**arguments, rngs=nnx.Rngs(0)))


@pytest.mark.parametrize(
    ("depth", "published"),
    [
        pytest.param(18, 11_689_512, marks=pytest.mark.slow),
        pytest.param(34, 21_797_672, marks=pytest.mark.slow),
        (50, 25_557_032),
        pytest.param(101, 44_549_160, marks=pytest.mark.slow),
        pytest.param(152, 60_192_808, marks=pytest.mark.slow),
    ],
)
def test_imagenet_networks_have_torchvisions_number_of_parameters(depth, published):
    ours = count(ResNet, depth=depth, similarity=None, **IMAGENET)
    bias_of_the_head = 1_000
    assert sum(ours) + bias_of_the_head == published


@pytest.mark.parametrize(
    ("depth", "published"),
    [
        (20, 269_722),
        pytest.param(32, 464_154, marks=pytest.mark.slow),
        pytest.param(44, 658_586, marks=pytest.mark.slow),
        pytest.param(56, 853_018, marks=pytest.mark.slow),
        pytest.param(110, 1_727_962, marks=pytest.mark.slow),
    ],
)
def test_cifar_networks_have_the_published_number_of_parameters(depth, published):
    ours = count(ResNet, depth=depth, shortcut="identity", similarity=None)
    bias_of_the_head = 10
    assert sum(ours) + bias_of_the_head == published


@pytest.mark.slow
def test_the_authors_wide_network_has_their_number_of_weights():
    authors = (16_687_392, 14_784, 0)
    assert count(ResNet, depth=32, width=6) == authors
    assert count(ResNet, depth=32, width=6, similarity=None) == authors


def test_projections_are_plain_and_the_rest_is_spherical():
    net = nnx.eval_shape(lambda: ResNet(rngs=nnx.Rngs(0)))
    units = [unit for stage in net.stages for unit in stage]
    projections = [unit.shortcut for unit in units if unit.shortcut]
    assert [type(p.conv) for p in projections] == [nnx.Conv, nnx.Conv]
    assert [p.conv.strides for p in projections] == [2, 2]
    assert all(p.norm and not p.activation for p in projections)
    layers = [net.stem, *(layer for unit in units for layer in unit.layers)]
    assert len(layers) == 19
    assert all(type(layer.conv) is nn.SphereConv for layer in layers)


def test_spherical_shortcuts_are_like_the_other_layers():
    def net(**arguments):
        return nnx.eval_shape(lambda: ResNet(**arguments, rngs=nnx.Rngs(0)))

    def made(net):
        units = [unit for stage in net.stages for unit in stage]
        return [unit.shortcut for unit in units if unit.shortcut]

    for choices in ({}, {"pre_activation": True}):
        ours = made(net(shortcut="spherical", **choices))
        plain = made(net(**choices))
        assert [type(p.conv) for p in ours] == [nn.SphereConv, nn.SphereConv]
        for one, other in zip(ours, plain, strict=True):
            assert one.conv.kernel.shape == other.conv.kernel.shape
            assert one.conv.strides == other.conv.strides == 2
            assert type(one.norm) is type(other.norm) and not one.activation
    (first, _) = made(net(shortcut="spherical", similarity=None))
    assert type(first.conv) is nnx.Conv


def test_the_stride_of_a_bottleneck_is_on_its_3x3():
    net = nnx.eval_shape(lambda: ResNet(depth=50, rngs=nnx.Rngs(0)))
    layers = net.stages[1][0].layers
    assert [layer.conv.strides for layer in layers] == [1, 2, 1]
    assert [layer.conv.kernel_size for layer in layers] == [(1, 1), (3, 3), (1, 1)]


def test_twelve_units_keep_their_order_through_a_pure_dictionary(monkeypatch):
    monkeypatch.setitem(_resnet._PLANS, 1, BASIC._replace(units=(12, 1, 1)))
    net = filled(depth=1, width=1 / 16, image_size=4)
    graph, params, rest = nnx.split(net, nnx.Param, ...)
    for index, unit in enumerate(net.stages[0]):
        bias = jax.device_put(np.full(1, index, np.float32))
        unit.layers[0].norm.bias[...] = bias
    pure = nnx.to_pure_dict(nnx.state(net, nnx.Param))
    merged = nnx.merge(graph, pure, rest)
    biases = [unit.layers[0].norm.bias[...] for unit in merged.stages[0]]
    order = [np.asarray(bias)[0] for bias in biases]
    assert order == list(range(12))


def test_an_activated_network_before_its_convolutions_ends_in_one_more():
    paths = shapes(ResNet, pre_activation=True)
    assert ("final", "norm", "scale") in paths
    assert ("stem", "norm", "scale") not in paths
    assert not any(path[-3:-1] == ("shortcut", "norm") for path in paths)


class Naive:
    """The forward pass in NumPy: slow, float64, with weights by their paths."""

    def __init__(self, net, *, is_cosine, before):
        flat = nnx.to_flat_state(nnx.state(net, nnx.Param))
        self.weights = {path: np.asarray(leaf[...], np.float64) for path, leaf in flat}
        self.is_cosine, self.before = is_cosine, before

    def has(self, *path):
        return any(found[: len(path)] == path for found in self.weights)

    def conv(self, x, path, strides=1):
        kernel = self.weights[(*path, "conv", "kernel")]
        flat = kernel.reshape(-1, kernel.shape[-1])
        patches = reference.patches(
            x, kernel.shape[:2], (strides,) * 2, "SAME", (1, 1), (1, 1)
        )
        rows = np.array([patch.reshape(len(x), -1) for _, _, patch in patches])
        answer = rows @ flat
        if self.is_cosine and path[-1] != "shortcut":
            answer /= np.sqrt(np.sum(flat**2, 0) + 1e-4)
            answer /= np.sqrt(np.sum(rows**2, -1, keepdims=True) + 1e-4)
        side = -(-x.shape[1] // strides)
        return np.moveaxis(answer, 0, 1).reshape(len(x), side, side, -1)

    def norm(self, x, path):
        scale, bias = (self.weights[(*path, "norm", n)] for n in ("scale", "bias"))
        unit = (x - x.mean((0, 1, 2))) / np.sqrt(x.var((0, 1, 2)) + 1e-5)
        return scale * unit + bias

    def shortcut(self, x, path, y, strides):
        if self.has(*path, "shortcut"):
            x = self.conv(x, (*path, "shortcut"), strides)
            return x if self.before else self.norm(x, (*path, "shortcut"))
        x = x[:, ::strides, ::strides]
        return np.pad(x, [(0, 0)] * 3 + [(0, y.shape[-1] - x.shape[-1])])

    def unit(self, x, path, strides):
        count = sum(self.has(*path, "layers", i) for i in range(3))
        inputs = relu(self.norm(x, (*path, "entry"))) if self.before else x
        is_activated = path[1:] == (0, 0) or self.has(*path, "shortcut")
        y = inputs
        for i in range(count):
            layer = (*path, "layers", i)
            is_last = i == count - 1
            y = self.conv(y, layer, strides if i == count - 2 else 1)
            y = self.norm(y, layer) if not (is_last and self.before) else y
            y = relu(y) if not is_last else y
        y = y + self.shortcut(inputs if is_activated else x, path, y, strides)
        return y if self.before else relu(y)

    def scores(self, x):
        is_large = self.weights["stem", "conv", "kernel"].shape[0] == 7
        x = self.conv(np.asarray(x, np.float64), ("stem",), 2 if is_large else 1)
        x = x if self.before else relu(self.norm(x, ("stem",)))
        x = max_pool(x) if is_large else x
        for path in sorted({p[:3] for p in self.weights if p[0] == "stages"}):
            strides = 2 if path[1] > 0 and path[2] == 0 else 1
            x = self.unit(x, path, strides)
        x = relu(self.norm(x, ("final",))) if self.before else x
        return x.mean((1, 2)) @ self.weights["head", "kernel"]


def relu(x):
    return np.maximum(x, 0)


def max_pool(x):
    """3x3 with stride 2; a zero around what is nowhere negative is no maximum."""
    least = x.min()
    patches = reference.patches(x - least, (3, 3), (2, 2), "SAME", (1, 1), (1, 1))
    rows = np.array([patch.max((1, 2)) for _, _, patch in patches])
    side = -(-x.shape[1] // 2)
    return np.moveaxis(rows, 0, 1).reshape(len(x), side, side, -1) + least


def assert_is_as_naive(net, images, **arguments):
    draw = np.random.default_rng(7)
    for _, leaf in nnx.to_flat_state(nnx.state(net, nnx.Param)):  # no ones, no zeros
        moved = np.asarray(leaf[...]) + draw.normal(0, 0.3, leaf.shape)
        leaf[...] = jax.device_put(moved.astype(np.float32))
    truth = Naive(net, **arguments).scores(images)
    ours = helpers.respond(net, images)
    np.testing.assert_allclose(ours, truth, rtol=1e-3, atol=1e-3 * np.abs(truth).max())


@pytest.mark.parametrize(
    ("plan", "shortcut", "before", "similarity"),
    [
        (BASIC, "projection", False, ops.Cosine()),
        pytest.param(BASIC, "identity", True, None, marks=pytest.mark.slow),
        pytest.param(BOTTLENECK, "identity", False, None, marks=pytest.mark.slow),
        pytest.param(
            BOTTLENECK, "projection", True, ops.Cosine(), marks=pytest.mark.slow
        ),
    ],
    ids=["basic", "basic before", "bottleneck", "bottleneck before"],
)
def test_units_are_those_of_the_papers(
    draw, monkeypatch, plan, shortcut, before, similarity
):
    monkeypatch.setitem(_resnet._PLANS, 1, plan)
    net = filled(
        depth=1,
        width=1 / 8,
        image_size=8,
        num_classes=3,
        shortcut=shortcut,
        pre_activation=before,
        similarity=similarity,
    )
    assert_is_as_naive(
        net, draw((3, 8, 8, 3)), is_cosine=similarity is not None, before=before
    )


@pytest.mark.parametrize("before", [False, True])
def test_a_unit_tells_its_first_layers_that_their_input_is_stored(before):
    arguments = dict(depth=50, shortcut="spherical", pre_activation=before)
    net = nnx.eval_shape(lambda: ResNet(**arguments, rngs=nnx.Rngs(0)))
    first, *units = (unit for stage in net.stages for unit in stage)
    for unit, is_told in [(first, False), *((unit, not before) for unit in units)]:
        layers = [*unit.layers, *([unit.shortcut] if unit.shortcut else [])]
        told = [layer.conv.is_input_stored for layer in layers]
        assert told == [is_told, False, False, is_told][: len(told)]


@pytest.mark.slow
@pytest.mark.parametrize("before", [False, True])
@pytest.mark.parametrize("depth", [18, 20])
def test_whole_networks_are_those_of_the_papers(draw, depth, before):
    net = filled(
        depth=depth,
        width=1 / 16,
        image_size=32,
        num_classes=3,
        pre_activation=before,
    )
    assert_is_as_naive(net, draw((3, 32, 32, 3)), is_cosine=True, before=before)


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        (dict(depth=21), r"`ResNet` needs `depth` to be 20, 32.*152, got `depth=21`"),
        (
            dict(shortcut="none"),
            r"'projection', 'spherical' or 'identity', got `shortcut='none'`",
        ),
        (dict(image_size=3), r"at least 4, got `image_size=3`"),
        (dict(depth=18, image_size=31), r"at least 32, got `image_size=31`"),
        (dict(width=1 / 40), r"leaves every layer a filter, at least 0\.0625"),
    ],
)
def test_a_wrong_argument_is_named(as_a_user, arguments, message):
    with pytest.raises(ValueError, match=message):
        ResNet(**arguments, rngs=nnx.Rngs(0))
