import math

import chex
import jax
import jax.numpy as jnp
import numpy as np
import pytest
from flax import nnx

from hypersphere import models, nn
from hypersphere.models import _spherenet
from tests import helpers


def make(seed=0, **arguments):
    small = dict(depth=3, width=1 / 64, image_size=8, num_classes=3)
    return models.SphereNet(**(small | arguments), rngs=nnx.Rngs(seed))


def unfilled(**arguments):
    return nnx.eval_shape(lambda: make(**arguments))


def filled(**arguments):
    return helpers.filled(lambda: make(**arguments))


def images_of(net, batch=2):
    return jax.ShapeDtypeStruct((batch, *net.image_shape), jnp.float32)


def shapes(**arguments):
    """Path and shape of every parameter, without computing any."""
    net = nnx.eval_shape(lambda: models.SphereNet(**arguments, rngs=nnx.Rngs(0)))
    flat = nnx.to_flat_state(nnx.state(net, nnx.Param))
    return {path: leaf.shape for path, leaf in flat}


def count(shapes, *, only=("kernel",)):
    return sum(math.prod(s) for path, s in shapes.items() if path[-1] in only)


def test_nine_layers_have_the_published_number_of_weights():
    net = shapes()
    assert count(net) == 3_856_256
    assert count(net, only=("scale", "bias")) == 3_456
    with_features = shapes(norm_features=True)
    assert count(with_features, only=("scale", "bias")) == 3_456 + 512
    learnable = shapes(similarity=nn.LearnableSigmoid)
    assert count(learnable, only=("raw",)) == 1_984
    assert count(shapes(similarity=None)) == 3_856_256


@pytest.mark.parametrize(
    "depth", [3, 9, *(pytest.param(d, marks=pytest.mark.slow) for d in (18, 45, 60))]
)
def test_depth_repeats_layers_in_the_three_stages(depth):
    net = shapes(depth=depth)
    kernels = [s for path, s in net.items() if path[0] == "stages" and len(s) == 4]
    assert len(kernels) == depth
    filters = [s[-1] for s in kernels]
    assert sorted(filters) == sorted([128, 192, 256] * (depth // 3))


def test_filters_have_the_authors_spread():
    @jax.jit
    def start():
        net = models.SphereNet(depth=3, rngs=nnx.Rngs(0))
        return net.stages[2][0].conv.kernel[...]

    spread = np.asarray(start()).std()
    assert spread == pytest.approx(math.sqrt(2 / (9 * 192)), rel=0.01)


@pytest.mark.parametrize(
    ("image_size", "window"),
    [
        pytest.param(32, (4, 4), marks=pytest.mark.slow),
        (1, (1, 1)),
        pytest.param(17, (3, 3), marks=pytest.mark.slow),
        pytest.param(100, (4, 4), marks=pytest.mark.slow),
        ((20, 70), (3, 4)),
    ],
)
def test_any_image_size_ends_in_one_feature_vector(image_size, window):
    net = unfilled(image_size=image_size, in_features=2)
    assert net.feature_layer.conv.kernel.shape[:2] == window
    both = lambda net, x: (net.features(x), net(x))  # noqa: E731
    features, scores = nnx.eval_shape(both, net, images_of(net))
    assert (features.shape, scores.shape) == ((2, 4), (2, 3))


def test_large_images_are_pooled_over_all_their_pixels(draw):
    net = filled(image_size=35, in_features=1, norm=None)
    total = lambda images: jnp.sum(net.features(images))  # noqa: E731
    gradient = jax.jit(jax.grad(total))(draw((1, 35, 35, 1)))
    corners = np.abs(np.asarray(gradient))[0, ..., 0]
    assert (corners[:9].any(), corners[-9:].any(), corners[:, -9:].any()) == (1, 1, 1)


@pytest.mark.parametrize("sides", [(9, 14), (11, 7)])
def test_no_pixel_is_lost_where_a_grid_is_pooled_to_four_by_four(sides):
    # In every image another pixel is the largest, and none is as large as a zero.
    images = np.eye(math.prod(sides), dtype=np.float32).reshape(-1, *sides, 1) - 2
    pooled = jax.jit(_spherenet._pool_to_grid)(images)
    assert pooled.shape[1:] == (4, 4, 1)
    np.testing.assert_array_equal(np.asarray(pooled).max((1, 2, 3)), -1)


def test_kinds_of_layers_follow_the_switches():
    kind = lambda **switch: type(unfilled(**switch).stages[1][0].conv)  # noqa: E731
    assert kind() is nn.SphereConv
    assert kind(similarity=None) is nnx.Conv
    assert kind(sphere_norm=True) is nn.SphereNorm
    for use_length in (False, True):
        conv = unfilled(sphere_norm=True, use_length=use_length).stages[1][0].conv
        assert (conv.exponent is not None) is use_length
    assert isinstance(unfilled(head="angular").head, nn.AngularHead)
    assert type(unfilled(feature_dim=2).feature_layer.conv) is nnx.Conv
    leaves = nnx.to_flat_state(nnx.state(unfilled(), nnx.Param)).paths
    assert not any(path[-1] == "bias" and "conv" in path for path in leaves)


def test_angular_head_answers_cosines_and_lengths(draw):
    net = filled(head="angular")
    cos, feature_norm = helpers.respond(net, draw((4, *net.image_shape)))
    assert cos.shape == (4, 3) and feature_norm.shape == (4, 1)
    assert np.abs(cos).max() <= 1


def test_twelve_blocks_keep_their_order_through_a_pure_dictionary():
    net = filled(depth=36, image_size=4)
    graph, params, rest = nnx.split(net, nnx.Param, ...)
    for index, layer in enumerate(net.stages[0]):
        layer.norm.bias[...] = jax.device_put(np.full(2, index, np.float32))
    pure = nnx.to_pure_dict(nnx.state(net, nnx.Param))
    merged = nnx.merge(graph, pure, rest)
    order = [np.asarray(layer.norm.bias[...])[0] for layer in merged.stages[0]]
    assert order == list(range(12))


def test_dropout_drops_its_share_of_the_features_and_scales_the_rest(draw):
    net = filled(dropout=0.75, feature_dim=64, norm=None)
    net.head = nnx.data(lambda features: features)
    dropped = lambda x: net(x, rngs=nnx.Rngs(dropout=0))  # noqa: E731
    both = jax.jit(lambda x: (dropped(x), net.features(x)))
    kept = np.divide(*both(draw((32, *net.image_shape))))
    assert set(np.unique(kept.round(4))) == {0.0, 4.0}
    # 2,048 draws: the share of those kept is 0.25 with a deviation of 0.01.
    assert np.mean(kept > 0) == pytest.approx(0.25, abs=0.05)
    assert len({row.tobytes() for row in kept > 0}) == 32


def test_dropout_needs_keys_in_training_mode_alone(draw):
    net, twin = filled(dropout=0.5, norm=None), filled(norm=None)
    images = draw((2, *net.image_shape))
    with pytest.raises(ValueError, match="rngs"):
        nnx.eval_shape(lambda net: net(images), net)
    net.eval()
    np.testing.assert_array_equal(
        helpers.respond(net, images), helpers.respond(twin, images)
    )


@pytest.mark.parametrize("remat", [False, True])
def test_remat_is_in_the_program_where_it_is_asked_for(remat):
    net = unfilled(remat=remat)
    graph, params, rest = nnx.split(net, nnx.Param, ...)

    def total(params, rest, images):
        return jnp.sum(nnx.merge(graph, params, rest)(images))

    parts = nnx.to_pure_dict(params), nnx.to_pure_dict(rest)
    equations = jax.make_jaxpr(total)(*parts, images_of(net)).eqns
    names = [equation.primitive.name for equation in equations]
    again = [name for name in names if name in ("checkpoint", "remat", "remat2")]
    assert len(again) == (3 if remat else 0)  # one for each convolution


@pytest.mark.slow
def test_remat_changes_no_gradient_and_no_running_average(draw):
    images = draw((6, 8, 8, 3))

    found = {}
    for remat in (False, True):
        net = filled(remat=remat)
        graph, params, rest = nnx.split(net, nnx.Param, ...)

        def total(params, rest, graph=graph):
            net = nnx.merge(graph, params, rest)
            loss = jnp.sum(jnp.sin(net(images)))
            return loss, nnx.to_pure_dict(nnx.state(net, nnx.BatchStat))

        step = jax.jit(jax.value_and_grad(total, has_aux=True))
        found[remat] = step(nnx.to_pure_dict(params), nnx.to_pure_dict(rest))
    chex.assert_trees_all_close(found[True], found[False], rtol=1e-5, atol=1e-6)


@pytest.mark.slow
def test_same_seed_same_network_and_another_seed_another():
    start = lambda seed: jax.jit(lambda: nnx.state(make(seed), nnx.Param))()  # noqa: E731
    first, again, other = map(start, (3, 3, 4))
    chex.assert_trees_all_equal(first, again)
    kernels = (nnx.to_pure_dict(s)["head"]["kernel"] for s in (first, other))
    assert not np.array_equal(*kernels)


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        (dict(depth=10), r"`depth` as a multiple of 3.*3, 9, 18, 45 or 60.*`depth=10`"),
        (dict(depth=0), r"`depth=0`"),
        (dict(width=1 / 1000), r"leaves every layer a filter"),
        (dict(image_size=0), r"`image_size` as one number of pixels.*`image_size=0`"),
        (dict(feature_dim=0), r"`feature_dim` as None or at least 1.*=0`"),
        (dict(similarity=None, sphere_norm=True), r"similarity for `sphere_norm=True`"),
        (dict(use_length=True), r"`sphere_norm=True` for `use_length=True`"),
    ],
)
def test_a_wrong_argument_is_named(as_a_user, arguments, message):
    with pytest.raises(ValueError, match=message):
        make(**arguments)
