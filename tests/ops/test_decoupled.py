import functools

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
    "magnitude", "similarity", "strides", "padding", "input_dilation",
    "kernel_dilation", "feature_group_count", "eps", "preferred_element_type",
)  # fmt: skip
decoupled_conv = jax.jit(ops.decoupled_conv, static_argnames=(*STATIC, "weighted"))
RADII = np.array([0.5, 2.0, 5.0, 20.0], np.float32)
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


@functools.partial(jax.jit, static_argnames="operator")
def of_every_similarity(operator, x, kernel, **options):
    return {
        name: operator(x, kernel, similarity=similarity, **options)
        for name, similarity in SIMILARITIES.items()
    }


@functools.partial(jax.jit, static_argnames=STATIC)
def with_and_without_weight(x, kernel, **options):
    """The answers by whether they are weighted."""
    return {
        weighted: ops.decoupled_conv(x, kernel, weighted=weighted, **options)
        for weighted in (False, True)
    }


@every_magnitude
def test_equals_the_slow_reference(numbers, name):
    x, kernel = numbers((2, 4, 3, 3)), numbers((3, 2, 3, 4)) * 0.5
    ours, formula = pair(name, alpha=1.5)
    operator = functools.partial(ops.decoupled_conv, magnitude=ours)
    found = of_every_similarity(operator, x, kernel, radius=RADII)
    for similarity, y in found.items():
        g = getattr(reference, similarity)
        truth = reference.decoupled_conv(x, kernel, formula, g, radius=RADII)
        helpers.assert_close(y, truth)


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
def test_takes_the_geometry_of_a_convolution(numbers, x, kernel, options):
    x, kernel, options = numbers(x), numbers(kernel), dict(options)
    ours, formula = pair("Tanh")
    groups = options.pop("groups", 1)
    found = with_and_without_weight(
        x, kernel, magnitude=ours, feature_group_count=groups, radius=RADII, **options
    )
    for weighted, y in found.items():
        more = dict(radius=RADII, weighted=weighted, groups=groups)
        truth = reference.decoupled_conv(x, kernel, formula, **more, **options)
        helpers.assert_close(y, truth)


def test_one_radius_is_that_of_every_filter(numbers):
    x, kernel = numbers((2, 4, 4, 3)), numbers((3, 3, 3, 4))
    ours, formula = pair("Segment")
    y = decoupled_conv(x, kernel, magnitude=ours, radius=4.0)
    truth = reference.decoupled_conv(x, kernel, formula, radius=4.0)
    helpers.assert_close(y, truth)
    each = decoupled_conv(x, kernel, magnitude=ours, radius=np.full(4, 4.0, np.float32))
    np.testing.assert_allclose(y, each, rtol=1e-6)


@pytest.mark.parametrize("layout", ["NHWC", "NCHW"])
def test_weighted_linear_cosine_is_the_plain_convolution(numbers, layout):
    x, kernel = numbers((2, 4, 6, 4)), numbers((3, 3, 2, 4))
    options = dict(dimension_numbers=(layout, "HWIO", layout), feature_group_count=2)

    @jax.jit
    def both(x, kernel):
        ours = ops.decoupled_conv_general_dilated(
            x, kernel, (2, 1), "SAME",
            magnitude=magnitudes.Linear(), weighted=True, eps=1e-6, **options,
        )  # fmt: skip
        return ours, lax.conv_general_dilated(x, kernel, (2, 1), "SAME", **options)

    x = x.transpose(["NHWC".index(axis) for axis in layout])
    np.testing.assert_allclose(*both(x, kernel), rtol=1e-4, atol=1e-5)


def test_the_sphere_is_sphere_conv_bit_for_bit(numbers):
    x, kernel = numbers((2, 4, 3, 3)), numbers((3, 2, 3, 4))
    sphere = functools.partial(ops.decoupled_conv, magnitude=magnitudes.Sphere())
    ours, plain = (
        of_every_similarity(operator, x, kernel)
        for operator in (sphere, ops.sphere_conv)
    )
    for name in SIMILARITIES:
        np.testing.assert_array_equal(ours[name], plain[name])


@pytest.mark.parametrize("layout", ["NHWC", "NCHW"])
def test_behind_a_mask_the_length_is_that_of_what_is_seen(numbers, layout):
    x, kernel = numbers((2, 4, 4, 4)), numbers((3, 3, 2, 4))
    mask = np.float32(numbers(kernel.shape) > 0)
    names = ("Ball", "Log")

    @jax.jit
    def respond(x, kernel, mask):
        return [
            ops.decoupled_conv_general_dilated(
                x,
                kernel,
                (1, 1),
                "SAME",
                dimension_numbers=(layout, "HWIO", "NHWC"),
                feature_group_count=2,
                magnitude=pair(name)[0],
                radius=jnp.asarray(RADII),
                weighted=True,
                mask=mask,
            )
            for name in names
        ]

    turned = x.transpose(["NHWC".index(axis) for axis in layout])
    answers = respond(turned, kernel * mask, mask)
    for name, y in zip(names, answers, strict=True):
        formula, options = pair(name)[1], dict(weighted=True, groups=2, mask=mask)
        truth = reference.decoupled_conv(x, kernel, formula, radius=RADII, **options)
        helpers.assert_close(y, truth)


@pytest.mark.slow
@pytest.mark.parametrize("name", ["Tanh", "Mix"])
def test_gradients_agree_with_finite_differences(numbers, name):
    x, kernel = numbers((1, 3, 3, 4)), numbers((2, 2, 2, 4))
    ours, _ = pair(name)

    def respond(x, kernel, radius):
        return ops.decoupled_conv(
            x, kernel, magnitude=ours, radius=radius, weighted=True,
            feature_group_count=2,
        )  # fmt: skip

    helpers.check_gradients(respond, x, kernel, RADII, order=2)


@pytest.mark.parametrize(
    "name", helpers.sampled(reference.MAGNITUDES, "Mix", "Segment", "Log")
)
def test_values_and_gradients_are_finite_at_every_size(numbers, name):
    x, kernel, target = (
        numbers(shape) for shape in ((1, 3, 3, 4), (2, 2, 4, 4), (1, 3, 3, 4))
    )
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
def test_half_precision_equals_the_reference_on_the_rounded_input(numbers, dtype):
    dtype = jnp.dtype(dtype)
    x, kernel = numbers((2, 4, 4, 8)).astype(dtype), numbers((3, 3, 8, 4)).astype(dtype)
    kernel = kernel / dtype.type(8)
    ours, formula = pair("Ball")
    options = dict(magnitude=ours, radius=RADII)
    for weighted, y in with_and_without_weight(x, kernel, **options).items():
        assert y.dtype == dtype
        truth = reference.decoupled_conv(
            x, kernel, formula, radius=RADII, weighted=weighted
        )
        helpers.assert_close(y, truth, dtype.name)
    widened = functools.partial(
        with_and_without_weight, preferred_element_type=jnp.float32, **options
    )
    for wide in jax.eval_shape(widened, x, kernel).values():
        assert wide.dtype == jnp.float32


def test_a_magnitude_of_ones_own_is_called_with_length_and_radius(numbers):
    x, kernel = numbers((1, 4, 4, 2)), numbers((3, 3, 2, 4))
    own = lambda norm, *, radius: norm**2 / radius  # noqa: E731
    y = decoupled_conv(x, kernel, magnitude=own, radius=RADII)
    formula = lambda norm, radius: norm**2 / radius  # noqa: E731
    truth = reference.decoupled_conv(x, kernel, formula, radius=RADII)
    helpers.assert_close(y, truth)


def test_bad_arguments_are_named(as_a_user):
    x, kernel, other = (
        np.ones(shape, np.float32)
        for shape in ((1, 4, 4, 3), (3, 3, 3, 5), (3, 3, 2, 5))
    )
    tanh = magnitudes.Tanh()
    with pytest.raises(ValueError, match=r"`x\.shape=\(1, 4, 4, 3\)`.*\(3, 3, 2, 5\)"):
        ops.decoupled_conv(x, other, magnitude=tanh)
    with pytest.raises(ValueError, match=r"`decoupled_conv_general_dilated` needs a f"):
        ops.decoupled_conv(x, kernel, magnitude=tanh, eps=0.0)
    with pytest.raises(TypeError, match=r"`lhs\.dtype=int32`"):
        ops.decoupled_conv(x.astype(np.int32), kernel, magnitude=tanh)


def test_a_long_patch_and_a_short_filter_meet_before_they_are_rounded_to_float16():
    x = np.full((1, 3, 3, 64), 6000, np.float16)
    kernel = np.full((3, 3, 64, 1), 1e-3, np.float16)

    @jax.jit
    @jax.value_and_grad
    def total(kernel, x):
        answer = ops.decoupled_conv(
            x, kernel, magnitude=magnitudes.Linear(), weighted=True, padding="VALID"
        )
        return answer.astype(jnp.float32).sum()

    value, slope = total(kernel, x)
    assert float(value) == pytest.approx(np.sum(np.float64(x) * 1e-3), rel=1e-2)
    assert np.isfinite(slope).all()


def test_an_empty_batch_gives_an_empty_answer():
    x, kernel = np.zeros((0, 4, 4, 4), np.float32), np.ones((3, 3, 4, 8), np.float32)
    assert jax.jit(ops.sphere_conv)(x, kernel).shape == (0, 4, 4, 8)
    transpose = functools.partial(ops.sphere_conv_transpose, strides=2)
    assert jax.jit(transpose)(x, kernel).shape == (0, 8, 8, 8)
