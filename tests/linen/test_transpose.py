import jax
import jax.numpy as jnp
import numpy as np
import pytest
from flax import nnx

from hypersphere import linen, nn, ops
from tests.linen import twins

IMAGE = (2, 5, 4, 3)
MASK = jnp.asarray(np.random.default_rng(3).random((3, 2, 3, 6)) > 0.3, jnp.float32)

# Of the input, the window, and the layer's other arguments.
CASES = {
    "as it comes": (IMAGE, (3, 2), {}),
    "one axis, one int": ((2, 7, 3), (3,), {"strides": 2}),
    "no batch axis": (IMAGE[1:], (3, 2), {"strides": (2, 1)}),
    "two batch axes": ((2, *IMAGE), (3, 2), {"padding": "VALID"}),
    "circular": (IMAGE, (3, 2), {"padding": "CIRCULAR", "strides": (2, 3)}),
    "pairs, dilated": (
        IMAGE,
        (3, 2),
        {"padding": ((2, 1), 1), "kernel_dilation": (2, 2)},
    ),
    "turned": (IMAGE, (3, 2), {"transpose_kernel": True, "similarity": ops.Linear()}),
    "mask": (IMAGE, (3, 2), {"mask": MASK, "use_bias": False}),
    "bfloat16": (IMAGE, (3, 2), {"dtype": jnp.bfloat16, "eps": 0.1}),
    "wider": (
        IMAGE,
        (3, 2),
        # JAX before 0.10 has no gradient for bfloat16 with a wider answer.
        {"dtype": jnp.float16, "preferred_element_type": jnp.float32},
    ),
}


@pytest.mark.parametrize(("shape", "window", "options"), CASES.values(), ids=CASES)
def test_is_the_twin_of_the_nnx_layer(draw, shape, window, options):
    layer = nn.SphereConvTranspose(3, 6, window, rngs=nnx.Rngs(0), **options)
    twin = linen.SphereConvTranspose(6, window, **options)
    twins.assert_twins(layer, twin, draw(shape), draw, eager=not options)


def test_a_learned_similarity_is_that_of_the_twin(draw):
    layer = nn.SphereConvTranspose(
        3, 6, (3, 2), similarity=nn.LearnableSigmoid, rngs=nnx.Rngs(0)
    )
    twin = linen.SphereConvTranspose(6, (3, 2), similarity=linen.LearnableSigmoid)
    twins.assert_twins(layer, twin, draw(IMAGE), draw)


@pytest.mark.usefixtures("as_a_user")
def test_wrong_arguments_are_refused_with_a_way_out(draw):
    who, make = "`SphereConvTranspose` needs ", linen.SphereConvTranspose
    with pytest.raises(TypeError, match=who + "`kernel_size` as a tuple"):
        make(6, 3)
    with pytest.raises(ValueError, match=who + "a finite `eps > 0`"):
        make(6, (3, 2), eps=0.0)
    with pytest.raises(TypeError, match=who + "a callable `similarity`"):
        make(6, (3, 2), similarity="cosine")
    x, key = draw(IMAGE), jax.random.key(0)
    with pytest.raises(ValueError, match=who + "a mask in the shape of its kernel"):
        make(6, (3, 2), mask=jnp.ones((3, 2))).init(key, x)
    for turned in (False, True):
        twin = make(6, (3, 2), transpose_kernel=turned)
        variables = twin.init(key, x)
        with pytest.raises(ValueError, match=who + ".*and `in_features=3`"):
            twin.apply(variables, x[..., :2])
