import functools
import logging

import jax
import jax.numpy as jnp
import numpy as np
import optax
import pytest
from flax import nnx
from jax import lax

from hypersphere import nn, ops
from tests import helpers


class Block(nnx.Module):
    def __init__(self, conv, dense, rngs, **arguments):
        self.conv1 = conv(4, 4, (3, 3), rngs=rngs, **arguments)
        self.norm = nnx.BatchNorm(4, rngs=rngs)
        self.conv2 = conv(4, 4, (1, 1), use_bias=False, rngs=rngs, **arguments)
        self.gate = dense(4, 4, rngs=rngs, **arguments)

    def __call__(self, x):
        y = self.conv2(nnx.relu(self.norm(self.conv1(x))))
        return x + self.gate(y)


class Net(nnx.Module):
    """Residual blocks with a layer shared by both; layers in every container."""

    def __init__(self, conv, dense, up, rngs, **arguments):
        self.stem = conv(3, 4, (3, 3), strides=2, rngs=rngs, **arguments)
        self.blocks = nnx.List(Block(conv, dense, rngs, **arguments) for _ in range(2))
        self.blocks[1].gate = self.blocks[0].gate
        self.paths = nnx.data({"up": (up(4, 3, (2, 2), rngs=rngs, **arguments),)})
        self.head = nnx.Sequential(
            nnx.Dropout(0.5, rngs=rngs), dense(3, 2, rngs=rngs, **arguments)
        )

    def __call__(self, x):
        x = self.stem(x)
        for block in self.blocks:
            x = block(x)
        return self.head(self.paths["up"][0](x).mean(axis=(1, 2)))


PATHS = """blocks.0.conv1 blocks.0.conv2 blocks.0.gate blocks.1.conv1 blocks.1.conv2
    head.layers.1 paths.up.0 stem""".split()
PLAIN = (nnx.Conv, nnx.Linear, nnx.ConvTranspose)
SPHERICAL = (nn.SphereConv, nn.SphereLinear, nn.SphereConvTranspose)


def draw_for(key, shape, dtype):
    """Other numbers for every key; drawn by NumPy, which compiles nothing."""
    seed = np.asarray(jax.random.key_data(key))
    noise = np.random.default_rng(seed).standard_normal(shape)
    return jax.device_put(noise.astype(dtype))


DRAWN = dict(kernel_init=draw_for, bias_init=draw_for)


def make():
    return Net(*PLAIN, nnx.Rngs(0), **DRAWN)


@functools.partial(jax.jit, static_argnums=0)
def respond_compiled(graphdef, state, *inputs):
    return nnx.merge(graphdef, state)(*inputs)


def respond(model, *inputs):
    return respond_compiled(*nnx.split(model), *inputs)


def assert_same(one, other):
    """The same structure, and the same numbers in it."""
    assert nnx.graphdef(one) == nnx.graphdef(other)
    jax.tree.map(np.testing.assert_array_equal, numbers(one), numbers(other))


def numbers(model):
    return jax.tree.map(np.asarray, nnx.state(model, nnx.Not(nnx.RngState)))


def variables(model):
    """Those of a model by identity."""
    nodes = [node for _, node in nnx.iter_graph(model)]
    return {id(node): node for node in nodes if isinstance(node, nnx.Variable)}


def test_the_copy_is_the_model_made_with_spherical_layers():
    arguments = dict(similarity=ops.Linear(), eps=0.1)
    by_hand = Net(*SPHERICAL, nnx.Rngs(0), **arguments, **DRAWN)
    assert_same(nn.spherize(make(), **arguments), by_hand)


def test_the_old_model_is_left_as_it_was_and_survives_a_donation(draw):
    model, x = make(), draw((2, 6, 6, 3))
    model.eval()
    answer, before = respond(model, x), nnx.clone(model)
    copy = nn.spherize(model)
    assert_same(model, before)
    assert not variables(model).keys() & variables(copy).keys()
    add_one = lambda state: jax.tree.map(lambda leaf: leaf + 1, state)  # noqa: E731
    jax.jit(add_one, donate_argnums=0)(nnx.state(copy, nnx.Param))
    np.testing.assert_array_equal(respond(model, x), answer)


def test_what_was_put_on_a_layer_is_on_the_copy():
    model = make()
    model.stem.gain = nnx.Param(jnp.full((2,), 3.0))
    model.stem.note = "ours"
    model.stem.more = nnx.data([nnx.Param(jnp.ones(3))])
    copy = nn.spherize(model)
    assert isinstance(copy.stem, nn.SphereConv) and copy.stem.note == "ours"
    assert copy.stem.gain[...].tolist() == [3, 3]
    assert copy.stem.gain is not model.stem.gain
    assert copy.stem.more[0].shape == (3,)
    assert ("stem", "gain") in dict(nnx.to_flat_state(nnx.state(copy, nnx.Param)))


@pytest.mark.parametrize(
    ("where", "expected"),
    {
        None: PATHS,
        "stem": ["stem"],
        "blocks.0.conv*": PATHS[:2],
        "*.conv1": [PATHS[0], PATHS[3]],
        ("*up*", "*.gate", "blocks.?.gate"): ["blocks.0.gate", "paths.up.0"],
        (lambda path, layer: path[0] == "blocks" and path[1] == 1): PATHS[3:5],
        (lambda path, layer: layer.kernel.shape[0] == 1): [PATHS[1], PATHS[4]],
    }.items(),
)
def test_where_selects_the_layers_and_the_log_names_them(where, expected, caplog):
    where = list(where) if isinstance(where, tuple) else where
    with caplog.at_level(logging.INFO, "hypersphere"):
        copy = nn.spherize(make(), where=where)
    assert list(nn.spherical_layers(copy)) == expected
    text = f"changed {len(expected)} of {len(PATHS)} layers: {', '.join(expected)}"
    assert [text in message for message in caplog.messages] == [True]


def test_a_predicate_gets_the_old_models_layers():
    model = make()
    copy = nn.spherize(model, where=lambda path, layer: layer is model.blocks[1].conv2)
    assert list(nn.spherical_layers(copy)) == ["blocks.1.conv2"]


def test_shared_layers_and_parameters_stay_shared():
    model = make()
    model.blocks[1].conv2.kernel = model.blocks[0].conv2.kernel
    first, second = nn.spherize(model).blocks
    assert first.gate is second.gate and type(first.gate) is nn.SphereLinear
    assert first.conv2 is not second.conv2
    assert first.conv2.kernel is second.conv2.kernel


MASK = jax.device_put(np.tril(np.ones((3, 3, 2, 4), np.float32)))
SETTINGS = {
    "conv": (
        (4, 4, (3, 3), 2),
        dict(padding="CIRCULAR", kernel_dilation=2, feature_group_count=2, mask=MASK),
        dict(conv_general_dilated=functools.partial(lax.conv_general_dilated)),
    ),
    "dense": ((4, 4), dict(), dict(dot_general=functools.partial(lax.dot_general))),
    "up": (
        (4, 4, (3, 3), 2),
        dict(padding=((1, 0), (2, 2)), kernel_dilation=2, transpose_kernel=True),
        dict(),
    ),
}
COMMON = dict(
    dtype=jnp.bfloat16,
    param_dtype=jnp.float16,
    precision=lax.Precision.HIGHEST,
    preferred_element_type=jnp.float32,
    promote_dtype=functools.partial(nnx.nn.dtypes.promote_dtype),
    kernel_metadata={"note": "frozen"},
)


@pytest.mark.parametrize("kind", SETTINGS)
@pytest.mark.parametrize("use_bias", [True, False])
def test_a_single_layer_keeps_every_setting(kind, use_bias, draw):
    sizes, settings, product = SETTINGS[kind]
    index = list(SETTINGS).index(kind)
    arguments = COMMON | DRAWN | settings | product | dict(use_bias=use_bias)
    plain = PLAIN[index](*sizes, **arguments, rngs=nnx.Rngs(0))
    by_hand = SPHERICAL[index](*sizes, **arguments, rngs=nnx.Rngs(0))
    copy = nn.spherize(plain, where="")
    assert type(plain) is PLAIN[index]
    assert_same(copy, by_hand)
    assert copy.kernel.get_metadata()["note"] == "frozen"
    x = draw((2, 6, 6, 4))
    np.testing.assert_array_equal(respond(copy, x), respond(by_hand, x))


def test_what_is_spherical_already_or_of_another_class_is_left():
    class Special(nnx.Linear):
        pass

    rngs = nnx.Rngs(0)
    drawn = DRAWN | {"rngs": rngs}
    wrapped = nn.SphereNorm(nnx.Conv(3, 3, (2, 2), use_bias=False, **drawn))
    others = [wrapped, nn.SphereLinear(3, 3, **drawn), Special(3, 3, **drawn)]
    model = nnx.Sequential(nnx.Linear(3, 3, **drawn), *others)
    copy = nn.spherize(model)
    assert list(nn.spherical_layers(copy)) == ["layers.0", "layers.1", "layers.2"]
    assert_same(nnx.List(copy.layers[1:]), nnx.List(others))


def test_evaluation_stays_evaluation():
    model = make()
    model.eval()
    copy = nn.spherize(model)
    assert copy.blocks[0].norm.use_running_average
    assert copy.head.layers[0].deterministic


class MnistNet(nnx.Module):
    """The network of Flax's MNIST example, smaller."""

    def __init__(self, rngs):
        self.conv1 = nnx.Conv(1, 4, kernel_size=(3, 3), rngs=rngs)
        self.conv2 = nnx.Conv(4, 8, kernel_size=(3, 3), rngs=rngs)
        self.linear1 = nnx.Linear(32, 16, rngs=rngs)
        self.linear2 = nnx.Linear(16, 3, rngs=rngs)

    def __call__(self, x):
        for conv in (self.conv1, self.conv2):
            x = nnx.avg_pool(nnx.relu(conv(x)), (2, 2), strides=(2, 2))
        return self.linear2(nnx.relu(self.linear1(x.reshape(x.shape[0], -1))))


class EncoderNet(nnx.Module):
    """A transformer's block on the rows of an image, in Flax's own layers."""

    def __init__(self, rngs):
        self.embed = nnx.Linear(8, 8, rngs=rngs)
        self.norm = nnx.LayerNorm(8, rngs=rngs)
        self.attention = nnx.MultiHeadAttention(2, 8, decode=False, rngs=rngs)
        self.expand = nnx.Linear(8, 16, rngs=rngs)
        self.linear2 = nnx.Linear(16, 3, rngs=rngs)

    def __call__(self, x):
        x = self.embed(x[..., 0])
        x = x + self.attention(self.norm(x))
        return self.linear2(nnx.gelu(self.expand(x)).mean(axis=1))


PROJECTIONS = [f"attention.{name}" for name in ("key", "out", "query", "value")]
ENCODER = [*PROJECTIONS, "embed", "expand"]


def filled(kind):
    return helpers.filled(lambda: kind(nnx.Rngs(0)))


def test_each_layer_learns_a_softness_of_its_own(draw):
    model = nn.spherize(filled(MnistNet), where="conv?", similarity=nn.LearnableSigmoid)
    graphdef, params, rest = nnx.split(model, nnx.Param, ...)

    def loss(params, x):
        return jnp.sum(jnp.square(nnx.merge(graphdef, params, rest)(x)))

    grads = jax.jit(jax.grad(loss))(params, draw((2, 8, 8, 1)))
    for name in ("conv1", "conv2"):
        assert np.any(np.asarray(grads[name]["similarity"]["raw"][...]) != 0)
        assert np.any(np.asarray(grads[name]["kernel"][...]) != 0)


@pytest.mark.slow
@pytest.mark.parametrize(
    ("kind", "expected"),
    [(MnistNet, ["conv1", "conv2", "linear1"]), (EncoderNet, ENCODER)],
)
def test_a_model_of_flaxs_own_trains(kind, expected, draw):
    model = nn.spherize(filled(kind), where=lambda path, layer: path != ("linear2",))
    assert list(nn.spherical_layers(model)) == expected
    graphdef, params, rest = nnx.split(model, nnx.Param, ...)
    optimizer = optax.adam(1e-2)
    images, labels = draw((12, 8, 8, 1)), np.arange(12) % 3

    def loss(params):
        losses = optax.softmax_cross_entropy_with_integer_labels
        return losses(nnx.merge(graphdef, params, rest)(images), labels).mean()

    def step(carry, _):
        params, state = carry
        value, grads = jax.value_and_grad(loss)(params)
        updates, state = optimizer.update(grads, state)
        return (optax.apply_updates(params, updates), state), value

    @jax.jit
    def train(params):
        return lax.scan(step, (params, optimizer.init(params)), length=20)[1]

    values = np.asarray(train(params))
    assert values[-1] < 0.8 * values[0]


@pytest.mark.parametrize(
    ("where", "message"),
    [
        ("convv1", r"got `where='convv1'`. The nearest layers are \['conv1', "),
        (["conv1", "linaer?"], r"got `where='linaer\?'`.*'linear1'"),
        ([], "selects none of the 4, which begin with .'conv1'"),
        (lambda path, layer: False, "selects none"),
    ],
)
def test_a_selection_of_nothing_is_refused(where, message):
    with pytest.raises(ValueError, match=message):
        nn.spherize(filled(MnistNet), where=where)


def test_what_cannot_be_changed_is_refused(as_a_user):
    with pytest.raises(TypeError, match="`nnx.Module`, got `dict`"):
        nn.spherize({"conv": nnx.Conv(1, 1, (1, 1), **DRAWN, rngs=nnx.Rngs(0))})
    with pytest.raises(ValueError, match="got one without"):
        nn.spherize(nnx.Sequential(nnx.BatchNorm(3, rngs=nnx.Rngs(0))))
    with pytest.raises(TypeError, match="got `where=3`"):
        nn.spherize(make(), where=3)
    with pytest.raises(ValueError, match="eps=0"):
        nn.spherize(make(), eps=0)
    with pytest.raises(TypeError, match="callable `similarity`"):
        nn.spherize(make(), similarity="cosine")
