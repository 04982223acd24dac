import functools
import inspect

import jax
import jax.numpy as jnp
import numpy as np
import pytest
from flax import nnx
from flax.nnx.nn import dtypes

from hypersphere import nn, ops
from tests import helpers, reference


def draw(key, shape, dtype):
    noise = reference.normal(*shape, seed=len(shape))
    return jax.device_put(noise.astype(dtype))


def make(in_features=3, out_features=4, kernel_size=(3, 2), **arguments):
    arguments = dict(kernel_init=draw, bias_init=draw, rngs=nnx.Rngs(3)) | arguments
    return nn.SphereConvTranspose(in_features, out_features, kernel_size, **arguments)


CASES = {
    "1d": (dict(kernel_size=(4,), strides=2), dict(strides=(2,))),
    "2d": ({}, {}),
    "3d": (dict(kernel_size=(2, 1, 2), strides=(1, 2, 2)), dict(strides=(1, 2, 2))),
    "valid": (dict(padding="VALID", strides=2), dict(padding="VALID", strides=(2, 2))),
    "one int": (dict(padding=2), dict(padding=[(2, 2), (2, 2)])),
    "pairs": (dict(padding=((2, 0), (1, 3))), dict(padding=((2, 0), (1, 3)))),
    "dilation": (dict(kernel_dilation=(2, 1)), dict(kernel_dilation=(2, 1))),
    "one dilation": (dict(kernel_dilation=2), dict(kernel_dilation=(2, 2))),
    "turned": (
        dict(transpose_kernel=True, strides=(2, 1)),
        dict(transpose_kernel=True, strides=(2, 1)),
    ),
}
every_case = pytest.mark.parametrize(("ours", "theirs"), CASES.values(), ids=CASES)


@every_case
@pytest.mark.parametrize("masked", [pytest.param(False, marks=pytest.mark.slow), True])
def test_equals_the_slow_reference(ours, theirs, masked):
    rank = len(ours.get("kernel_size", (3, 2)))
    x = reference.normal(2, *(4, 3, 2)[:rank], 3)
    features = (4, 3) if ours.get("transpose_kernel") else (3, 4)
    shape = (*ours.get("kernel_size", (3, 2)), *features)
    mask = (reference.normal(*shape, seed=1) > 0).astype(np.float32)
    mask = jax.device_put(mask) if masked else None
    layer = make(similarity=ops.Linear(), eps=0.5, mask=mask, **ours)
    truth = reference.conv_transpose(
        x, layer.kernel[...], reference.linear, eps=0.5, mask=mask, **theirs
    )
    helpers.assert_close(helpers.respond(layer, x), truth + np.asarray(layer.bias[...]))


@pytest.mark.parametrize("strides", [1, (2, 3)])
@pytest.mark.parametrize("turned", [False, True])
def test_circular_output_shifts_with_the_input_and_has_the_shape_of_flax(
    strides, turned
):
    options = dict(strides=strides, padding="CIRCULAR", transpose_kernel=turned)
    layer = make(use_bias=False, **options)
    x = reference.normal(2, 4, 5, 3)
    both = np.concatenate([x, np.roll(x, (1, 2), (1, 2))])
    y, rolled = np.split(np.asarray(helpers.respond(layer, both)), 2)
    plain = nnx.eval_shape(
        lambda x: nnx.ConvTranspose(3, 4, (3, 2), rngs=nnx.Rngs(0), **options)(x), x
    )
    assert y.shape == plain.shape
    first, second = (strides, strides) if isinstance(strides, int) else strides
    truth = np.roll(y, (first, 2 * second), (1, 2))
    np.testing.assert_allclose(rolled, truth, rtol=1e-5, atol=1e-6)


def test_takes_any_number_of_batch_dimensions():
    x = reference.normal(2, 3, 4, 3, 3)
    layer = make(strides=2)
    flat = np.asarray(helpers.respond(layer, x.reshape(6, 4, 3, 3)))
    helpers.assert_close(helpers.respond(layer, x), np.reshape(flat, (2, 3, 8, 6, 4)))
    helpers.assert_close(helpers.respond(layer, x[0, 0]), np.asarray(flat[0], float))


def test_computes_in_dtype_and_keeps_parameters_in_param_dtype():
    x = reference.normal(2, 4, 3, 3)
    layer = make(dtype=jnp.bfloat16)
    assert layer.kernel.dtype == layer.bias.dtype == jnp.float32
    y = helpers.respond(layer, x)
    assert y.dtype == jnp.bfloat16
    arrays = x, np.asarray(layer.kernel[...]), np.asarray(layer.bias[...])
    rounded = [a.astype(jnp.bfloat16) for a in arrays]
    truth = reference.conv_transpose(*rounded[:2]) + np.asarray(rounded[2], float)
    helpers.assert_close(y, truth, "bfloat16")
    layer = make(param_dtype=jnp.bfloat16)
    assert layer.kernel.dtype == layer.bias.dtype == jnp.bfloat16
    assert helpers.respond(layer, x).dtype == jnp.float32  # a float32 input promotes
    wide = make(dtype=jnp.bfloat16, preferred_element_type=jnp.float32, use_bias=False)
    assert wide.bias is None
    assert helpers.respond(wide, x).dtype == jnp.float32


def test_every_argument_of_the_plain_layer_keeps_its_meaning():
    called = []

    def promote_dtype(arrays, /, **options):
        called.append("promote_dtype")
        return dtypes.promote_dtype(arrays, **options)

    arguments = dict(
        in_features=3,
        out_features=4,
        kernel_size=(3, 2),
        strides=(2, 1),
        padding=((1, 0), (2, 1)),
        kernel_dilation=(1, 2),
        use_bias=True,
        mask=jax.device_put(reference.normal(3, 2, 4, 3, seed=1) > 0),
        dtype=jnp.float32,
        param_dtype=jnp.float32,
        precision="highest",
        kernel_init=draw,
        bias_init=draw,
        transpose_kernel=True,
        promote_dtype=promote_dtype,
        preferred_element_type=jnp.float32,
        rngs=nnx.Rngs(0),
        kernel_metadata={"role": "filters"},
        bias_metadata={"role": "shift"},
    )
    known = inspect.signature(nnx.ConvTranspose.__init__).parameters
    assert set(arguments) == set(known) - {"self"}
    layer = nn.SphereConvTranspose(**arguments)
    plain = nnx.ConvTranspose(**arguments | {"rngs": nnx.Rngs(0)})
    for name, role in {"kernel": "filters", "bias": "shift"}.items():
        ours, theirs = getattr(layer, name), getattr(plain, name)
        np.testing.assert_array_equal(ours[...], theirs[...])
        assert ours.role == theirs.role == role
    x = reference.normal(2, 4, 3, 3)
    y = helpers.respond(layer, x)
    truth = reference.conv_transpose(
        x,
        layer.kernel[...],
        **{name: arguments[name] for name in ("strides", "padding", "kernel_dilation")},
        transpose_kernel=True,
        mask=arguments["mask"],
    )
    helpers.assert_close(y, truth + np.asarray(layer.bias[...]))
    assert y.shape == jax.eval_shape(plain, x).shape
    assert called[0] == "promote_dtype"


def test_a_learned_softness_is_in_the_state_and_learns():
    x = reference.normal(2, 4, 3, 3)
    target = reference.normal(2, 8, 6, 4, seed=1)
    layer = make(similarity=nn.LearnableSigmoid, strides=2)
    graphdef, params = nnx.split(layer)
    truth = reference.conv_transpose(
        x, layer.kernel[...], lambda c: reference.sigmoid(c, 0.75), strides=(2, 2)
    )
    helpers.assert_close(helpers.respond(layer, x), truth + np.asarray(layer.bias[...]))
    assert nnx.graphdef(make(similarity=nn.LearnableSigmoid, strides=2)) == graphdef

    @jax.jit
    @jax.grad
    def slopes(params, x):
        return jnp.sum(nnx.merge(graphdef, params)(x) * target)

    gradients = slopes(params, x)
    slope = np.asarray(gradients["similarity"]["raw"][...])
    assert np.isfinite(slope).all() and (np.abs(slope) > 1e-3).all()
    assert all(np.asarray(leaf).any() for leaf in jax.tree.leaves(gradients))


def test_bad_arguments_are_named(as_a_user):
    with pytest.raises(
        TypeError, match=r"`SphereConvTranspose` needs `kernel_size` as a tuple.*=3`"
    ):
        make(kernel_size=3)
    with pytest.raises(TypeError, match=r"`SphereConvTranspose` needs a callable"):
        make(similarity="cosine")
    with pytest.raises(ValueError, match=r"`SphereConvTranspose` needs a finite `eps"):
        make(eps=0.0)
    with pytest.raises(ValueError, match=r"`inputs\.shape=\(4, 4, 2\)` and `in_feat"):
        make()(np.ones((4, 4, 2), np.float32))
    with pytest.raises(
        ValueError, match=r"mask in the shape of its kernel, got `mask\.shape=\(3, 2\)`"
    ):
        make(mask=np.ones((3, 2)))(np.ones((4, 4, 3), np.float32))
    with pytest.raises(TypeError, match="stride"):
        functools.partial(make, stride=2)()
