import functools

import jax
import jax.numpy as jnp
import numpy as np
import pytest
from flax import nnx
from jax import lax

from hypersphere import linen, nn, ops
from tests import helpers
from tests.linen import twins


def halved(*args, **kwargs):
    """A product of the user's own."""
    return 0.5 * lax.dot_general(*args, **kwargs)


CASES = {
    "as it comes": ((3, 5), {}),
    "one vector": ((5,), {}),
    "three batch axes": ((2, 1, 3, 5), {"similarity": ops.Linear(), "eps": 0.3}),
    "bfloat16": ((3, 5), {"dtype": jnp.bfloat16}),
    "no bias": ((3, 5), {"use_bias": False, "precision": "highest"}),
    "own product": ((3, 5), {"dot_general": halved}),
}


def filled(kind, **options):
    return helpers.filled(lambda: kind(5, 4, **options, rngs=nnx.Rngs(0)))


@pytest.mark.parametrize("case", CASES)
def test_is_the_twin_of_the_nnx_layer(draw, case):
    shape, options = CASES[case]
    layer = filled(nn.SphereLinear, **options)
    twin = linen.SphereDense(4, **options)
    gradients = case in ("as it comes", "bfloat16")
    twins.assert_twins(layer, twin, draw(shape), gradients=gradients)


def test_a_learned_similarity_is_that_of_the_twin(draw):
    layer = filled(nn.SphereLinear, similarity=nn.LearnableSigmoid)
    twin = linen.SphereDense(4, similarity=linen.LearnableSigmoid)
    twins.assert_twins(layer, twin, draw((3, 5)), gradients=True)


def test_a_learned_scale_is_that_of_the_twin(draw):
    options = dict(scale=3.0, learn_scale=True)
    layer, twin = (
        functools.partial(module.Scaled, similarity=module.LearnableSigmoid, **options)
        for module in (nn, linen)
    )
    layer = filled(nn.SphereLinear, similarity=layer)
    twin = linen.SphereDense(4, similarity=twin)
    twins.assert_twins(layer, twin, draw((3, 5)), gradients=True)


def test_a_general_layer_is_the_twin_of_the_nnx_layer(draw):
    options = dict(axis=(1, -1), use_bias=False)
    layer = helpers.filled(
        lambda: nn.SphereLinearGeneral(
            (4, 5), (2, 3), similarity=nn.LearnableSigmoid, **options, rngs=nnx.Rngs(0)
        )
    )
    twin = linen.SphereDenseGeneral(
        (2, 3), similarity=linen.LearnableSigmoid, **options
    )
    twins.assert_twins(layer, twin, draw((2, 4, 5)), gradients=True)


def test_a_product_class_of_the_user_comes_first(draw):
    variables = twins.variables_of(filled(nn.SphereLinear))
    made = dict(dot_general=lax.dot_general, dot_general_cls=lambda: halved)
    options = {}, dict(dot_general=halved), made
    layers = [linen.SphereDense(4, **each) for each in options]
    answers = jax.jit(lambda *arguments: [twin.apply(*arguments) for twin in layers])
    plain, expected, answer = answers(variables, draw((3, 5)))
    twins.assert_same(answer, expected)
    assert not np.allclose(answer, plain)


@pytest.mark.parametrize("dtype", [jnp.float32, jnp.bfloat16])
def test_the_head_is_the_twin_of_the_nnx_head(draw, dtype):
    layer = filled(nn.AngularHead, eps=0.1, param_dtype=dtype)
    twin = linen.AngularHead(4, eps=0.1, param_dtype=dtype)
    x = np.asarray(draw((2, 3, 5))).astype(dtype)
    twins.assert_twins(layer, twin, x, gradients=True)


@pytest.mark.parametrize("layer", [linen.SphereDense, linen.AngularHead])
@pytest.mark.usefixtures("as_a_user")
def test_wrong_arguments_are_refused_with_a_way_out(draw, layer):
    who = f"`{layer.__name__}` needs "
    with pytest.raises(ValueError, match=who + "a finite `eps > 0`, got `eps=-1"):
        layer(4, eps=-1.0)
    x = np.asarray(draw((3, 5)))
    variables = twins.init_shapes(layer(4), x)
    with pytest.raises(ValueError, match=who + ".*and `in_features=5`"):
        jax.eval_shape(layer(4).apply, variables, x[:, :3])


@pytest.mark.usefixtures("as_a_user")
def test_a_similarity_that_is_none_is_refused():
    with pytest.raises(TypeError, match="`SphereDense` needs a callable `similarity`"):
        linen.SphereDense(4, similarity=None)
