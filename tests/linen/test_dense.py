import jax
import jax.numpy as jnp
import numpy as np
import pytest
from flax import nnx
from jax import lax

from hypersphere import linen, nn, ops
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


@pytest.mark.parametrize(("shape", "options"), CASES.values(), ids=CASES)
def test_is_the_twin_of_the_nnx_layer(draw, shape, options):
    layer = nn.SphereLinear(5, 4, rngs=nnx.Rngs(0), **options)
    twin = linen.SphereDense(4, **options)
    twins.assert_twins(layer, twin, draw(shape), draw, eager=not options)


def test_a_learned_similarity_is_that_of_the_twin(draw):
    layer = nn.SphereLinear(5, 4, similarity=nn.LearnableSigmoid, rngs=nnx.Rngs(0))
    twin = linen.SphereDense(4, similarity=linen.LearnableSigmoid)
    twins.assert_twins(layer, twin, draw((3, 5)), draw)


def test_a_product_class_of_the_user_comes_first(draw):
    x = draw((3, 5))
    twin = linen.SphereDense(4, dot_general=halved)
    variables = twin.init(jax.random.key(0), x)
    made = linen.SphereDense(
        4, dot_general=lax.dot_general, dot_general_cls=lambda: halved
    )
    twins.assert_same(made.apply(variables, x), twin.apply(variables, x))
    assert not np.allclose(
        made.apply(variables, x), linen.SphereDense(4).apply(variables, x)
    )


@pytest.mark.parametrize("dtype", [jnp.float32, jnp.bfloat16])
def test_the_head_is_the_twin_of_the_nnx_head(draw, dtype):
    layer = nn.AngularHead(5, 4, eps=0.1, param_dtype=dtype, rngs=nnx.Rngs(0))
    twin = linen.AngularHead(4, eps=0.1, param_dtype=dtype)
    twins.assert_twins(layer, twin, draw((2, 3, 5)).astype(dtype), draw)


@pytest.mark.parametrize("layer", [linen.SphereDense, linen.AngularHead])
@pytest.mark.usefixtures("as_a_user")
def test_wrong_arguments_are_refused_with_a_way_out(draw, layer):
    who = f"`{layer.__name__}` needs "
    with pytest.raises(ValueError, match=who + "a finite `eps > 0`, got `eps=-1"):
        layer(4, eps=-1.0)
    x = draw((3, 5))
    variables = layer(4).init(jax.random.key(0), x)
    with pytest.raises(ValueError, match=who + ".*and `in_features=5`"):
        layer(4).apply(variables, x[:, :3])


@pytest.mark.usefixtures("as_a_user")
def test_a_similarity_that_is_none_is_refused():
    with pytest.raises(TypeError, match="`SphereDense` needs a callable `similarity`"):
        linen.SphereDense(4, similarity=None)
