import flax.linen
import jax
import jax.numpy as jnp
import numpy as np
import pytest
from flax import nnx
from jax import lax

from hypersphere import linen, nn, ops
from tests.linen import twins

IMAGE = (2, 6, 5, 4)
MASK = jnp.asarray(np.random.default_rng(3).random((3, 2, 4, 6)) > 0.3, jnp.float32)


def halved(*args, **kwargs):
    """A product of the user's own."""
    return 0.5 * lax.conv_general_dilated(*args, **kwargs)


# Of the wrapped convolution, and of the normalization.
CASES = {
    "as it comes": ({}, {}),
    "groups, strides": (dict(feature_group_count=2, strides=2), dict(eps=0.3)),
    "circular, dilated": (dict(padding="CIRCULAR", kernel_dilation=2), {}),
    "mask": (dict(mask=MASK), dict(similarity=ops.Linear())),
    "bfloat16": (dict(dtype=jnp.bfloat16), {}),
    "scale only": ({}, dict(use_bias=False)),
    "shift only": (dict(conv_general_dilated=halved), dict(use_scale=False)),
}


@pytest.mark.parametrize(("conv", "norm"), CASES.values(), ids=CASES)
def test_is_the_twin_of_the_nnx_layer(draw, conv, norm):
    eager, conv = not (conv or norm), dict(use_bias=False, **conv)
    layer = nn.SphereNorm(nnx.Conv(4, 6, (3, 2), rngs=nnx.Rngs(0), **conv), **norm)
    twin = linen.SphereNorm(flax.linen.Conv(6, (3, 2), **conv), **norm)
    twins.assert_twins(layer, twin, draw(IMAGE), draw, eager=eager)


@pytest.mark.parametrize("name", ["LearnableSigmoid", "SharpenedCosine"])
def test_a_dense_layer_with_a_learned_similarity_is_the_twin(draw, name):
    linear = nnx.Linear(5, 4, use_bias=False, rngs=nnx.Rngs(0))
    layer = nn.SphereNorm(linear, similarity=getattr(nn, name))
    dense = flax.linen.Dense(4, use_bias=False)
    twin = linen.SphereNorm(dense, similarity=getattr(linen, name))
    twins.assert_twins(layer, twin, draw((3, 5)), draw)


class Wrapping(flax.linen.Module):
    """A layer wrapped where it is made, and called by itself as well."""

    @flax.linen.compact
    def __call__(self, x):
        conv = flax.linen.Conv(6, (3, 2), use_bias=False)
        return linen.SphereNorm(conv)(x), conv(x)


def test_the_wrapped_layer_is_not_changed_and_may_belong_to_another(draw):
    x = draw(IMAGE)
    variables = Wrapping().init(jax.random.key(0), x)
    kernel = variables["params"]["Conv_0"]
    assert set(variables["params"]) == {"Conv_0", "SphereNorm_0"}
    normalized, plain = Wrapping().apply(variables, x)
    conv = flax.linen.Conv(6, (3, 2), use_bias=False)
    twins.assert_same(plain, conv.apply({"params": kernel}, x))
    params = variables["params"]["SphereNorm_0"] | {"layer": kernel}
    twins.assert_same(normalized, linen.SphereNorm(conv).apply({"params": params}, x))


@pytest.mark.usefixtures("as_a_user")
def test_wrong_arguments_are_refused_with_a_way_out(draw):
    dense = flax.linen.Dense(4, use_bias=False)
    with pytest.raises(TypeError, match="`layer` to be a `linen.Conv` or .*`Embed`"):
        linen.SphereNorm(flax.linen.Embed(3, 4))
    with pytest.raises(ValueError, match="a `Dense` with one. .*`use_bias=False`"):
        linen.SphereNorm(flax.linen.Dense(4))
    with pytest.raises(ValueError, match="`SphereNorm` needs a finite `eps > 0`"):
        linen.SphereNorm(dense, eps=0.0)
    with pytest.raises(TypeError, match="`SphereNorm` needs a callable `similarity`"):
        linen.SphereNorm(dense, similarity=1.0)
    norm, x = linen.SphereNorm(dense), draw((3, 5))
    variables = norm.init(jax.random.key(0), x)
    with pytest.raises(ValueError, match="`SphereNorm` needs .*and `in_features=5`"):
        norm.apply(variables, x[:, :3])
