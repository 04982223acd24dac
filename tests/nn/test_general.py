"""Layers with axes of one's choice: Flax's call, our product."""

import functools

import jax
import numpy as np
import pytest
from flax import nnx

from hypersphere import nn, ops
from tests import helpers

GENERAL = {
    "several outputs": ((5,), (2, 3), {}),
    "several inputs": ((4, 5), 3, {"axis": (1, -1)}),
    "batch axes": ((5,), (2, 3), {"batch_axis": {0: 2}, "use_bias": False}),
    "product class": ((5,), 3, {"dot_general_cls": lambda: jax.lax.dot_general}),
}


def filled(kind, *sizes, **options):
    return helpers.filled(lambda: kind(*sizes, **options, rngs=nnx.Rngs(0)))


@jax.jit
def respond(layers, *inputs):
    return [layer(*inputs) for layer in layers]


def test_a_general_layer_is_flaxs_with_our_product(draw):
    x = draw((2, 4, 5))
    product = functools.partial(ops.sphere_dot_general, similarity=ops.Linear())
    ours, theirs = [], []
    for ins, outs, options in GENERAL.values():
        layer = filled(
            nn.SphereLinearGeneral, ins, outs, similarity=ops.Linear(), **options
        )
        options = options | {"dot_general": product}
        options.pop("dot_general_cls", None)
        plain = filled(nnx.LinearGeneral, ins, outs, **options)
        plain.kernel = layer.kernel
        plain.bias = layer.bias
        ours.append(layer)
        theirs.append(plain)
    for one, other in zip(respond(ours, x), respond(theirs, x), strict=True):
        np.testing.assert_array_equal(one, other)


def test_each_filter_learns_a_softness_of_its_own(draw):
    layer = filled(nn.SphereLinearGeneral, 5, (2, 3), similarity=nn.LearnableSigmoid)
    einsum = filled(
        nn.SphereEinsum, "bd,hdk->hbk", (2, 5, 3), similarity=nn.LearnableSigmoid
    )
    assert layer.similarity.raw.shape == (2, 3)
    assert einsum.similarity.raw.shape == (2, 1, 3)
    kernel, raw = (np.asarray(v[...]) for v in (layer.kernel, layer.similarity.raw))
    einsum.kernel[...] = jax.device_put(np.moveaxis(kernel, 1, 0))
    einsum.similarity.raw[...] = jax.device_put(raw[:, None])
    layer.bias[...] = jax.device_put(np.zeros((2, 3), np.float32))
    x = draw((4, 5))
    (one, other) = respond([layer, einsum], x)
    np.testing.assert_allclose(np.moveaxis(np.asarray(one), 1, 0), other, atol=1e-6)
    cos = np.einsum("bd,dhk->bhk", x, layer.kernel[...])
    lengths = [
        np.sum(np.square(a), axis) + 1e-4
        for a, axis in ((x, 1), (layer.kernel[...], 0))
    ]
    cos = cos / np.sqrt(lengths[0])[:, None, None] / np.sqrt(lengths[1])
    k = np.abs(raw) + 0.05
    theta = np.arccos(np.clip(cos, -1, 1))
    top = np.exp(-np.pi / (2 * k))
    curve = (1 + top) / (1 - top) * (1 - np.exp(theta / k - np.pi / (2 * k)))
    curve = curve / (1 + np.exp(theta / k - np.pi / (2 * k)))
    np.testing.assert_allclose(one, curve, atol=1e-5)


def test_a_bias_is_added_to_the_response_of_an_einsum(draw):
    options = dict(bias_shape=(2, 3), similarity=ops.Linear())
    layer = filled(nn.SphereEinsum, "btd,dhk->bthk", (5, 2, 3), **options)
    x = draw((2, 4, 5))
    (answer,) = respond([layer], x)
    einsum = functools.partial(ops.sphere_einsum, similarity=ops.Linear())
    without = jax.jit(einsum, static_argnums=0)("btd,dhk->bthk", x, layer.kernel[...])
    bias = np.asarray(layer.bias[...])
    np.testing.assert_allclose(answer, np.asarray(without) + bias, atol=1e-6)


def test_wrong_arguments_are_refused(as_a_user):
    with pytest.raises(ValueError, match="`SphereEinsum` needs .*eps"):
        nn.SphereEinsum("bd,dk->bk", (4, 5), eps=0.0, rngs=nnx.Rngs(0))
    with pytest.raises(ValueError, match="cannot sum over c"):
        nn.SphereEinsum("bcd,dk->bk", (4, 5), rngs=nnx.Rngs(0))
    text, rngs = "...d,dk->k...", nnx.Rngs(0)
    assert nn.SphereEinsum(text, (4, 5), rngs=rngs).similarity == ops.Cosine()
    with pytest.raises(ValueError, match="a similarity without parameters"):
        nn.SphereEinsum(text, (4, 5), similarity=nn.LearnableSigmoid, rngs=rngs)
    with pytest.raises(TypeError, match="callable `similarity`"):
        nn.SphereLinearGeneral(4, 5, similarity="cosine", rngs=nnx.Rngs(0))
