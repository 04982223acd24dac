import flax.linen
import jax
import jax.numpy as jnp
import numpy as np
import pytest
from flax import nnx
from jax import lax

from hypersphere import linen, nn, ops
from tests import helpers
from tests.linen import twins

IMAGE = (2, 6, 5, 4)
MASK = (np.random.default_rng(3).random((3, 2, 4, 6)) > 0.3).astype(np.float32)
MASK = jax.device_put(MASK)


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
    "length": ({}, dict(use_length=True)),
}


WITHOUT_GRADIENTS = ["scale only", "shift only"]


FAST = ("mask", "length", "bfloat16", "scale only", "shift only")


@pytest.mark.parametrize("case", helpers.sampled(CASES, *FAST))
def test_is_the_twin_of_the_nnx_layer(draw, case):
    conv, norm = CASES[case]
    conv = dict(use_bias=False, **conv)
    make = lambda: nnx.Conv(4, 6, (3, 2), rngs=nnx.Rngs(0), **conv)  # noqa: E731
    layer = helpers.filled(lambda: nn.SphereNorm(make(), **norm))
    twin = linen.SphereNorm(flax.linen.Conv(6, (3, 2), **conv), **norm)
    gradients = case not in WITHOUT_GRADIENTS
    twins.assert_twins(layer, twin, draw(IMAGE), gradients=gradients)


@pytest.mark.parametrize("name", ["LearnableSigmoid", "SharpenedCosine"])
def test_a_dense_layer_with_a_learned_similarity_is_the_twin(draw, name):
    make = lambda: nnx.Linear(5, 4, use_bias=False, rngs=nnx.Rngs(0))  # noqa: E731
    layer = helpers.filled(
        lambda: nn.SphereNorm(make(), similarity=getattr(nn, name), rngs=nnx.Rngs(0))
    )
    dense = flax.linen.Dense(4, use_bias=False)
    twin = linen.SphereNorm(dense, similarity=getattr(linen, name))
    twins.assert_twins(layer, twin, draw((3, 5)), gradients=True)


class Wrapping(flax.linen.Module):
    """A layer wrapped where it is made, and called by itself as well."""

    @flax.linen.compact
    def __call__(self, x):
        conv = flax.linen.Conv(6, (3, 2), use_bias=False)
        return linen.SphereNorm(conv)(x), conv(x)


def test_the_wrapped_layer_is_not_changed_and_may_belong_to_another(draw):
    conv = flax.linen.Conv(6, (3, 2), use_bias=False)

    @jax.jit
    def answers(x):
        both, variables = Wrapping().init_with_output(jax.random.key(0), x)
        assert set(variables["params"]) == {"Conv_0", "SphereNorm_0"}
        kernel = variables["params"]["Conv_0"]
        params = variables["params"]["SphereNorm_0"] | {"layer": kernel}
        normalized = linen.SphereNorm(conv).apply({"params": params}, x)
        plain = conv.apply({"params": kernel}, x)
        return both, Wrapping().apply(variables, x), (normalized, plain)

    at_init, later, expected = answers(draw(IMAGE))
    twins.assert_same(later, expected)
    twins.assert_same(at_init, expected)


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
    norm, x = linen.SphereNorm(dense), np.asarray(draw((3, 5)))
    variables = twins.init_shapes(norm, x)
    with pytest.raises(ValueError, match="`SphereNorm` needs .*and `in_features=5`"):
        jax.eval_shape(norm.apply, variables, x[:, :3])
