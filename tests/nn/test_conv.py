import functools
import inspect

import jax
import jax.numpy as jnp
import numpy as np
import optax
import pytest
from flax import nnx
from flax.nnx.nn import dtypes
from jax import lax

from hypersphere import nn, ops
from tests import helpers, reference


def draw(key, shape, dtype):
    noise = reference.normal(*shape, seed=len(shape))
    return jax.device_put(noise.astype(dtype))


def make(in_features, out_features, kernel_size, **arguments):
    arguments = dict(kernel_init=draw, bias_init=draw, rngs=nnx.Rngs(3)) | arguments
    return nn.SphereConv(in_features, out_features, kernel_size, **arguments)


def wrapped(x, before, after, mode):
    pads = [(0, 0), *zip(before, after, strict=True), (0, 0)]
    return np.pad(np.asarray(x), pads, mode)


def case(x=(2, 5, 4, 3), size=(3, 2), **more):
    return dict(x=x, size=size, **more)


# What the layer is given; `lax` is the same in the words of the reference, and `pad`
# what NumPy does to the input first.
CASES = {
    "1d": case(x=(2, 7, 3), size=(4,)),
    "2d": case(),
    "3d": case(x=(1, 4, 3, 3, 2), size=(2, 3, 2)),
    "valid": case(layer=dict(padding="VALID"), lax="VALID"),
    "one int": case(layer=dict(padding=2), lax=[(2, 2), (2, 2)]),
    "an int per axis": case(layer=dict(padding=(0, 1)), lax=[(0, 0), (1, 1)]),
    "pairs": case(layer=dict(padding=((2, 0), (1, 3))), lax=[(2, 0), (1, 3)]),
    "circular": case(
        layer=dict(padding="CIRCULAR"),
        pad=dict(before=(1, 0), after=(1, 1), mode="wrap"),
    ),
    "circular, dilated": case(
        x=(1, 6, 6, 2),
        layer=dict(padding="CIRCULAR", kernel_dilation=2),
        pad=dict(before=(2, 1), after=(2, 1), mode="wrap"),
        kernel_dilation=(2, 2),
    ),
    "reflect": case(
        layer=dict(padding="REFLECT"),
        pad=dict(before=(1, 0), after=(1, 1), mode="reflect"),
    ),
    "causal": case(
        x=(2, 7, 3),
        size=(3,),
        layer=dict(padding="CAUSAL", kernel_dilation=2),
        pad=dict(before=(4,), after=(0,), mode="constant"),
        kernel_dilation=(2,),
    ),
    "strides": case(
        x=(2, 7, 6, 3), size=(3, 3), layer=dict(strides=(2, 3)), strides=(2, 3)
    ),
    "one stride": case(x=(2, 7, 6, 3), layer=dict(strides=2), strides=(2, 2)),
    "no stride": case(layer=dict(strides=None)),
    "kernel dilation": case(
        x=(1, 7, 6, 2), layer=dict(kernel_dilation=(2, 3)), kernel_dilation=(2, 3)
    ),
    "input dilation": case(
        x=(1, 4, 3, 2),
        size=(3, 3),
        layer=dict(input_dilation=(2, 3), strides=2),
        input_dilation=(2, 3),
        strides=(2, 2),
    ),
    "groups": case(x=(2, 5, 4, 4), layer=dict(feature_group_count=2), groups=2),
    "depthwise": case(filters=6, layer=dict(feature_group_count=3), groups=3),
}


def truth_of(case, x, kernel, similarity, **more):
    case = dict(case)
    for name in ("x", "size", "filters", "layer"):
        case.pop(name, None)
    if "pad" in case:
        x, case["lax"] = wrapped(x, **case.pop("pad")), "VALID"
    padding = case.pop("lax", "SAME")
    return reference.sphere_conv(x, kernel, similarity, padding=padding, **case, **more)


# Numbers alone the operator's tests have, too.
OF_THE_LAYER = ("1d", "one int", "an int per axis", "circular, dilated", "reflect")
OF_THE_LAYER += ("causal", "input dilation", "depthwise")


@pytest.mark.parametrize("case", helpers.sampled(CASES, *OF_THE_LAYER))
def test_equals_the_slow_reference(case):
    case = CASES[case]
    x = reference.normal(*case["x"])
    layer = make(
        x.shape[-1],
        case.get("filters", 4),
        case["size"],
        similarity=ops.Linear(),
        eps=0.5,
        **case.get("layer", {}),
    )
    truth = truth_of(case, x, layer.kernel[...], reference.linear, eps=0.5)
    helpers.assert_close(helpers.respond(layer, x), truth + np.asarray(layer.bias[...]))


@pytest.mark.parametrize("name", ["2d", "circular", "groups", "strides", "causal"])
def test_behind_a_mask_the_norm_counts_what_the_mask_lets_through(name):
    case = CASES[name]
    x = reference.normal(*case["x"])
    options = case.get("layer", {})
    per_group = x.shape[-1] // options.get("feature_group_count", 1)
    shape = (*case["size"], per_group, 4)
    mask = reference.normal(*shape, seed=1) > 0
    mask = jax.device_put(mask.astype(np.float32))
    layer = make(x.shape[-1], 4, case["size"], mask=mask, use_bias=False, **options)
    truth = truth_of(case, x, layer.kernel[...], reference.cosine, mask=mask)
    helpers.assert_close(helpers.respond(layer, x), truth)
    assert layer.bias is None


def test_takes_any_number_of_batch_dimensions():
    x = reference.normal(2, 3, 5, 4, 3)
    layer = make(3, 4, (3, 2))
    flat = np.asarray(helpers.respond(layer, x.reshape(6, 5, 4, 3)))
    helpers.assert_close(helpers.respond(layer, x), np.reshape(flat, (2, 3, 5, 4, 4)))
    helpers.assert_close(helpers.respond(layer, x[0, 0]), flat[0])


def test_computes_in_dtype_and_keeps_parameters_in_param_dtype():
    x = reference.normal(2, 5, 4, 3)
    layer = make(3, 4, (3, 2), dtype=jnp.bfloat16)
    assert layer.kernel.dtype == layer.bias.dtype == jnp.float32
    y = helpers.respond(layer, x)
    assert y.dtype == jnp.bfloat16
    arrays = x, np.asarray(layer.kernel[...]), np.asarray(layer.bias[...])
    rounded = [a.astype(jnp.bfloat16) for a in arrays]
    truth = reference.sphere_conv(*rounded[:2]) + np.asarray(rounded[2], float)
    helpers.assert_close(y, truth, "bfloat16")

    layer = make(3, 4, (3, 2), param_dtype=jnp.bfloat16)
    assert layer.kernel.dtype == layer.bias.dtype == jnp.bfloat16
    y = helpers.respond(layer, x)
    assert y.dtype == jnp.float32  # a float32 input promotes
    truth = reference.sphere_conv(x, layer.kernel[...])
    helpers.assert_close(y, truth + np.asarray(layer.bias[...], float))


def test_preferred_element_type_is_that_of_the_response():
    x = reference.normal(2, 5, 4, 3).astype(jnp.bfloat16)
    wide = dict(dtype=jnp.bfloat16, preferred_element_type=jnp.float32)
    layer = make(3, 4, (3, 2), use_bias=False, **wide)
    y = helpers.respond(layer, x)
    assert y.dtype == jnp.float32
    kernel = np.asarray(layer.kernel[...]).astype(jnp.bfloat16)
    helpers.assert_close(y, reference.sphere_conv(x, kernel), "bfloat16")


def every_argument(called):
    """A value for each argument of `nnx.Conv`; `called` notes functions called."""

    def promote_dtype(arrays, /, **options):
        called.append("promote_dtype")
        return dtypes.promote_dtype(arrays, **options)

    def conv_general_dilated(*arrays, **options):
        called.append("conv_general_dilated")
        return lax.conv_general_dilated(*arrays, **options)

    return dict(
        in_features=4,
        out_features=6,
        kernel_size=(3, 2),
        strides=(2, 1),
        padding=((1, 0), (2, 1)),
        input_dilation=2,
        kernel_dilation=(1, 2),
        feature_group_count=2,
        use_bias=True,
        mask=jax.device_put(reference.normal(3, 2, 2, 6, seed=1) > 0),
        dtype=jnp.float32,
        param_dtype=jnp.float32,
        precision="highest",
        kernel_init=draw,
        bias_init=draw,
        conv_general_dilated=conv_general_dilated,
        promote_dtype=promote_dtype,
        preferred_element_type=jnp.float32,
        rngs=nnx.Rngs(0),
        kernel_metadata={"role": "filters"},
        bias_metadata={"role": "shift"},
    )


def test_every_argument_of_the_plain_convolution_keeps_its_meaning():
    called = []
    arguments = every_argument(called)
    assert set(arguments) == set(inspect.signature(nnx.Conv.__init__).parameters) - {
        "self"
    }
    layer = nn.SphereConv(**arguments)
    plain = nnx.Conv(**arguments | {"rngs": nnx.Rngs(0)})
    for name in ("kernel", "bias"):
        ours, theirs = getattr(layer, name), getattr(plain, name)
        np.testing.assert_array_equal(ours[...], theirs[...])
        assert ours.role == theirs.role == {"kernel": "filters", "bias": "shift"}[name]
    x = reference.normal(2, 4, 5, 4)
    y = helpers.respond(layer, x)
    truth = reference.sphere_conv(
        x,
        layer.kernel[...],
        strides=(2, 1),
        padding=((1, 0), (2, 1)),
        input_dilation=(2, 2),
        kernel_dilation=(1, 2),
        groups=2,
        mask=arguments["mask"],
    )
    helpers.assert_close(y, truth + np.asarray(layer.bias[...]))
    assert y.shape == jax.eval_shape(plain, x).shape
    assert called[:2] == ["promote_dtype", "conv_general_dilated"]


class Power(nnx.Module):
    def __init__(self, features, *, exponent=3.0, rngs):
        self.exponent = nnx.Param(jnp.full((features,), exponent))
        self.scale = nnx.Param(jax.random.normal(rngs.params(), (features,)))

    def __call__(self, cos):
        shape = (1,) * (cos.ndim - 1) + (-1,)
        size = jnp.abs(cos) ** self.exponent[...].reshape(shape)
        return jnp.sign(cos) * size * self.scale[...].reshape(shape)


def cube(cos):
    return cos**3


SIMILARITIES = {
    "an object": (ops.Linear(), reference.linear),
    "a class": (ops.Linear, reference.linear),
    "a partial of a class": (
        functools.partial(ops.Sigmoid, k=0.1),
        lambda c: reference.sigmoid(c, 0.1),
    ),
    "a function": (cube, cube),
    "a partial of a function": (
        functools.partial(ops.sigmoid, k=0.5),
        lambda c: reference.sigmoid(c, 0.5),
    ),
    "a module class": (nn.LearnableSigmoid, lambda c: reference.sigmoid(c, 0.75)),
    "a partial of a module class": (
        functools.partial(nn.LearnableSigmoid, init=0.3),
        lambda c: reference.sigmoid(c, 0.35),
    ),
    "a module": (
        nn.LearnableSigmoid(4, init=-0.3, rngs=nnx.Rngs(0)),
        lambda c: reference.sigmoid(c, 0.35),
    ),
}


@pytest.mark.parametrize(
    ("similarity", "truth"), SIMILARITIES.values(), ids=SIMILARITIES
)
def test_answers_with_the_similarity_it_is_given(similarity, truth):
    x = reference.normal(2, 5, 4, 3)
    layer = make(3, 4, (3, 2), similarity=similarity, use_bias=False)
    truth = reference.sphere_conv(x, layer.kernel[...], truth)
    helpers.assert_close(helpers.respond(layer, x), truth)


def test_a_similarity_module_of_ones_own_is_made_with_the_layers_filters_and_keys():
    x = reference.normal(2, 5, 4, 3)
    layer = make(3, 4, (3, 2), similarity=Power, use_bias=False)
    assert len(set(np.asarray(layer.similarity.scale[...]))) == 4
    truth = reference.sphere_conv(x, layer.kernel[...], cube)
    truth = truth * np.asarray(layer.similarity.scale[...])
    helpers.assert_close(helpers.respond(layer, x), truth)


def learned(**arguments):
    return make(3, 4, (3, 2), similarity=nn.LearnableSigmoid, **arguments)


def test_a_learned_softness_is_in_the_state_and_learns():
    x = reference.normal(2, 5, 4, 3)
    target = reference.normal(2, 5, 4, 4, seed=1)
    graphdef, params = nnx.split(learned())
    paths = {".".join(map(str, path)) for path, _ in nnx.to_flat_state(params)}
    assert paths == {"kernel", "bias", "similarity.raw"}
    optimizer = optax.sgd(0.1)

    @jax.jit
    def step(params, x):
        total = lambda p: jnp.sum(nnx.merge(graphdef, p)(x) * target)  # noqa: E731
        gradients = jax.grad(total)(params)
        updates, _ = optimizer.update(gradients, optimizer.init(params))
        return gradients, optax.apply_updates(params, updates)

    gradients, after = step(params, x)
    slope = np.asarray(gradients["similarity"]["raw"][...])
    assert np.isfinite(slope).all() and (np.abs(slope) > 1e-3).all()

    def numeric(raw):  # the kernel stays, k moves
        k = abs(raw) + 0.05
        y = reference.sphere_conv(
            x, params["kernel"][...], lambda c: reference.sigmoid(c, k)
        )
        return np.sum(y * np.asarray(target), axis=(0, 1, 2))

    truth = (numeric(0.7 + 1e-5) - numeric(0.7 - 1e-5)) / 2e-5
    np.testing.assert_allclose(slope, truth, rtol=1e-4, atol=1e-4)
    raw = np.asarray(after["similarity"]["raw"][...])
    helpers.assert_close(raw, 0.7 - 0.1 * slope)
    learnt = jax.jit(lambda after: nnx.merge(graphdef, after).similarity.k)
    helpers.assert_close(learnt(after), np.abs(raw) + 0.05)


def test_equal_layers_share_one_graph_definition():
    one, other = nnx.graphdef(learned()), nnx.graphdef(learned(rngs=nnx.Rngs(4)))
    assert one == other
    assert hash(one) == hash(other)
    assert one != nnx.graphdef(learned(eps=1e-3))


def test_one_similarity_can_serve_two_layers():
    shared = nn.LearnableSigmoid(4, rngs=nnx.Rngs(0))
    model = nnx.Sequential(
        make(3, 4, (3, 2), similarity=shared), make(4, 4, (3, 2), similarity=shared)
    )
    graphdef, params = nnx.split(model)
    raw = [path for path, _ in nnx.to_flat_state(params) if path[-1] == "raw"]
    assert len(raw) == 1
    x = reference.normal(2, 5, 4, 3)
    merged = nnx.merge(graphdef, params)
    assert merged.layers[0].similarity is merged.layers[1].similarity
    answers = jax.jit(lambda x: (model(x), merged(x)))
    np.testing.assert_array_equal(*answers(x))


def test_softness_stays_positive_whatever_the_parameter():
    @jax.jit
    def softness(raw):
        layer = nn.LearnableSigmoid(4, rngs=nnx.Rngs(0))
        start, layer.raw[...] = layer.k, raw
        return start, layer.k

    start, k = softness(np.array([-2.0, -1e-3, 0.0, 5.0], np.float32))
    np.testing.assert_allclose(start, np.full(4, 0.75), rtol=1e-6)
    np.testing.assert_allclose(k, [2.05, 0.051, 0.05, 5.05], rtol=1e-6)


def test_bad_arguments_are_named_at_construction(as_a_user):
    named = r"`SphereConv` needs `kernel_size` as a tuple.*"
    with pytest.raises(TypeError, match=rf"{named}`kernel_size=3`.*\(3,\).*\(3, 3\)"):
        make(3, 4, 3)
    with pytest.raises(TypeError, match=r"as a tuple.*`kernel_size=3\.0`"):
        make(4, 6, 3.0)
    with pytest.raises(TypeError, match=r"whole numbers.*`kernel_size=\(3, 2\.5\)`"):
        make(4, 6, (3, 2.5))
    with pytest.raises(ValueError, match=r"each at least 1.*`kernel_size=\(3, 0\)`"):
        make(3, 4, (3, 0))
    named = r"`in_features=3`, `out_features=6` and `feature_group_count=2`"
    with pytest.raises(ValueError, match=named):
        make(3, 6, (3, 3), feature_group_count=2)
    with pytest.raises(ValueError, match=r"multiples.*`out_features=5`"):
        make(4, 5, (3, 3), feature_group_count=2)
    with pytest.raises(ValueError, match=r"multiples.*`feature_group_count=0`"):
        make(4, 4, (3, 3), feature_group_count=0)
    for eps in (0.0, -1e-2, float("nan")):
        with pytest.raises(
            ValueError, match=rf"`SphereConv` needs a finite `eps > 0`, got `eps={eps}`"
        ):
            make(3, 4, (3, 3), eps=eps)
    named = r"needs a callable `similarity`, got `similarity='linear'`"
    with pytest.raises(TypeError, match=named):
        make(3, 4, (3, 3), similarity="linear")
    with pytest.raises(TypeError, match="kernel_sise"):
        make(3, 4, (3, 3), kernel_sise=(3, 3))


def test_wrong_input_features_are_named_at_the_call(as_a_user):
    layer = make(3, 4, (3, 3))
    with pytest.raises(
        ValueError,
        match=r"`SphereConv` needs `inputs\.shape\[-1\] == in_features`, got "
        r"`inputs\.shape=\(2, 3, 6, 6\)` and `in_features=3`",
    ):
        layer(np.zeros((2, 3, 6, 6), np.float32))
    with pytest.raises(TypeError, match=r"`lhs\.dtype=complex64`"):
        jax.eval_shape(layer, np.zeros((1, 6, 6, 3), np.complex64))


@pytest.mark.parametrize("kind", [nn.SphereConv, nn.DecoupledConv])
def test_a_layer_hands_on_that_its_input_is_stored(kind):
    x = jax.ShapeDtypeStruct((2, 4, 4, 8), jnp.bfloat16)

    def products(**told):
        layer = nnx.eval_shape(
            lambda: kind(8, 4, (1, 1), dtype=jnp.bfloat16, rngs=nnx.Rngs(0), **told)
        )
        graph, state = nnx.split(layer)
        program = jax.make_jaxpr(lambda state, x: nnx.merge(graph, state)(x))(state, x)
        return str(program).count("platform_index")

    assert products(is_input_stored=True) < products()
