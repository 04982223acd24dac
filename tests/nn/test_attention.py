import functools
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


def rescaled(attention, scales=SCALES):
    attention.log_scale[...] = jax.device_put(np.log(np.asarray(scales, np.float32)))
    return attention


def make(**arguments):
    start = lambda: nn.CosineAttention(4, rngs=nnx.Rngs(0), **arguments)  # noqa: E731
    return rescaled(helpers.filled(start))


def draw(kv_heads=4, dtype=np.float32, depth=6):
    """Queries, keys and values."""
    shapes = (2, 3, 4, depth), (2, 5, kv_heads, depth), (2, 5, kv_heads, depth)
    return [
        reference.normal(*shape, seed=seed).astype(dtype)
        for seed, shape in enumerate(shapes)
    ]


def make_layer(num_heads=4, **arguments):
    """Drawn anew unless it holds keys for dropout."""
    return RecordingAttention(
        num_heads,
        8,
        24,
        attention_fn=nn.CosineAttention(4, rngs=nnx.Rngs(0)),
        rngs=nnx.Rngs(1),
        **{"decode": False, **arguments},
    )


def filled_layer(**arguments):
    layer = helpers.filled(lambda: make_layer(**arguments))
    rescaled(layer.attention_fn)
    return layer


def weights_of(layer):
    return (np.asarray(layer.kernel[...], float), np.asarray(layer.bias[...], float))


def projected(layer, x):
    parts = map(weights_of, (layer.query, layer.key, layer.value))
    return [np.einsum("bqf,fhd->bqhd", x, kernel) + bias for kernel, bias in parts]


def joined(layer, heads):
    kernel, bias = weights_of(layer.out)
    return np.einsum("bqhd,hdf->bqf", heads, kernel) + bias


@functools.partial(jax.jit, static_argnames=("graphdef", "options", "is_sown"))
def attend_compiled(graphdef, state, arrays, given, options, is_sown):
    module = Recorder() if is_sown else None
    attention = nnx.merge(graphdef, state)
    y = attention(*arrays, **given, **dict(options), module=module)
    return y, module.sown if is_sown else []


def attend(attention, *arrays, given=(), is_sown=False, **options):
    """The answer and what is sown; equal layers share a program."""
    parts = nnx.split(attention)
    options = tuple(options.items())
    return attend_compiled(*parts, arrays, dict(given), options, is_sown)


@pytest.mark.parametrize("is_sown", [False, True], ids=["fast", "weights"])
@pytest.mark.parametrize(
    "options", helpers.sampled(["", "bias", "mask", "bias mask"], "", "bias mask")
)
def test_equals_the_slow_reference(is_sown, options):
    arrays = draw()
    bias = reference.normal(2, 4, 3, 5, seed=5)
    mask = reference.normal(2, 1, 3, 5, seed=6) > -1
    given = {k: v for k, v in dict(bias=bias, mask=mask).items() if k in options}
    truth, weights = reference.cosine_attention(*arrays, SCALES, **given)
    y, sown = attend(make(), *arrays, given=given, deterministic=True, is_sown=is_sown)
    np.testing.assert_allclose(y, truth, rtol=1e-4, atol=2e-5)
    if is_sown:
        (sown,) = sown
        np.testing.assert_allclose(sown, weights, rtol=1e-4, atol=2e-5)


@pytest.mark.parametrize("size", [1e-6, 1e3, 1e6])
def test_the_size_of_queries_and_keys_does_not_matter(size):
    query, key, value = draw()
    one, _ = attend(make(eps=1e-9), query, key, value)
    size = np.float32(size)
    other, _ = attend(make(eps=1e-9), query * size, key / size, value)
    np.testing.assert_allclose(one, other, rtol=1e-4, atol=2e-5)


@pytest.mark.parametrize("dtype", ["float16", "bfloat16"])
def test_half_precision_is_normalized_in_float32(dtype):
    arrays = draw(dtype=dtype, depth=16)
    attention = rescaled(make(), np.full(4, 10.0))
    truth, _ = reference.cosine_attention(*arrays, np.full(4, 10.0))
    is_sown = dtype == "float16"  # whose fast way JAX does not compile for a CPU
    y, _ = attend(attention, *arrays, is_sown=is_sown, deterministic=True)
    assert y.dtype == dtype
    np.testing.assert_allclose(np.asarray(y, float), truth, atol=0.06)
    wide, _ = attend(attention, *arrays, dtype=jnp.float32)
    assert wide.dtype == jnp.float32
    np.testing.assert_allclose(wide, truth, rtol=1e-4, atol=2e-5)


@pytest.mark.slow
def test_float16_goes_the_fast_way_where_it_is_not_compiled():
    arrays = draw(dtype="float16", depth=16)
    truth, _ = reference.cosine_attention(*arrays, np.full(4, 10.0))
    y = rescaled(make(), np.full(4, 10.0))(*map(jax.device_put, arrays))
    assert y.dtype == "float16"
    np.testing.assert_allclose(np.asarray(y, float), truth, atol=0.06)


def test_half_precision_is_right_where_squares_would_overflow():
    query, key, value = draw(dtype=np.float16, depth=16)
    large = [query * np.float16(1e4), key * np.float16(1e4), value]
    y, _ = attend(make(), *large, is_sown=True, deterministic=True)
    truth, _ = reference.cosine_attention(query, key, value, SCALES)
    np.testing.assert_allclose(np.asarray(y, float), truth, atol=0.1)


@needs_grouped_heads
def test_grouped_heads_and_causal_masks_keep_their_meaning():
    arrays = draw(kv_heads=2)
    causal = np.tril(np.ones((3, 5), bool))[None, None]
    truth, _ = reference.cosine_attention(*arrays, SCALES, mask=causal)
    options = dict(is_causal=True, deterministic=True)
    for is_sown in (False, True):
        y, _ = attend(make(), *arrays, is_sown=is_sown, **options)
        np.testing.assert_allclose(y, truth, rtol=1e-4, atol=2e-5)
    layer = filled_layer(num_kv_heads=2)
    x = reference.normal(2, 3, 8)
    truth, _ = reference.cosine_attention(*projected(layer, x), SCALES)
    helpers.assert_close(helpers.respond(layer, x), joined(layer, truth))


def test_positional_arguments_and_promote_dtype_are_passed_on():
    called = []

    def promote_dtype(arrays, dtype=None):
        called.append(dtype)
        return tuple(a.astype(dtype) for a in arrays)

    arrays, bias = draw(), reference.normal(2, 4, 3, 5)
    options = dict(dtype=jnp.bfloat16, promote_dtype=promote_dtype)
    y, _ = attend(make(), *arrays, bias, **options)
    assert y.dtype == jnp.bfloat16 and set(called) == {jnp.bfloat16}
    assert {"dtype", "promote_dtype"} <= set(FLAX)  # those that the layer reads itself


def test_dropout_drops_with_the_key_that_is_given():
    attention = make()

    @jax.jit
    def answers(arrays):
        keys = [jax.random.key(seed) for seed in (0, 0, 1)]
        drop = dict(dropout_rate=0.5, broadcast_dropout=False)
        dropped = [attention(*arrays, **drop, dropout_rng=key) for key in keys]
        return *dropped, attention(*arrays)

    one, again, other, plain = answers(tuple(draw()))
    np.testing.assert_array_equal(one, again)
    assert not np.allclose(one, other, atol=1e-3)
    assert not np.allclose(one, plain, atol=1e-3)


def test_dropout_in_multi_head_attention_draws_anew_in_every_call():
    @jax.jit
    def answers(x):
        layer = make_layer(dropout_rate=0.5, deterministic=False)
        quiet = dict(deterministic=True)
        return layer(x), layer(x), layer(x, **quiet), layer(x, **quiet)

    first, second, quiet, again = answers(reference.normal(2, 3, 8))
    assert not np.array_equal(first, second)
    np.testing.assert_array_equal(quiet, again)


def test_inside_multi_head_attention_jit_split_and_merge():
    layer = filled_layer()
    x = reference.normal(2, 5, 8)
    mask = np.tril(np.ones((5, 5), bool))[None, None]
    truth, weights = reference.cosine_attention(*projected(layer, x), SCALES, mask=mask)
    truth = joined(layer, truth)
    graphdef, params, rest = nnx.split(layer, nnx.Param, ...)
    assert params["attention_fn"]["log_scale"].shape == (4,)

    @jax.jit
    def sowing(params, x):
        merged = nnx.merge(graphdef, params, rest)
        return merged(x, mask=mask, sow_weights=True), merged.sown.pop()

    answer, sown = sowing(params, x)
    np.testing.assert_allclose(answer, truth, rtol=1e-4, atol=2e-5)
    np.testing.assert_allclose(sown, weights, rtol=1e-4, atol=2e-5)
    respond = nnx.jit(lambda layer, x, mask: layer(x, mask=mask))
    compiled = respond(layer, x, mask)
    np.testing.assert_allclose(compiled, truth, rtol=1e-4, atol=2e-5)
    merged = nnx.merge(graphdef, params, rest)
    np.testing.assert_array_equal(respond(merged, x, mask), compiled)


def test_decoding_token_by_token_equals_a_causal_mask():
    layer = filled_layer()
    x = reference.normal(2, 5, 8)
    causal = np.tril(np.ones((5, 5), bool))[None, None]
    whole = nnx.jit(lambda layer, x: layer(x, mask=causal))(layer, x)
    layer.init_cache((2, 5, 8))
    step = nnx.jit(lambda layer, token: layer(token, decode=True))
    steps = [step(layer, x[:, i : i + 1]) for i in range(5)]
    np.testing.assert_allclose(
        np.concatenate(list(map(np.asarray, steps)), 1), whole, rtol=1e-4, atol=2e-5
    )


@functools.partial(jax.jit, static_argnames="graphdef")
def slopes(graphdef, state, query, key, value):
    target = reference.normal(2, 3, 4, 6, seed=7)
    total = lambda state, *qk: jnp.sum(  # noqa: E731
        nnx.merge(graphdef, state)(*qk, value) * target
    )
    return jax.grad(total, (0, 1, 2))(state, query, key)


def gradients(attention, *arrays):
    params, *others = slopes(*nnx.split(attention), *arrays)
    return params["log_scale"][...], *others


def test_the_scale_learns_up_to_its_cap_and_not_beyond():
    query, key, value = draw()
    target = np.float64(reference.normal(2, 3, 4, 6, seed=7))

    def total(log_scale):
        y, _ = reference.cosine_attention(query, key, value, np.exp(log_scale))
        return (y * target).sum((0, 1, 3))

    logs = np.log(np.array([1.0, 10.0, 40.0, 99.9]))
    slope, _, _ = gradients(rescaled(make(), np.exp(logs)), query, key, value)
    truth = (total(logs + 1e-5) - total(logs - 1e-5)) / 2e-5
    np.testing.assert_allclose(slope, truth, rtol=1e-3, atol=1e-4)
    assert (np.abs(truth) > 1e-4).all()
    attention = rescaled(make(), [10.0, 100.0, 101.0, 1e30])
    scales = jax.jit(
        lambda: (attention.scale, nn.CosineAttention(4, rngs=nnx.Rngs(0)).scale)
    )
    capped, start = scales()
    np.testing.assert_allclose(capped, [10, 100, 100, 100], rtol=1e-5)
    slope, _, _ = gradients(attention, query, key, value)
    assert (np.asarray(slope) != 0).tolist() == [True, True, False, False]
    np.testing.assert_allclose(start, np.full(4, 10.0), rtol=1e-6)


@pytest.mark.parametrize("sizes", [(0, 1), (1, 0), (0, 0), (1e18, 1e-18)])
def test_values_and_gradients_are_finite_at_every_size(sizes):
    query, key, value = draw()
    query, key = query * np.float32(sizes[0]), key * np.float32(sizes[1])
    answer, _ = attend(make(), query, key, value)
    assert np.isfinite(answer).all()
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
        jax.eval_shape(make(), query.astype(np.complex64), key, value)
