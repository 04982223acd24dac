import inspect

import jax
import jax.numpy as jnp
import numpy as np
import pytest
from flax import nnx

from hypersphere import nn
from tests import helpers, reference

SCALES = np.array([1.0, 10.0, 40.0, 100.0], np.float32)
FLAX = inspect.signature(nnx.dot_product_attention).parameters
needs_grouped_heads = pytest.mark.skipif(
    "num_kv_heads" not in inspect.signature(nnx.MultiHeadAttention.__init__).parameters,
    reason="this Flax has no grouped heads",
)


class Recorder:
    """Keeps what is sown into it."""

    def __init__(self):
        self.sown = []

    def sow(self, kind, name, value):
        assert (kind, name) == (nnx.Intermediate, "attention_weights")
        self.sown.append(value)


class RecordingAttention(nnx.MultiHeadAttention):
    sow = Recorder.sow
    sown = []


def make(**arguments):
    attention = nn.CosineAttention(4, rngs=nnx.Rngs(0), **arguments)
    attention.log_scale[...] = jnp.log(SCALES)
    return attention


def draw(kv_heads=4, dtype=jnp.float32, depth=6):
    """Queries, keys and values."""
    shapes = (2, 3, 4, depth), (2, 5, kv_heads, depth), (2, 5, kv_heads, depth)
    return [
        jnp.asarray(reference.normal(*shape, seed=seed), dtype)
        for seed, shape in enumerate(shapes)
    ]


def layer_with(attention, num_heads=4, **arguments):
    return RecordingAttention(
        num_heads,
        8,
        24,
        attention_fn=attention,
        rngs=nnx.Rngs(1),
        **{"decode": False, **arguments},
    )


def projected(layer, x):
    return [getattr(layer, name)(x) for name in ("query", "key", "value")]


@pytest.mark.parametrize("module", [None, Recorder], ids=["fast", "weights"])
@pytest.mark.parametrize("options", ["", "bias", "mask", "bias mask"])
def test_equals_the_slow_reference(module, options):
    module = module and module()
    arrays = draw()
    bias = reference.normal(2, 4, 3, 5, seed=5)
    mask = reference.normal(2, 1, 3, 5, seed=6) > -1
    given = {k: v for k, v in dict(bias=bias, mask=mask).items() if k in options}
    truth, weights = reference.cosine_attention(*arrays, SCALES, **given)
    y = make()(*arrays, **given, deterministic=True, module=module)
    np.testing.assert_allclose(y, truth, rtol=1e-4, atol=2e-5)
    if module is not None:
        (sown,) = module.sown
        np.testing.assert_allclose(sown, weights, rtol=1e-4, atol=2e-5)


@pytest.mark.parametrize("size", [1e-6, 1e3, 1e6])
def test_the_size_of_queries_and_keys_does_not_matter(size):
    query, key, value = draw()
    one = make(eps=1e-9)(query, key, value)
    other = make(eps=1e-9)(query * size, key / size, value)
    np.testing.assert_allclose(one, other, rtol=1e-4, atol=2e-5)


@pytest.mark.parametrize("dtype", ["float16", "bfloat16"])
def test_half_precision_is_normalized_in_float32(dtype):
    arrays = draw(dtype=dtype, depth=16)
    attention = make()
    attention.log_scale[...] = jnp.log(jnp.full(4, 10.0))
    truth, _ = reference.cosine_attention(*arrays, np.full(4, 10.0))
    y = attention(*arrays)
    assert y.dtype == dtype
    np.testing.assert_allclose(np.asarray(y, float), truth, atol=0.06)
    wide = attention(*arrays, dtype=jnp.float32)
    assert wide.dtype == jnp.float32
    np.testing.assert_allclose(wide, truth, rtol=1e-4, atol=2e-5)
    query, key, value = draw(dtype=jnp.float16)
    large = make()(query * 1e4, key * 1e4, value)  # squares would overflow
    np.testing.assert_allclose(
        large.astype(float),
        reference.cosine_attention(query, key, value, SCALES)[0],
        atol=0.1,
    )


@needs_grouped_heads
def test_grouped_heads_and_causal_masks_keep_their_meaning():
    query, key, value = draw(kv_heads=2)
    causal = np.tril(np.ones((3, 5), bool))[None, None]
    truth, _ = reference.cosine_attention(query, key, value, SCALES, mask=causal)
    for module in (None, Recorder()):
        y = make()(query, key, value, is_causal=True, deterministic=True, module=module)
        np.testing.assert_allclose(y, truth, rtol=1e-4, atol=2e-5)
    layer = layer_with(make(), num_kv_heads=2)
    x = jnp.asarray(reference.normal(2, 3, 8))
    truth, _ = reference.cosine_attention(*projected(layer, x), SCALES)
    helpers.assert_close(layer(x), np.asarray(layer.out(jnp.float32(truth)), float))


def test_positional_arguments_and_promote_dtype_are_passed_on():
    called = []

    def promote_dtype(arrays, dtype=None):
        called.append(dtype)
        return tuple(a.astype(dtype) for a in arrays)

    arrays, bias = draw(), jnp.asarray(reference.normal(2, 4, 3, 5))
    y = make()(*arrays, bias, dtype=jnp.bfloat16, promote_dtype=promote_dtype)
    assert y.dtype == jnp.bfloat16 and set(called) == {jnp.bfloat16}
    assert {"dtype", "promote_dtype"} <= set(FLAX)  # those that the layer reads itself


def test_dropout_drops_with_the_key_that_is_given():
    arrays, key = draw(), jax.random.key(0)
    drop = dict(dropout_rate=0.5, dropout_rng=key, broadcast_dropout=False)
    one, other = (make()(*arrays, **drop) for _ in range(2))
    np.testing.assert_array_equal(one, other)
    assert not np.allclose(one, make()(*arrays), atol=1e-3)
    layer = layer_with(make(), dropout_rate=0.5, deterministic=False)
    x = jnp.asarray(reference.normal(2, 3, 8))
    first, second = layer(x), layer(x)
    assert not np.array_equal(first, second)
    quiet = layer(x, deterministic=True)
    np.testing.assert_array_equal(quiet, layer(x, deterministic=True))


def test_inside_multi_head_attention_jit_split_and_merge():
    layer = layer_with(make())
    x = jnp.asarray(reference.normal(2, 5, 8))
    mask = np.tril(np.ones((5, 5), bool))[None, None]
    truth, weights = reference.cosine_attention(*projected(layer, x), SCALES, mask=mask)
    truth = np.asarray(layer.out(jnp.float32(truth)), float)
    eager = layer(x, mask=mask, sow_weights=True)
    np.testing.assert_allclose(eager, truth, rtol=1e-4, atol=2e-5)
    sown = layer.sown.pop()
    np.testing.assert_allclose(sown, weights, rtol=1e-4, atol=2e-5)
    compiled = nnx.jit(lambda layer, x, mask: layer(x, mask=mask))(layer, x, mask)
    np.testing.assert_allclose(compiled, truth, rtol=1e-4, atol=2e-5)
    graphdef, params, rest = nnx.split(layer, nnx.Param, ...)
    assert params["attention_fn"]["log_scale"].shape == (4,)
    merged = nnx.merge(graphdef, params, rest)
    np.testing.assert_array_equal(merged(x, mask=mask), layer(x, mask=mask))


def test_decoding_token_by_token_equals_a_causal_mask():
    layer = layer_with(make())
    x = jnp.asarray(reference.normal(2, 5, 8))
    whole = layer(x, mask=np.tril(np.ones((5, 5), bool))[None, None])
    layer.init_cache((2, 5, 8))
    step = nnx.jit(lambda layer, token: layer(token, decode=True))
    steps = [step(layer, x[:, i : i + 1]) for i in range(5)]
    np.testing.assert_allclose(np.concatenate(steps, 1), whole, rtol=1e-4, atol=2e-5)


def gradients(attention, query, key, value):
    target = jnp.asarray(reference.normal(2, 3, 4, 6, seed=7))
    graphdef, params = nnx.split(attention)

    @jax.jit
    def slopes(params, query, key):
        total = lambda params, *qk: jnp.sum(  # noqa: E731
            nnx.merge(graphdef, params)(*qk, value) * target
        )
        return jax.grad(total, (0, 1, 2))(params, query, key)

    params, *others = slopes(params, query, key)
    return params["log_scale"][...], *others


def test_the_scale_learns_up_to_its_cap_and_not_beyond():
    query, key, value = draw()
    attention = make()
    target = np.float64(reference.normal(2, 3, 4, 6, seed=7))

    def total(log_scale):
        y, _ = reference.cosine_attention(query, key, value, np.exp(log_scale))
        return (y * target).sum((0, 1, 3))

    logs = np.log(np.array([1.0, 10.0, 40.0, 99.9]))
    attention.log_scale[...] = jnp.asarray(logs, jnp.float32)
    slope, _, _ = gradients(attention, query, key, value)
    truth = (total(logs + 1e-5) - total(logs - 1e-5)) / 2e-5
    np.testing.assert_allclose(slope, truth, rtol=1e-3, atol=1e-4)
    assert (np.abs(truth) > 1e-4).all()
    attention.log_scale[...] = jnp.log(jnp.array([10.0, 100.0, 101.0, 1e30]))
    np.testing.assert_allclose(attention.scale, [10, 100, 100, 100], rtol=1e-5)
    slope, _, _ = gradients(attention, query, key, value)
    assert (np.asarray(slope) != 0).tolist() == [True, True, False, False]
    whole = nn.CosineAttention(4, rngs=nnx.Rngs(0))
    np.testing.assert_allclose(whole.scale, np.full(4, 10.0), rtol=1e-6)


@pytest.mark.parametrize("sizes", [(0, 1), (1, 0), (0, 0), (1e18, 1e-18)])
def test_values_and_gradients_are_finite_at_every_size(sizes):
    query, key, value = draw()
    query, key = query * sizes[0], key * sizes[1]
    assert np.isfinite(make()(query, key, value)).all()
    for slope in gradients(make(), query, key, value):
        assert np.isfinite(slope).all()


def test_bad_arguments_are_named(as_a_user):
    for name in ("init", "eps"):
        with pytest.raises(
            ValueError, match=rf"`CosineAttention` needs a finite `{name} > 0`"
        ):
            nn.CosineAttention(4, rngs=nnx.Rngs(0), **{name: 0.0})
    with pytest.raises(ValueError, match=r"`init <= 100`.*got `init=101\.0`"):
        nn.CosineAttention(4, init=101.0, rngs=nnx.Rngs(0))
    query, key, value = draw()
    with pytest.raises(
        ValueError, match=r"`query\.shape=\(2, 3, 2, 6\)` and `num_heads=4`"
    ):
        make()(query[:, :, :2], key, value)
    with pytest.raises(TypeError, match=r"`x\.dtype=complex64`"):
        make()(query.astype(jnp.complex64), key, value)
