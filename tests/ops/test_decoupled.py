import chex
import jax
import jax.numpy as jnp
import numpy as np
import pytest
from jax import lax

from hypersphere import ops
from hypersphere.ops import magnitudes
from tests import helpers, reference

STATIC = (
    "magnitude", "similarity", "weighted", "strides", "padding", "input_dilation",
    "kernel_dilation", "feature_group_count", "eps", "preferred_element_type",
)  # fmt: skip
decoupled_conv = jax.jit(ops.decoupled_conv, static_argnames=STATIC)
RADII = jnp.array([0.5, 2.0, 5.0, 20.0])
SIMILARITIES = {
    "cosine": ops.Cosine(),
    "linear": ops.Linear(),
    "sigmoid": ops.Sigmoid(),
    "squared_cosine": ops.SquaredCosine(),
}
every_magnitude = pytest.mark.parametrize("name", reference.MAGNITUDES)
CHANNELS_LAST = ("NHWC", "HWIO", "NHWC")


def pair(name, **numbers):
    """Ours, and the formula."""
    formula = reference.MAGNITUDES[name]
    ours = getattr(magnitudes, name)(**numbers)
    return ours, lambda norm, radius: formula(norm, radius, **numbers)


@every_magnitude
@pytest.mark.parametrize("similarity", SIMILARITIES)
def test_equals_the_slow_reference(draw, name, similarity):
    x, kernel = draw((2, 4, 3, 3)), draw((3, 2, 3, 4)) * 0.5
    ours, formula = pair(name, alpha=1.5)
    y = decoupled_conv(
        x, kernel, magnitude=ours, similarity=SIMILARITIES[similarity], radius=RADII
    )
    g = getattr(reference, similarity)
    truth = reference.decoupled_conv(x, kernel, formula, g, radius=RADII)
    helpers.assert_close(y, truth)


@pytest.mark.parametrize("weighted", [False, True])
@pytest.mark.parametrize(
    ("x", "kernel", "options"),
    [
        ((2, 7, 4), (3, 2, 4), dict(groups=2, strides=(2,))),
        ((1, 5, 4, 2), (3, 3, 2, 4), dict(padding="VALID", kernel_dilation=(2, 1))),
        ((1, 3, 3, 2), (2, 2, 2, 4), dict(input_dilation=(2, 2))),
        ((1, 3, 2, 3, 4), (2, 2, 2, 1, 4), dict(groups=4)),
    ],
    ids=["groups", "dilated kernel", "dilated input", "depthwise"],
)
def test_takes_the_geometry_of_a_convolution(draw, x, kernel, options, weighted):
    x, kernel, options = draw(x), draw(kernel), dict(options)
    ours, formula = pair("Tanh")
    more = dict(radius=RADII, weighted=weighted)
    truth = reference.decoupled_conv(x, kernel, formula, **more, **options)
    groups = options.pop("groups", 1)
    y = decoupled_conv(
        x, kernel, magnitude=ours, feature_group_count=groups, **more, **options
    )
    helpers.assert_close(y, truth)


def test_one_radius_is_that_of_every_filter(draw):
    x, kernel = draw((2, 4, 4, 3)), draw((3, 3, 3, 4))
    ours, formula = pair("Segment")
    y = decoupled_conv(x, kernel, magnitude=ours, radius=4.0)
    truth = reference.decoupled_conv(x, kernel, formula, radius=4.0)
    helpers.assert_close(y, truth)
    each = decoupled_conv(x, kernel, magnitude=ours, radius=jnp.full(4, 4.0))
    np.testing.assert_allclose(y, each, rtol=1e-6)


@pytest.mark.parametrize("layout", ["NHWC", "NCHW"])
def test_weighted_linear_cosine_is_the_plain_convolution(draw, layout):
    x, kernel = draw((2, 4, 6, 4)), draw((3, 3, 2, 4))
    numbers = (layout, "HWIO", layout)
    x = x.transpose(["NHWC".index(axis) for axis in layout])
    arguments = dict(dimension_numbers=numbers, feature_group_count=2)
    y = ops.decoupled_conv_general_dilated(
        x, kernel, (2, 1), "SAME",
        magnitude=magnitudes.Linear(), weighted=True, eps=1e-6, **arguments,
    )  # fmt: skip
    plain = lax.conv_general_dilated(x, kernel, (2, 1), "SAME", **arguments)
    np.testing.assert_allclose(y, plain, rtol=1e-4, atol=1e-5)


@pytest.mark.parametrize("similarity", SIMILARITIES)
def test_the_sphere_is_sphere_conv_bit_for_bit(draw, similarity):
    x, kernel = draw((2, 4, 3, 3)), draw((3, 2, 3, 4))
    g = SIMILARITIES[similarity]
    y = decoupled_conv(x, kernel, magnitude=magnitudes.Sphere(), similarity=g)
    one = jax.jit(lambda x, kernel: ops.sphere_conv(x, kernel, similarity=g))(x, kernel)
    np.testing.assert_array_equal(y, one)


@pytest.mark.parametrize("layout", ["NHWC", "NCHW"])
@pytest.mark.parametrize("name", ["Ball", "Log"])
def test_behind_a_mask_the_length_is_that_of_what_is_seen(draw, name, layout):
    x, kernel = draw((2, 4, 4, 4)), draw((3, 3, 2, 4))
    mask = (draw(kernel.shape) > 0).astype(jnp.float32)
    ours, formula = pair(name)
    y = ops.decoupled_conv_general_dilated(
        x.transpose(["NHWC".index(axis) for axis in layout]),
        kernel * mask,
        (1, 1),
        "SAME",
        dimension_numbers=(layout, "HWIO", "NHWC"),
        feature_group_count=2,
        magnitude=ours,
        radius=RADII,
        weighted=True,
        mask=mask,
    )
    truth = reference.decoupled_conv(
        x, kernel, formula, radius=RADII, weighted=True, groups=2, mask=mask
    )
    helpers.assert_close(y, truth)


@pytest.mark.parametrize("name", ["Tanh", "Mix"])
def test_gradients_agree_with_finite_differences(draw, name):
    x, kernel = draw((1, 3, 3, 4)), draw((2, 2, 2, 4))
    ours, _ = pair(name)

    def respond(x, kernel, radius):
        return ops.decoupled_conv(
            x, kernel, magnitude=ours, radius=radius, weighted=True,
            feature_group_count=2,
        )  # fmt: skip

    helpers.check_gradients(respond, x, kernel, RADII, order=2)


@every_magnitude
def test_values_and_gradients_are_finite_at_every_size(draw, name):
    x, kernel, target = draw((1, 3, 3, 4)), draw((2, 2, 4, 4)), draw((1, 3, 3, 4))
    ours, _ = pair(name)

    @jax.jit
    def slopes(x, kernel):
        def total(x, kernel, radius):
            y = ops.decoupled_conv(x, kernel, magnitude=ours, radius=radius)
            return jnp.sum(y * target), y

        return jax.value_and_grad(total, (0, 1, 2), has_aux=True)(
            x, kernel, jnp.asarray(RADII)
        )

    for size in (0.0, 1e-20, 1e18):
        for width in (0.0, 1.0, 1e18):
            (_, y), gradients = slopes(x * size, kernel * width)
            chex.assert_tree_all_finite((y, gradients))


@pytest.mark.parametrize("dtype", ["float16", "bfloat16"])
@pytest.mark.parametrize("weighted", [False, True])
def test_half_precision_equals_the_reference_on_the_rounded_input(
    draw, dtype, weighted
):
    x, kernel = draw((2, 4, 4, 8)).astype(dtype), draw((3, 3, 8, 4)).astype(dtype) / 8
    ours, formula = pair("Ball")
    options = dict(radius=RADII, weighted=weighted)
    y = decoupled_conv(x, kernel, magnitude=ours, **options)
    assert y.dtype == dtype
    truth = reference.decoupled_conv(x, kernel, formula, **options)
    helpers.assert_close(y, truth, dtype)
    wide = decoupled_conv(
        x, kernel, magnitude=ours, preferred_element_type=jnp.float32, **options
    )
    assert wide.dtype == jnp.float32


def test_a_magnitude_of_ones_own_is_called_with_length_and_radius(draw):
    x, kernel = draw((1, 4, 4, 2)), draw((3, 3, 2, 4))
    own = lambda norm, *, radius: norm**2 / radius  # noqa: E731
    y = decoupled_conv(x, kernel, magnitude=own, radius=RADII)
    formula = lambda norm, radius: norm**2 / radius  # noqa: E731
    truth = reference.decoupled_conv(x, kernel, formula, radius=RADII)
    helpers.assert_close(y, truth)


def test_bad_arguments_are_named(as_a_user):
    x, kernel, tanh = jnp.ones((1, 4, 4, 3)), jnp.ones((3, 3, 3, 5)), magnitudes.Tanh()
    with pytest.raises(ValueError, match=r"`x\.shape=\(1, 4, 4, 3\)`.*\(3, 3, 2, 5\)"):
        ops.decoupled_conv(x, jnp.ones((3, 3, 2, 5)), magnitude=tanh)
    with pytest.raises(ValueError, match=r"`decoupled_conv_general_dilated` needs a f"):
        ops.decoupled_conv(x, kernel, magnitude=tanh, eps=0.0)
    with pytest.raises(TypeError, match=r"`lhs\.dtype=int32`"):
        ops.decoupled_conv(x.astype(int), kernel, magnitude=tanh)


def test_a_long_patch_and_a_short_filter_meet_before_they_are_rounded_to_float16():
    x = jnp.full((1, 3, 3, 64), 6000, jnp.float16)
    kernel = jnp.full((3, 3, 64, 1), 1e-3, jnp.float16)

    def total(kernel):
        answer = ops.decoupled_conv(
            x, kernel, magnitude=magnitudes.Linear(), weighted=True, padding="VALID"
        )
        return answer.astype(jnp.float32).sum()

    value, slope = jax.value_and_grad(total)(kernel)
    assert float(value) == pytest.approx(np.sum(np.float64(x) * 1e-3), rel=1e-2)
    assert np.isfinite(slope).all()


def test_an_empty_batch_gives_an_empty_answer():
    x, kernel = jnp.zeros((0, 4, 4, 4)), jnp.ones((3, 3, 4, 8))
    assert ops.sphere_conv(x, kernel).shape == (0, 4, 4, 8)
    assert ops.sphere_conv_transpose(x, kernel, strides=2).shape == (0, 8, 8, 8)
