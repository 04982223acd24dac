"""What every network keeps to."""

import functools
import inspect

import jax
import jax.numpy as jnp
import numpy as np
import pytest
from flax import nnx

from hypersphere import models, nn, ops
from hypersphere.models import _decoupled_resnet, _googlenet, _resnet
from tests import helpers

NETWORKS = {
    "SphereNet": (models.SphereNet, dict(depth=3, width=1 / 32, image_size=16)),
    "ResNet": (models.ResNet, dict(depth=20, width=1 / 4, image_size=4)),
    "VGG": (models.VGG, dict(depth=11, width=1 / 16)),
    "GoogLeNet": (models.GoogLeNet, dict(width=1 / 8)),
    "DecoupledResNet": (models.DecoupledResNet, dict(width=1 / 16)),
}

# Several switches at a time: a gradient of each alone would take an hour.
SWITCHES = {
    "plain without activation": dict(similarity=None, magnitude=None, activation=None),
    "cosine in half precision": dict(magnitude=None, dtype=jnp.bfloat16),
    "learnable, angular, again": dict(
        similarity=nn.LearnableSigmoid, magnitude=None, head="angular", remat=True
    ),
    "sphere norm alone": dict(sphere_norm=True, magnitude=None, norm=None),
    "decoupled with prelu and dropout": dict(
        magnitude=ops.magnitudes.Tanh(),
        activation=functools.partial(models.PReLU, init=0.25),
        dropout=0.25,
    ),
}
OF_SPHERENET = {
    "features normed": dict(norm_features=True),
    "in the plane, neither": dict(feature_dim=2, norm=None, activation=None),
}
OF_RESNET = {
    "before": dict(pre_activation=True),
    "identity": dict(shortcut="identity"),
    "both": dict(pre_activation=True, shortcut="identity"),
    "imagenet": dict(depth=18, width=1 / 8, image_size=32),
    "bottleneck": dict(depth=50, width=1 / 8, image_size=32),
}
# All networks make their layers in one place: each has what concerns itself there, and
# each switch has two networks at least.
OF_OTHERS = {
    "ResNet": ("learnable, angular, again", "decoupled with prelu and dropout"),
    "VGG": ("sphere norm alone", "decoupled with prelu and dropout"),
    "GoogLeNet": ("learnable, angular, again", "cosine in half precision"),
    "DecoupledResNet": ("sphere norm alone", "plain without activation"),
}
PAIRS = [("SphereNet", switch) for switch in SWITCHES]
PAIRS += [(name, switch) for name, few in OF_OTHERS.items() for switch in few]
PAIRS += [("SphereNet", switch) for switch in OF_SPHERENET]
PAIRS += [("ResNet", switch) for switch in OF_RESNET]
FAST = [("SphereNet", "cosine in half precision")]


def make(name, **arguments):
    kind, small = NETWORKS[name]
    return kind(**(dict(num_classes=3) | small | arguments), rngs=nnx.Rngs(0))


@pytest.fixture
def short(monkeypatch):
    """Fewer layers of the same kinds, in every network."""
    for depth, plan in _resnet._PLANS.items():
        units = (1, 2, *[1] * (len(plan.units) - 2))
        monkeypatch.setitem(_resnet._PLANS, depth, plan._replace(units=units))
    monkeypatch.setattr(_googlenet, "_STAGES", (_googlenet._STAGES[0][:1],))
    monkeypatch.setattr(_decoupled_resnet, "_UNITS", (1, 0, 0, 0))


@pytest.mark.usefixtures("short")
@pytest.mark.parametrize(
    ("name", "switch"),
    [
        pair if pair in FAST else pytest.param(*pair, marks=pytest.mark.slow)
        for pair in PAIRS
    ],
)
def test_every_switch_gives_a_network_that_learns(draw, name, switch):
    switches = SWITCHES | OF_SPHERENET | OF_RESNET
    net = helpers.filled(lambda: make(name, **switches[switch]))
    graph, *parts = nnx.split(net, nnx.Param, ...)

    @jax.jit
    @jax.grad
    def slopes(params, rest, images):
        outputs = nnx.merge(graph, params, rest)(images, rngs=nnx.Rngs(dropout=0))
        scores = outputs[0] if isinstance(outputs, tuple) else outputs
        return jnp.sum(jnp.sin(scores + np.arange(3.0, dtype="float32")[None]))

    images = draw((6, *net.image_shape))
    gradient = slopes(*map(nnx.to_pure_dict, parts), images)
    leaves = jax.tree_util.tree_leaves_with_path(jax.tree.map(np.asarray, gradient))
    assert all(np.isfinite(leaf).all() for _, leaf in leaves)
    still = [path for path, leaf in leaves if not leaf.any()]
    assert not still


@pytest.mark.usefixtures("short")
@pytest.mark.parametrize("name", helpers.sampled(NETWORKS, "SphereNet", "ResNet"))
def test_a_call_is_the_head_on_the_features(name):
    half = dict(head="angular", dtype=jnp.bfloat16)
    net = nnx.eval_shape(lambda: make(name, **half))
    images = jax.ShapeDtypeStruct((2, *net.image_shape), jnp.float32)
    cos, feature_norm = nnx.eval_shape(lambda net, x: net(x), net, images)
    features = nnx.eval_shape(lambda net, x: net.features(x), net, images)
    assert cos.shape == (2, 3) and feature_norm.shape == (2, 1)
    assert features.shape == (2, net.head.kernel.shape[0])
    assert features.dtype == feature_norm.dtype == jnp.float32


@pytest.mark.parametrize("name", NETWORKS)
def test_the_signature_shows_every_argument_and_its_default(name):
    signature = inspect.signature(NETWORKS[name][0])
    defaults = {key: each.default for key, each in signature.parameters.items()}
    assert {"similarity", "width", "head", "norm", "dtype", "rngs"} <= set(defaults)
    assert (defaults["num_classes"], defaults["image_size"]) == (10, 32)
    assert "choices" not in defaults and "who" not in defaults


@pytest.mark.parametrize(
    "name", helpers.sampled(NETWORKS, "SphereNet", "DecoupledResNet")
)
def test_every_variable_is_a_parameter_or_a_running_average(name):
    net = nnx.eval_shape(lambda: make(name, magnitude=ops.magnitudes.Tanh()))
    _, _, _, rest = nnx.split(net, nnx.Param, nnx.BatchStat, ...)
    assert not jax.tree.leaves(rest)


@pytest.mark.parametrize("name", NETWORKS)
@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        (dict(width=0), r"needs a finite `width > 0`, got `width=0`"),
        (dict(head="arc"), r"'linear' or 'angular', got `head='arc'`"),
        (dict(num_classes=1), r"`num_classes >= 2`.*`num_classes=1`"),
        (dict(dropout=1.0), r"`dropout` in \[0, 1\), got `dropout=1.0`"),
        (dict(image_size=(64, 64, 3)), r"`image_size=\(64, 64, 3\)`"),
    ],
)
def test_a_wrong_argument_is_named_with_the_network(
    as_a_user, name, arguments, message
):
    with pytest.raises(ValueError, match=f"^`{name}` .*{message}"):
        make(name, **arguments)


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        (dict(width="2"), "`width` as a number, got `width='2'`"),
        (dict(num_classes=3.5), "`num_classes` as a whole number"),
        (dict(in_features="3"), "`in_features` as a whole number"),
        (dict(depth="9"), "`depth` as a whole number, got `depth='9'`"),
    ],
)
def test_what_is_no_number_is_named(as_a_user, arguments, message):
    with pytest.raises(TypeError, match=f"`SphereNet` needs {message}"):
        make("SphereNet", **arguments)


@pytest.mark.parametrize("size", [32.0, (32.5, 32), "64"])
def test_image_sizes_are_whole_numbers(as_a_user, size):
    with pytest.raises(ValueError, match="one number of pixels or as"):
        make("SphereNet", image_size=size)


def test_half_precision_stays_half_between_layers():
    net = nnx.eval_shape(lambda: make("ResNet", dtype=jnp.bfloat16))
    images = jax.ShapeDtypeStruct((2, *net.image_shape), jnp.float32)
    answer = nnx.eval_shape(lambda layer, x: layer(x), net.stem, images)
    assert answer.dtype == jnp.bfloat16


def test_a_network_of_ones_own_may_have_any_arguments():
    class Own(models.Network):
        pass

    assert "similarity" in inspect.signature(Own).parameters


def test_arguments_of_the_wrong_kind_are_named(as_a_user):
    with pytest.raises(TypeError, match=r"callable `activation`, got `activation='r"):
        make("ResNet", activation="relu")
    with pytest.raises(TypeError, match=r"`ResNet`.*that it has, got hed, who\. Those"):
        make("ResNet", hed="linear", who="me")
    with pytest.raises(ValueError, match="needs a similarity and no SphereNorm"):
        make("SphereNet", magnitude=ops.magnitudes.Log(), sphere_norm=True)


@pytest.mark.parametrize(
    "name", helpers.sampled(NETWORKS, "SphereNet", "DecoupledResNet")
)
def test_images_of_another_shape_are_refused_with_both_shapes(as_a_user, name):
    net = nnx.eval_shape(lambda: make(name))
    shape = ", ".join(map(str, net.image_shape))
    message = rf"`{name}` needs images.*\(batch, {shape}\).*\(2, 9, 8, 3\)"
    with pytest.raises(ValueError, match=message):
        net(np.ones((2, 9, 8, 3)))


def test_prelu_learns_a_slope_per_channel(draw):
    activation = models.PReLU(3, rngs=nnx.Rngs(0))
    x = np.asarray(draw((4, 2, 3)))
    np.testing.assert_array_equal(helpers.respond(activation, x), np.maximum(x, 0))
    slopes = np.array([0.5, -1.0, 2.0], np.float32)
    activation.slope[...] = jax.device_put(slopes)
    truth = np.where(x > 0, x, slopes * x)
    np.testing.assert_allclose(helpers.respond(activation, x), truth)
    half = helpers.respond(activation, x.astype(jnp.bfloat16))
    assert half.dtype == jnp.bfloat16
