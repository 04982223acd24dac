import jax
import jax.numpy as jnp
import numpy as np
import optax
import pytest
from flax import nnx

from hypersphere import nn, ops
from tests import helpers, reference

SCALE = reference.normal(4, seed=7)
SHIFT = reference.normal(4, seed=8)


def draw(key, shape, dtype):
    noise = reference.normal(*shape, seed=len(shape))
    return jax.device_put(noise.astype(dtype))


def make_conv(**arguments):
    defaults = dict(use_bias=False, kernel_init=draw, rngs=nnx.Rngs(0))
    return nnx.Conv(4, 4, (3, 2), **defaults | arguments)


def make_linear(**arguments):
    defaults = dict(use_bias=False, kernel_init=draw, rngs=nnx.Rngs(0))
    return nnx.Linear(5, 4, **defaults | arguments)


def normalize(layer, **arguments):
    """A SphereNorm in the middle of training: scale and shift have moved."""
    norm = nn.SphereNorm(layer, **arguments)
    norm.scale[...], norm.bias[...] = map(jax.device_put, (SCALE, SHIFT))
    return norm


MASK = (reference.normal(3, 2, 4, 4, seed=1) > 0).astype(np.float32)
MASK = jax.device_put(MASK)
CASES = {
    "as it comes": (dict(), dict()),
    "groups": (dict(feature_group_count=2), dict(groups=2)),
    "strides, valid": (
        dict(strides=2, padding="VALID"),
        dict(strides=(2, 2), padding="VALID"),
    ),
    "dilation, pairs": (
        dict(kernel_dilation=2, padding=((2, 0), (1, 3))),
        dict(kernel_dilation=(2, 2), padding=((2, 0), (1, 3))),
    ),
    "mask": (dict(mask=MASK), dict(mask=MASK)),
}


@pytest.mark.parametrize("case", ["groups", "mask", "dense"])
def test_its_exponent_leads_from_the_sphere_to_the_plain_layer(case):
    def make():
        return make_linear() if case == "dense" else make_conv(**CASES[case][0])

    x = reference.normal(2, 5) if case == "dense" else reference.normal(2, 5, 6, 4)
    norm = nn.SphereNorm(make(), use_length=True, eps=1e-4)
    graph, exponent, rest = nnx.split(norm, nnx.PathContains("exponent"), ...)

    @jax.jit
    def answers(power, x):
        moved = jax.tree.map(lambda leaf: power, exponent)
        answer = lambda power: nnx.merge(  # noqa: E731
            graph, jax.tree.map(lambda leaf: power, exponent), rest
        )(0 * x)
        pull = jax.vjp(answer, power)[1]
        sphere, plain = nn.SphereNorm(make(), eps=1e-4), make()
        return (
            nnx.merge(graph, moved, rest)(x),
            sphere(x),
            plain(x),
            pull(answer(power)),
        )

    power = np.float32([0, 1, 0, 1])
    answer, sphere, plain, slope = answers(power, x)
    expected = np.where(power == 0, sphere, plain)
    np.testing.assert_allclose(answer, expected, atol=1e-4)
    assert np.isfinite(slope).all()  # where patches are zero
    assert not nn.directions(norm)


@pytest.mark.parametrize(("options", "truth"), CASES.values(), ids=CASES)
def test_is_scale_times_response_plus_shift_for_a_convolution(options, truth):
    x = reference.normal(2, 5, 6, 4)
    norm = normalize(make_conv(**options), similarity=ops.Linear())
    kernel = norm.layer.kernel[...]
    truth = reference.sphere_conv(x, kernel, reference.linear, **truth)
    helpers.assert_close(helpers.respond(norm, x), SCALE * truth + SHIFT)


def test_circular_padding_counts_the_pixels_that_come_round():
    x = reference.normal(2, 5, 6, 4)
    norm = normalize(make_conv(padding="CIRCULAR"))
    around = np.pad(x, [(0, 0), (1, 1), (0, 1), (0, 0)], "wrap")
    truth = reference.sphere_conv(around, norm.layer.kernel[...], padding="VALID")
    helpers.assert_close(helpers.respond(norm, x), SCALE * truth + SHIFT)


@pytest.mark.parametrize("batch", [(), (2, 3)], ids=str)
def test_is_scale_times_response_plus_shift_for_a_dense_layer(batch):
    x = reference.normal(*batch, 5)
    norm = normalize(make_linear(), similarity=ops.Linear, eps=0.5)
    kernel = np.asarray(norm.layer.kernel[...])[None, None]
    pixels = x.reshape(-1, 1, 1, 5)
    truth = reference.sphere_conv(pixels, kernel, reference.linear, eps=0.5)
    truth = SCALE * truth.reshape(*batch, 4) + SHIFT
    helpers.assert_close(helpers.respond(norm, x), truth)


@pytest.mark.parametrize("batch", [(), (2, 3)], ids=str)
def test_takes_any_number_of_batch_dimensions(batch):
    x = reference.normal(*batch, 5, 6, 4)
    norm = normalize(make_conv())
    truth = reference.sphere_conv(x.reshape(-1, 5, 6, 4), norm.layer.kernel[...])
    truth = (SCALE * truth + SHIFT).reshape(*batch, 5, 6, 4)
    helpers.assert_close(helpers.respond(norm, x), truth)


@pytest.mark.parametrize("options", [{}, {"mask": MASK}, {"padding": "CIRCULAR"}])
def test_starts_as_the_spherical_layer_with_the_same_kernel(options):
    x = reference.normal(2, 5, 6, 4)
    norm = nn.SphereNorm(make_conv(**options))
    conv = nn.SphereConv(
        4, 4, (3, 2), use_bias=False, kernel_init=draw, rngs=nnx.Rngs(0), **options
    )
    np.testing.assert_array_equal(norm.layer.kernel[...], conv.kernel[...])
    answers = jax.jit(lambda x: (norm(x), conv(x)))
    np.testing.assert_array_equal(*answers(x))


def test_the_wrapped_layer_is_never_written_to():
    x = reference.normal(2, 5, 6, 4)
    conv = make_conv()
    attributes = dict(vars(conv))
    kernel, answer = np.array(conv.kernel[...]), np.array(helpers.respond(conv, x))
    norm = nn.SphereNorm(conv, similarity=nn.LearnableSigmoid)
    jax.jit(lambda x: norm(x))(x)  # `norm` itself is called, not a copy
    assert norm.layer is conv
    assert {k: v is attributes[k] for k, v in vars(conv).items()} == dict.fromkeys(
        attributes, True
    )
    np.testing.assert_array_equal(conv.kernel[...], kernel)
    np.testing.assert_array_equal(helpers.respond(conv, x), answer)


def paths(params):
    return {".".join(map(str, path)) for path, _ in nnx.to_flat_state(params)}


def test_everything_learns_and_the_kernel_moves_by_the_optimizer_alone():
    x, target = reference.normal(2, 5, 6, 4), reference.normal(2, 5, 6, 4, seed=1)
    norm = nn.SphereNorm(make_conv(), similarity=nn.LearnableSigmoid)
    graphdef, params = nnx.split(norm)
    assert paths(params) == {"layer.kernel", "scale", "bias", "similarity.raw"}
    optimizer = optax.sgd(0.1)

    @jax.jit
    def step(params, x):
        total = lambda p: jnp.sum(nnx.merge(graphdef, p)(x) * target)  # noqa: E731
        gradients = jax.grad(total)(params)
        updates, _ = optimizer.update(gradients, optimizer.init(params))
        return gradients, optax.apply_updates(params, updates)

    gradients, after = step(params, x)
    for gradient, old, new in zip(
        *map(jax.tree.leaves, (gradients, params, after)), strict=True
    ):
        assert np.isfinite(gradient).all() and np.all(np.abs(gradient) > 1e-6)
        helpers.assert_close(new, np.float64(old) - 0.1 * np.float64(gradient))
    np.testing.assert_allclose(
        gradients["bias"][...], target.sum((0, 1, 2)), rtol=1e-4, atol=1e-5
    )


@pytest.mark.parametrize("use_scale", [True, False])
@pytest.mark.parametrize("use_bias", [True, False])
def test_scale_and_shift_are_optional(use_scale, use_bias):
    x = reference.normal(2, 5)
    norm = nn.SphereNorm(make_linear(), use_scale=use_scale, use_bias=use_bias)
    expected = ["layer.kernel", *["scale"] * use_scale, *["bias"] * use_bias]
    assert paths(nnx.state(norm, nnx.Param)) == set(expected)
    truth = helpers.respond(nn.SphereNorm(make_linear()), x)
    np.testing.assert_array_equal(helpers.respond(norm, x), truth)


def test_equal_layers_share_one_graph_definition():
    one, other = (
        nnx.graphdef(nn.SphereNorm(make_conv(), similarity=nn.LearnableSigmoid))
        for _ in range(2)
    )
    assert one == other
    assert hash(one) == hash(other)


def test_answers_in_the_dtype_that_the_layer_computes_in():
    x = reference.normal(2, 5, 6, 4)
    norm = normalize(make_conv(dtype=jnp.bfloat16))
    assert norm.scale.dtype == jnp.float32
    y = helpers.respond(norm, x)
    assert y.dtype == jnp.bfloat16
    x, kernel = (
        np.asarray(a).astype(jnp.bfloat16) for a in (x, norm.layer.kernel[...])
    )
    truth = SCALE * reference.sphere_conv(x, kernel) + SHIFT
    helpers.assert_close(y, truth, "bfloat16")
    wide = make_conv(dtype=jnp.bfloat16, preferred_element_type=jnp.float32)
    assert helpers.respond(normalize(wide), x).dtype == jnp.float32


def test_the_layers_own_functions_are_called():
    called = []

    def conv_general_dilated(*arrays, **options):
        called.append("conv")
        return jax.lax.conv_general_dilated(*arrays, **options)

    def dot_general(*arrays, **options):
        called.append("dot")
        return jax.lax.dot_general(*arrays, **options)

    conv = make_conv(conv_general_dilated=conv_general_dilated)
    helpers.respond(nn.SphereNorm(conv), reference.normal(2, 5, 6, 4))
    linear = make_linear(dot_general=dot_general)
    helpers.respond(nn.SphereNorm(linear), reference.normal(2, 5))
    assert called == ["conv", "dot"]


def test_bad_arguments_are_named(as_a_user):
    for layer, name in [
        (make_conv(use_bias=True), "Conv"),
        (make_linear(use_bias=True), "Linear"),
    ]:
        with pytest.raises(
            ValueError,
            match=rf"`SphereNorm` needs a layer without bias.* got a `{name}` with one"
            r".*`use_bias=False`",
        ):
            nn.SphereNorm(layer)
    others = [
        nn.SphereConv(4, 4, (1,), use_bias=False, kernel_init=draw, rngs=nnx.Rngs(0)),
        nnx.ConvTranspose(4, 4, (1,), kernel_init=draw, rngs=nnx.Rngs(0)),
        nnx.BatchNorm(4, rngs=nnx.Rngs(0)),
        None,
    ]
    for other in others:
        with pytest.raises(
            TypeError,
            match=r"`layer` to be an `nnx\.Conv` or `nnx\.Linear`, got "
            rf"`{type(other).__name__}`",
        ):
            nn.SphereNorm(other)
    with pytest.raises(ValueError, match=r"`SphereNorm` needs a finite `eps > 0`.*=0"):
        nn.SphereNorm(make_conv(), eps=0.0)
    with pytest.raises(
        TypeError, match=r"`SphereNorm` needs a callable `similarity`.*='cosine'`"
    ):
        nn.SphereNorm(make_conv(), similarity="cosine")
    with pytest.raises(
        ValueError,
        match=r"`SphereNorm` needs .*`inputs\.shape=\(2, 5, 6, 3\)` and `in_features=4",
    ):
        nn.SphereNorm(make_conv())(np.zeros((2, 5, 6, 3), np.float32))
