import jax
import jax.numpy as jnp
import numpy as np
import pytest
from flax import nnx

from hypersphere import linen, nn, ops
from tests import helpers
from tests.linen import twins

IMAGE = (2, 5, 4, 3)
MASK = (np.random.default_rng(3).random((3, 2, 3, 6)) > 0.3).astype(np.float32)
MASK = jax.device_put(MASK)

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


WITH_GRADIENTS = ["as it comes", "circular", "turned", "mask", "bfloat16", "wider"]


def filled(window, **options):
    return helpers.filled(
        lambda: nn.SphereConvTranspose(3, 6, window, **options, rngs=nnx.Rngs(0))
    )


FAST = ("no batch axis", "turned", "bfloat16")


@pytest.mark.parametrize("case", helpers.sampled(CASES, *FAST))
def test_is_the_twin_of_the_nnx_layer(draw, case):
    shape, window, options = CASES[case]
    layer = filled(window, **options)
    twin = linen.SphereConvTranspose(6, window, **options)
    twins.assert_twins(layer, twin, draw(shape), gradients=case in WITH_GRADIENTS)


def test_a_learned_similarity_is_that_of_the_twin(draw):
    layer = filled((3, 2), similarity=nn.LearnableSigmoid)
    twin = linen.SphereConvTranspose(6, (3, 2), similarity=linen.LearnableSigmoid)
    twins.assert_twins(layer, twin, draw(IMAGE), gradients=True)


@pytest.mark.usefixtures("as_a_user")
def test_wrong_arguments_are_refused_with_a_way_out(draw):
    who, make = "`SphereConvTranspose` needs ", linen.SphereConvTranspose
    with pytest.raises(TypeError, match=who + "`kernel_size` as a tuple"):
        make(6, 3)
    with pytest.raises(ValueError, match=who + "a finite `eps > 0`"):
        make(6, (3, 2), eps=0.0)
    with pytest.raises(TypeError, match=who + "a callable `similarity`"):
        make(6, (3, 2), similarity="cosine")
    x = np.asarray(draw(IMAGE))
    with pytest.raises(ValueError, match=who + "a mask in the shape of its kernel"):
        twins.init_shapes(make(6, (3, 2), mask=np.ones((3, 2))), x)
    for turned in (False, True):
        twin = make(6, (3, 2), transpose_kernel=turned)
        variables = twins.init_shapes(twin, x)
        with pytest.raises(ValueError, match=who + ".*and `in_features=3`"):
            jax.eval_shape(twin.apply, variables, x[..., :2])
