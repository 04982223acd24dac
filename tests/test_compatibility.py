"""Structures of models that were written elsewhere, built here and made tiny."""

import functools
import logging
import pickle

import jax
import jax.numpy as jnp
import numpy as np
import pytest
from flax import nnx

from hypersphere import nn, ops
from tests import helpers

X = (2, 3, 8)  # batch, time, features


class Block(nnx.Module):
    """An encoder's block: attention, einsum projections, an adapter, a tied head."""

    def __init__(self, rngs):
        self.embed = nnx.Embed(11, 8, rngs=rngs)
        self.attention = nnx.MultiHeadAttention(2, 8, decode=False, rngs=rngs)
        self.up = nnx.Einsum("btd,df->btf", (8, 16), (16,), rngs=rngs)
        self.down = nnx.LoRALinear(16, 8, lora_rank=2, rngs=rngs)
        self.cell = nnx.GRUCell(8, 8, rngs=rngs)

    def __call__(self, x):
        x = x + self.attention(x)
        x = x + self.down(nnx.gelu(self.up(x)))
        carry = self.cell.initialize_carry(x[:, 0].shape, nnx.Rngs(0))
        return self.embed.attend(x + self.cell(carry, x[:, 0])[1][:, None])


PROJECTIONS = [f"attention.{name}" for name in ("key", "out", "query", "value")]


def block():
    return helpers.filled(lambda: Block(nnx.Rngs(0)))


@functools.partial(jax.jit, static_argnums=0)
def slopes_of(graphdef, params, rest, x):
    loss = lambda params: jnp.sum(jnp.sin(nnx.merge(graphdef, params, rest)(x)))  # noqa: E731
    return jax.value_and_grad(loss)(params)


def test_a_block_is_spherical_but_for_what_is_named(draw, caplog):
    where = ["attention", "up", "down"]
    with caplog.at_level(logging.INFO, "hypersphere"):
        model = nn.spherize(block(), where=where, subclasses=True)
    expected = [*PROJECTIONS, "down", "up"]
    assert list(nn.spherical_layers(model)) == expected
    assert list(nn.plain_layers(model)) == [
        *("cell.dense_h", "cell.dense_i", "down.lora", "embed")
    ]
    assert "left plain: 2 Linear (cell.dense_h, cell.dense_i), 1 LoRA" in caplog.text
    graphdef, params, rest = nnx.split(model, nnx.Param, ...)
    _, slopes = slopes_of(graphdef, params, rest, draw(X))
    leaves = jax.tree.leaves(jax.tree.map(np.asarray, slopes))
    assert all(np.isfinite(leaf).all() for leaf in leaves)


def test_what_a_similarity_had_learned_is_told_when_it_is_left_behind(caplog):
    rngs = nnx.Rngs(0)
    make = functools.partial(nn.Scaled, scale=2.0, learn_scale=True)
    given = make, ops.Linear()
    layers = [nn.SphereLinear(3, 3, similarity=s, rngs=rngs) for s in given]
    model = nnx.Sequential(*layers)
    with caplog.at_level(logging.INFO, "hypersphere"):
        nn.with_similarity(model, ops.Cosine())  # which keeps a learned scale
        nn.unspherize(model)
    kept, left = caplog.messages
    assert kept.endswith("left behind in: none") and left.endswith("in: layers.0")


def test_a_block_can_be_made_plain_again_or_answer_otherwise():
    plain = block()
    model = nn.spherize(plain, subclasses=True, head="down", head_scale=8.0)
    back = nn.unspherize(model)
    assert nnx.graphdef(back) == nnx.graphdef(plain)
    jax.tree.map(np.testing.assert_array_equal, *map(nnx.state, (back, plain)))
    other = nn.with_similarity(model, nn.LearnableSigmoid, where=["up", "down"])
    assert type(other.up.similarity) is nn.LearnableSigmoid
    assert other.down.similarity.scale == 8
    assert type(other.down.similarity.similarity) is nn.LearnableSigmoid
    assert other.attention.out.similarity == ops.Cosine()
    assert type(other.down) is type(model.down)


class Standardized(nnx.Conv):
    """Filters of mean zero, by the hook that Flax calls."""

    def __call__(self, x):
        plain = self.kernel[...]
        self.kernel[...] = plain - jnp.mean(plain, axis=(0, 1, 2), keepdims=True)
        answer = super().__call__(x)
        self.kernel[...] = plain
        return answer


class OfItsOwn(nnx.Linear):
    def __call__(self, x):
        return x @ self.kernel[...]


def test_a_subclass_does_what_it_does_besides(draw):
    plain = helpers.filled(lambda: Standardized(3, 4, (3, 3), rngs=nnx.Rngs(0)))
    model = nn.spherize(plain, subclasses=True, similarity=ops.Linear())
    assert isinstance(model, Standardized) and isinstance(model, nn.SphereConv)
    by_hand = nn.SphereConv(3, 4, (3, 3), similarity=ops.Linear(), rngs=nnx.Rngs(0))
    kernel = np.array(plain.kernel[...])
    kernel -= np.mean(kernel, axis=(0, 1, 2))
    by_hand.kernel[...] = jax.device_put(kernel)
    by_hand.bias[...] = plain.bias[...]
    x = draw((1, 4, 4, 3))
    one, other = jax.jit(lambda one, other, x: (one(x), other(x)))(model, by_hand, x)
    np.testing.assert_allclose(one, other, atol=1e-6)


def test_a_spherical_subclass_survives_pickle():
    model = nn.spherize(Standardized(3, 4, (3, 3), rngs=nnx.Rngs(0)), subclasses=True)
    other = pickle.loads(pickle.dumps(model))
    assert type(other) is type(model) and nnx.graphdef(other) == nnx.graphdef(model)
    np.testing.assert_array_equal(other.kernel[...], model.kernel[...])


def test_a_subclass_that_multiplies_by_itself_is_refused_when_called():
    model = nn.spherize(OfItsOwn(3, 4, rngs=nnx.Rngs(0)), subclasses=True)
    with pytest.raises(ValueError, match="`OfItsOwn`.*does not use `self.dot_general`"):
        jax.eval_shape(lambda x: model(x), np.ones((1, 3), np.float32))


@pytest.mark.parametrize(
    ("where", "message"),
    [
        ("embed", "embed, a `Embed`, is none of nnx.Conv"),
        ("down", "down, a `LoRALinear`, is derived from nnx.Linear: see `subclasses"),
        ("dwon", r"nearest layers are \['"),
    ],
)
def test_a_pattern_on_what_cannot_be_changed_says_what_and_why(where, message):
    with pytest.raises(ValueError, match=message):
        nn.spherize(nnx.eval_shape(lambda: Block(nnx.Rngs(0))), where=where)


def test_an_einsum_without_an_angle_stays_plain_and_says_why():
    rngs = nnx.Rngs(0)
    model = nnx.Sequential(
        nnx.Einsum("btd,dk->bk", (8, 3), rngs=rngs), nnx.Linear(3, 2, rngs=rngs)
    )
    changed = nn.spherize(model)
    assert list(nn.plain_layers(changed)) == ["layers.0"]
    with pytest.raises(ValueError, match="has the einsum 'btd,dk->bk'.*sum over t"):
        nn.spherize(model, where="layers.0")


def stacked(kind):
    """Three models in one, as for an ensemble or a scan over layers."""
    make = lambda key: kind(nnx.Rngs(key))  # noqa: E731
    return nnx.vmap(make)(jax.random.split(jax.random.key(0), 3))


def test_stacked_layers_get_stacked_parameters(draw):
    kind = lambda rngs: nnx.Sequential(  # noqa: E731
        nnx.Linear(4, 4, rngs=rngs), nnx.Conv(4, 4, (1,), rngs=rngs)
    )
    model = nn.spherize(stacked(kind), similarity=nn.SharpenedCosine)
    shapes = jax.tree.map(np.shape, nnx.to_pure_dict(nnx.state(model, nnx.Param)))
    similarity = {"log_q": (3,), "raw": (3, 4)}
    assert shapes["layers"][0]["similarity"] == similarity
    raw = np.asarray(model.layers[0].similarity.raw[...])
    assert (np.std(raw, axis=0) > 0).all()  # each its own

    @jax.jit
    def scanned(model, x):
        layer = lambda x, layer: layer(x)  # noqa: E731
        return nnx.scan(layer, in_axes=(nnx.Carry, 0), out_axes=nnx.Carry)(x, model)

    assert np.isfinite(scanned(model, draw((2, 3, 4)))).all()


def test_an_abstract_model_stays_abstract():
    model = nnx.eval_shape(lambda: Block(nnx.Rngs(0)))
    changed = nn.spherize(model, similarity=nn.LearnableSigmoid, subclasses=True)
    leaves = jax.tree.leaves(nnx.state(changed))
    assert all(isinstance(leaf, jax.ShapeDtypeStruct) for leaf in leaves)
    assert changed.attention.query.similarity.raw.shape == (2, 4)


def test_sizes_are_those_of_the_kernel():
    layer = nnx.Linear(4, 3, rngs=nnx.Rngs(0))
    layer.kernel = nnx.Param(jnp.ones((6, 3)))  # as after an operation on the model
    model = nn.spherize(layer)
    assert model.in_features == 6
    assert jax.eval_shape(lambda x: model(x), np.ones((1, 6), np.float32)).shape == (
        1,
        3,
    )


def test_a_head_has_a_scale_that_may_be_learned(draw):
    make = lambda: nnx.Sequential(  # noqa: E731
        nnx.Linear(8, 8, rngs=nnx.Rngs(0)),
        nnx.Linear(8, 4, use_bias=False, rngs=nnx.Rngs(0)),
    )
    options = dict(head="layers.1", head_scale=16.0)
    plain = helpers.filled(make)
    models = [
        nn.spherize(plain),
        nn.spherize(plain, **options),
        nn.spherize(plain, **options, learn_head_scale=True),
    ]
    x = draw((3, 8))
    cos, fixed, learned = jax.jit(lambda models, x: [m(x) for m in models])(models, x)
    np.testing.assert_allclose(fixed, 16 * cos, rtol=1e-6)
    np.testing.assert_allclose(learned, 16 * cos, rtol=1e-6)
    assert models[2].layers[1].similarity.log_scale[...] == np.float32(np.log(16.0))
    with pytest.raises(ValueError, match="needs both `head`.*'layers.1'"):
        nn.spherize(plain, head_scale=16.0)
    with pytest.raises(ValueError, match="a `head` among the layers"):
        nn.spherize(plain, head="haed", head_scale=16.0)


@pytest.mark.parametrize("dtype", helpers.sampled(["float16", "bfloat16"]))
def test_nothing_relies_on_dtypes_that_jax_promotes(dtype):
    similarities = nn.LearnableSigmoid, nn.SharpenedCosine, ops.Linear()
    rngs = nnx.Rngs(0)
    layers = []
    for similarity in similarities:
        common = dict(similarity=similarity, dtype=dtype, rngs=rngs)
        layers += [
            nn.SphereConv(8, 8, (3,), **common),
            nn.SphereConvTranspose(8, 8, (3,), **common),
            nn.SphereLinear(8, 8, **common),
            nn.SphereLinearGeneral(8, (2, 4), **common),
            nn.SphereEinsum("btd,df->btf", (8, 8), **common),
            nn.DecoupledConv(8, 8, (3,), use_running_average=True, **common),
        ]

    head = nn.AngularHead(8, 3, rngs=rngs)

    def slopes(x):
        answers = [layer(x).astype(jnp.float32).sum() for layer in layers]
        return sum(answers) + head(x)[0].sum()

    with jax.numpy_dtype_promotion("strict"):
        graph = jax.eval_shape(jax.grad(slopes), jax.ShapeDtypeStruct(X, dtype))
    assert graph.dtype == dtype


qwix = pytest.importorskip("qwix")


class Small(nnx.Module):
    def __init__(self, rngs):
        self.conv = nn.SphereConv(3, 8, (3, 3), similarity=ops.Linear(), rngs=rngs)
        self.wide = nn.SphereLinearGeneral(8, (2, 4), rngs=rngs)
        self.narrow = nn.SphereEinsum("bhk,hkd->bd", (2, 4, 5), rngs=rngs)

    def __call__(self, x):
        return self.narrow(self.wide(nnx.relu(self.conv(x)).mean((1, 2))))


@pytest.mark.slow
@pytest.mark.filterwarnings("ignore::DeprecationWarning:qwix")
@pytest.mark.usefixtures("as_a_user")  # a quantized kernel is no array
def test_a_network_is_quantized_in_training_and_afterwards(draw):
    rule = qwix.QuantizationRule(
        module_path=".*", weight_qtype=jnp.int8, act_qtype=jnp.int8
    )
    x = draw((2, 8, 8, 3))
    model = Small(nnx.Rngs(0))
    model.conv.kernel[...] *= 50  # a length is not in what is quantized
    truth = np.asarray(model(x))
    trained = qwix.quantize_model(nnx.clone(model), qwix.QtProvider([rule]), x)
    at_once = qwix.quantize_model(nnx.clone(model), qwix.PtqProvider([rule]), x)
    later = qwix.quantize_model(Small(nnx.Rngs(1)), qwix.PtqProvider([rule]), x)
    weights = nnx.to_pure_dict(nnx.state(model))
    nnx.update(later, qwix.quantize_params(weights, later))
    assert later.conv.kernel.array.qvalue.dtype == jnp.int8
    for quantized in (trained, at_once, later):
        error = np.abs(np.asarray(quantized(x)) - truth).max()
        assert 0 < error < 0.1 * np.abs(truth).max()


@pytest.mark.slow
@pytest.mark.filterwarnings("ignore::DeprecationWarning:qwix")
def test_a_network_takes_adapters_of_low_rank(draw):
    x = draw((2, 8, 8, 3))
    model = Small(nnx.Rngs(0))
    provider = qwix.LoraProvider(module_path=".*", rank=2, alpha=2.0)
    adapted = qwix.apply_lora_to_model(nnx.clone(model), provider, x, rngs=nnx.Rngs(1))
    np.testing.assert_allclose(adapted(x), model(x), atol=1e-6)
    adapters = nnx.to_flat_state(nnx.state(adapted, nnx.LoRAParam))
    assert len(adapters) == 6
    slopes = nnx.grad(
        lambda model: jnp.sum(jnp.sin(model(x))),
        argnums=nnx.DiffState(0, nnx.LoRAParam),
    )(adapted)
    moving = [path for path, leaf in nnx.to_flat_state(slopes) if np.any(leaf[...])]
    assert len(moving) == 3  # the other half begins at zero
