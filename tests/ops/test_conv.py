import functools
import pathlib

import chex
import jax
import jax.numpy as jnp
import numpy as np
import pytest
from jax import lax

from hypersphere import ops
from tests import helpers, reference

GOLDEN = pathlib.Path(__file__).parents[1] / "golden"
CHANNELS_LAST = ("NHWC", "HWIO", "NHWC")

STATIC = (
    "similarity", "strides", "padding", "input_dilation", "kernel_dilation",
    "feature_group_count", "eps", "precision", "preferred_element_type",
)  # fmt: skip
sphere_conv = jax.jit(ops.sphere_conv, static_argnames=STATIC)
general_dilated = jax.jit(
    ops.sphere_conv_general_dilated,
    static_argnums=(2, 3),
    static_argnames=("dimension_numbers", "feature_group_count", "batch_group_count"),
)


def answer_and_gradients(respond, weights, *arrays):
    answer, pull = jax.vjp(respond, *arrays)
    return answer, pull(weights)


@functools.partial(jax.jit, static_argnames=("strides", "padding"))
def of_every_norm(x, w, raw, weights, strides, padding):
    """Answers and gradients for each `norm` of the authors' code."""
    similarities = {
        "cosine": lambda raw: ops.Cosine(),
        "linear": lambda raw: ops.Linear(),
        "sigmoid": lambda raw: ops.Sigmoid(k=0.3),
        # Learnable: abs(0.7) + 0.05 at its start.
        "lr_sigmoid": lambda raw: lambda cos: ops.sigmoid(cos, k=jnp.abs(raw) + 0.05),
    }

    def respond(norm, x, w, raw):
        options = dict(strides=strides, padding=padding)
        return ops.sphere_conv(x, w, similarity=similarities[norm](raw), **options)

    return {
        norm: answer_and_gradients(functools.partial(respond, norm), weights, x, w, raw)
        for norm in similarities
    }


def assert_golden(golden, key, answer, gradients):
    np.testing.assert_allclose(answer, golden[f"{key}_y"], rtol=0, atol=2e-6)
    for name, gradient in gradients.items():
        truth = golden[f"{key}_{name}"]
        gradient = np.asarray(gradient).reshape(truth.shape)
        atol = 1e-4 * np.abs(truth).max()
        np.testing.assert_allclose(gradient, truth, rtol=0, atol=atol)


def golden_weights(y):
    return np.linspace(-1, 1, y.size, dtype=np.float32).reshape(y.shape)


@pytest.mark.parametrize(
    ("file", "key", "strides", "padding"),
    helpers.sampled_rows(
        {
            f"{key}, {padding}": (f"official_{file}", key, strides, padding)
            for file, key, strides in (
                ("sphereconv", "none", 1),
                ("sphereresnet_conv_and_loss", "s1", 1),
                ("sphereresnet_conv_and_loss", "s2", 2),
            )
            for padding in ("SAME", "VALID")
        },
        "none, VALID",
        "s2, SAME",
    ),
)
def test_reproduces_the_authors_layer_and_its_gradients(file, key, strides, padding):
    golden = np.load(GOLDEN / f"{file}.npz")
    x, w = golden["x"], golden["w"]
    weights = golden_weights(golden[f"cosine_{key}_{padding}_y"])
    raw = np.full((1, 1, 1, w.shape[-1]), 0.7, np.float32)
    found = of_every_norm(x, w, raw, weights, strides=strides, padding=padding)
    for norm, (answer, (of_x, of_w, of_raw)) in found.items():
        gradients = {"gx": of_x, "g_filter": of_w}
        if norm == "lr_sigmoid":
            gradients["g_k_value_lr"] = of_raw
        assert_golden(golden, f"{norm}_{key}_{padding}", answer, gradients)


@pytest.mark.parametrize("padding", ["SAME", "VALID"])
def test_reproduces_the_authors_convolution_with_normalized_filters_only(padding):
    golden = np.load(GOLDEN / "official_sphereconv.npz")
    key = f"none_cosine_{padding}"

    def convolve(x, w):
        kernel = ops.unit(w, axis=(0, 1, 2), eps=1e-2)
        return lax.conv_general_dilated(
            x, kernel, (1, 1), padding, dimension_numbers=CHANNELS_LAST
        )

    respond = jax.jit(functools.partial(answer_and_gradients, convolve))
    weights = golden_weights(golden[f"{key}_y"])
    answer, gradients = respond(weights, golden["x"], golden["w"])
    names = dict(zip(("gx", "g_filter"), gradients, strict=True))
    assert_golden(golden, key, answer, names)


SHAPES = {
    "1d": dict(x=(2, 9, 3), kernel=(4, 3, 5)),
    "2d": dict(x=(2, 6, 5, 3), kernel=(3, 2, 3, 4)),
    "3d": dict(x=(1, 4, 5, 3, 2), kernel=(2, 3, 2, 2, 3)),
    "1x1": dict(x=(2, 4, 4, 6), kernel=(1, 1, 6, 4)),
    "strides": dict(x=(2, 7, 6, 3), kernel=(3, 3, 3, 4), strides=(2, 3)),
    "valid": dict(x=(2, 6, 7, 3), kernel=(3, 3, 3, 4), padding="VALID"),
    "pairs": dict(x=(1, 5, 6, 2), kernel=(3, 3, 2, 3), padding=((2, 0), (1, 3))),
    "even": dict(x=(1, 6, 6, 2), kernel=(2, 4, 2, 3), strides=(2, 2)),
    "kernel dilation": dict(
        x=(1, 9, 8, 2), kernel=(3, 3, 2, 3), kernel_dilation=(2, 3)
    ),
    "input dilation": dict(
        x=(1, 4, 5, 2),
        kernel=(3, 3, 2, 3),
        input_dilation=(2, 3),
        padding=((1, 1), (2, 1)),
    ),
    "input dilation and strides": dict(
        x=(1, 4, 5, 2), kernel=(3, 3, 2, 3), input_dilation=(2, 3), strides=(2, 2)
    ),
    "groups": dict(x=(2, 5, 5, 6), kernel=(3, 3, 2, 9), groups=3),
    "depthwise": dict(x=(2, 5, 5, 4), kernel=(3, 3, 1, 8), groups=4),
}


OURS = {"cosine": ops.Cosine(), "linear": ops.Linear(), "sigmoid": ops.Sigmoid(0.3)}


@functools.partial(jax.jit, static_argnames=STATIC)
def of_every_similarity(x, kernel, **options):
    return {
        name: ops.sphere_conv(x, kernel, similarity=similarity, **options)
        for name, similarity in OURS.items()
    }


@pytest.mark.parametrize("case", SHAPES.values(), ids=SHAPES)
def test_equals_the_slow_reference(numbers, case):
    case = dict(case)
    x, kernel = numbers(case.pop("x")) * 2, numbers(case.pop("kernel")) * 0.5
    groups = case.pop("groups", 1)
    found = of_every_similarity(x, kernel, feature_group_count=groups, **case)
    for name, y in found.items():
        similarity = getattr(reference, name)
        truth = reference.sphere_conv(x, kernel, similarity, groups=groups, **case)
        helpers.assert_close(y, truth)


def test_equals_the_slow_reference_in_float64(numbers):
    with jax.enable_x64(True):
        x, kernel = np.float64(numbers((2, 5, 4, 3))), np.float64(numbers((3, 3, 3, 4)))
        y = sphere_conv(x, kernel, similarity=ops.Sigmoid())
        assert y.dtype == jnp.float64
        truth = reference.sphere_conv(x, kernel, reference.sigmoid)
        helpers.assert_close(y, truth, "float64")


@pytest.mark.parametrize("dtype", ["float16", "bfloat16"])
def test_half_precision_equals_the_reference_on_the_rounded_input(numbers, dtype):
    x = numbers((2, 5, 5, 8)).astype(jnp.dtype(dtype))
    kernel = numbers((3, 3, 8, 4)).astype(jnp.dtype(dtype))
    y = sphere_conv(x, kernel, similarity=ops.Linear())
    assert y.dtype == dtype
    helpers.assert_close(y, reference.sphere_conv(x, kernel, reference.linear), dtype)
    widened = functools.partial(sphere_conv, preferred_element_type=jnp.float32)
    assert jax.eval_shape(widened, x, kernel).dtype == jnp.float32


@pytest.mark.parametrize("spec", ["NCHW", "NHWC", "HWNC"])
def test_every_layout_gives_the_same_numbers(numbers, spec):
    x, kernel = numbers((2, 5, 6, 4)), numbers((3, 2, 2, 6))
    expected = sphere_conv(x, kernel, strides=(2, 1), feature_group_count=2)
    to_spec = ["NHWC".index(axis) for axis in spec]
    y = general_dilated(
        x.transpose(to_spec),
        kernel.transpose(3, 2, 0, 1),
        (2, 1),
        "SAME",
        dimension_numbers=(spec, "OIHW", "NCHW"),
        feature_group_count=2,
    )
    y = np.transpose(y, (0, 2, 3, 1))
    helpers.assert_close(y, np.asarray(expected, np.float64))


def test_default_layout_is_that_of_lax(numbers):
    x, kernel = numbers((2, 3, 5, 6)), numbers((4, 3, 3, 3))
    y = general_dilated(x, kernel, (1, 1), "VALID")
    truth = reference.sphere_conv(
        x.transpose(0, 2, 3, 1), kernel.transpose(2, 3, 1, 0), padding="VALID"
    )
    helpers.assert_close(np.transpose(y, (0, 2, 3, 1)), truth)


def test_batch_groups_each_see_their_own_part_of_the_batch(numbers):
    x, kernel = numbers((4, 5, 5, 3)), numbers((3, 3, 3, 6))
    options = dict(dimension_numbers=CHANNELS_LAST, batch_group_count=2)
    y = general_dilated(x, kernel, (1, 1), "SAME", **options)
    parts = [(x[:2], kernel[..., :3]), (x[2:], kernel[..., 3:])]
    truth = np.concatenate([reference.sphere_conv(*part) for part in parts], axis=-1)
    helpers.assert_close(y, truth)


def test_a_mask_hides_its_pixels_from_the_norm_too(numbers):
    x, kernel = numbers((2, 5, 5, 4)), numbers((3, 3, 2, 6))
    mask = np.float32(numbers(kernel.shape) > 0)
    options = dict(dimension_numbers=CHANNELS_LAST, feature_group_count=2)
    y = general_dilated(x, kernel * mask, (1, 1), "SAME", mask=mask, **options)
    helpers.assert_close(y, reference.sphere_conv(x, kernel, groups=2, mask=mask))


@pytest.mark.parametrize(
    ("window", "strides", "padding", "dilation"),
    [
        ((3, 3), (1, 1), "SAME", (1, 1)),
        ((2, 3), (2, 1), "VALID", (1, 2)),
        ((3, 1), (1, 3), ((1, 2), (0, 1)), (2, 1)),
    ],
)
def test_patch_norm_equals_the_slow_reference(
    numbers, window, strides, padding, dilation
):
    x, eps = numbers((2, 7, 8, 6)), 0.1
    counts = (1, 3)
    geometry = dict(strides=strides, padding=padding, kernel_dilation=dilation)

    @jax.jit
    def norms(x):
        options = dict(eps=eps, **geometry)
        return [
            ops.patch_norm(x, window, feature_group_count=groups, **options)
            for groups in counts
        ]

    for norm, groups in zip(norms(x), counts, strict=True):
        truth = reference.patch_norm(x, window, groups=groups, eps=eps, **geometry)
        helpers.assert_close(norm, truth)


@pytest.mark.parametrize("scale", [1e-3, 7.0, 1e12, 1e18])
def test_response_ignores_the_size_of_input_and_filter(numbers, scale):
    x = numbers((1, 5, 5, 128)) * 1e3
    kernel = numbers((3, 3, 128, 4)) * 1e3
    one = sphere_conv(x, kernel)
    rtol = 1e-5
    larger_x = sphere_conv(x * (scale / 1e3), kernel)
    larger_kernel = sphere_conv(x, kernel * (scale / 1e3))
    np.testing.assert_allclose(larger_x, one, rtol, atol=1e-6 + 1e-2 * (scale < 1))
    np.testing.assert_allclose(larger_kernel, one, rtol, atol=1e-6 + 1e-2 * (scale < 1))


EXTREMES = {
    "zero patches": (0.0, 1.0),
    "zero filters": (1.0, 0.0),
    "both zero": (0.0, 0.0),
    "tiny": (1e-20, 1e-20),
    "huge": (1e18, 1e18),
    "tiny against huge": (1e-20, 1e18),
}


@functools.partial(jax.jit, static_argnames=("similarity", "padding"))
def weighted(x, kernel, weights, similarity, padding="SAME"):
    """The answer, and the gradients of its weighted sum."""

    def respond(x, kernel):
        y = ops.sphere_conv(x, kernel, similarity=similarity, padding=padding)
        return y.astype(jnp.float32)

    return answer_and_gradients(respond, weights, x, kernel)


@pytest.mark.parametrize(
    ("similarity", "dtype"),
    helpers.sampled_rows(
        {
            f"{similarity}, {dtype.__name__}": (similarity, dtype)
            for dtype in (jnp.float32, jnp.bfloat16)
            for similarity in (
                ops.Cosine(),
                ops.Linear(),
                ops.Sigmoid(),
                ops.Sigmoid(0.05),
            )
        },
        f"{ops.Cosine()}, bfloat16",
        f"{ops.Linear()}, bfloat16",
        f"{ops.Sigmoid(0.05)}, float32",
    ),
)
def test_values_and_gradients_are_finite_at_every_size(numbers, dtype, similarity):
    arrays = numbers((2, 6, 6, 16)), numbers((3, 3, 16, 8))
    weights = numbers((2, 6, 6, 8))
    for sizes in EXTREMES.values():
        x, kernel = (
            (array * size).astype(dtype)
            for array, size in zip(arrays, sizes, strict=True)
        )
        y, gradients = weighted(x, kernel, weights, similarity=similarity)
        assert np.max(np.abs(y)) <= 1, sizes
        chex.assert_tree_all_finite((y, gradients))
        chex.assert_trees_all_equal_dtypes(gradients, (x, kernel))


@pytest.mark.parametrize(
    ("similarity", "dtype"),
    helpers.sampled_rows(
        {
            f"{similarity}, {dtype.__name__}": (similarity, dtype)
            for dtype in (jnp.float32, jnp.bfloat16, jnp.float16)
            for similarity in (ops.Cosine(), ops.Linear(), ops.Sigmoid(0.1))
        },
        f"{ops.Cosine()}, float16",
        f"{ops.Linear()}, float32",
        f"{ops.Sigmoid(0.1)}, bfloat16",
    ),
)
def test_gradients_are_finite_where_patch_and_filter_are_parallel(
    numbers, dtype, similarity
):
    kernel = numbers((3, 3, 16, 64)).astype(dtype)
    ones = np.ones((64, 1, 1, 64), np.float32)
    for sign in (1, -1):
        x = sign * kernel.transpose(3, 0, 1, 2)  # patch i is filter i
        y, gradients = weighted(x, kernel, ones, similarity=similarity, padding="VALID")
        assert np.max(np.abs(y)) <= 1
        np.testing.assert_allclose(np.diagonal(y[:, 0, 0]), sign, atol=5e-2)
        chex.assert_tree_all_finite(gradients)


@pytest.mark.parametrize("size", [6e-8, 1e-4, 1.0, 60.0, 6e4])
def test_every_finite_float16_input_is_handled(size):
    x = np.full((1, 4, 4, 128), size, np.float16)
    kernel = np.full((3, 3, 128, 4), size, np.float16)
    ones = np.ones((1, 2, 2, 4), np.float32)
    y, gradients = weighted(x, kernel, ones, similarity=ops.Linear(), padding="VALID")
    chex.assert_tree_all_finite((y, gradients))
    truth = reference.sphere_conv(x, kernel, reference.linear, padding="VALID")
    helpers.assert_close(y, truth, "bfloat16")


@pytest.mark.parametrize(
    "similarity",
    [
        pytest.param(ops.Cosine(), marks=pytest.mark.slow),
        pytest.param(ops.Linear(), marks=pytest.mark.slow),
        ops.Sigmoid(),
    ],
)
def test_gradients_agree_with_finite_differences(numbers, similarity):
    x, kernel = numbers((2, 4, 4, 4)), numbers((3, 3, 2, 4))

    def respond(x, kernel):
        return ops.sphere_conv(
            x, kernel, similarity=similarity, strides=2, feature_group_count=2
        )

    helpers.check_gradients(respond, x, kernel, order=2)


def test_a_similarity_of_ones_own_sees_cosines_inside_one(numbers):
    kernel = numbers((3, 3, 16, 64)) * 1e3  # eps is too small to keep them inside
    x = kernel.transpose(3, 0, 1, 2)
    y = sphere_conv(x, kernel, similarity=jnp.arccos, padding="VALID")
    assert np.isfinite(y).all()


def test_traced_once(numbers):
    x, kernel = numbers((1, 4, 4, 2)), numbers((3, 3, 2, 3))
    chex.clear_trace_counter()
    conv = jax.jit(
        chex.assert_max_traces(ops.sphere_conv, n=1), static_argnames="similarity"
    )
    conv(x, kernel, similarity=ops.Sigmoid(0.3))
    conv(x + 1, kernel, similarity=ops.Sigmoid(0.3))


def test_wrong_shapes_are_named(as_a_user):
    x, kernel, fits = (
        np.ones(shape, np.float32)
        for shape in ((1, 4, 4, 3), (3, 3, 2, 5), (3, 3, 3, 5))
    )
    with pytest.raises(ValueError, match=r"x\.shape=\(1, 4, 4, 3\).*\(3, 3, 2, 5\)"):
        ops.sphere_conv(x, kernel)
    with pytest.raises(ValueError, match=r"`strides` as one int or 2 ints"):
        ops.sphere_conv(x, fits, strides=(1, 1, 1))
    with pytest.raises(TypeError, match=r"`patch_norm` needs `kernel_size` as a tuple"):
        ops.patch_norm(x, 3)
    with pytest.raises(ValueError, match=r"`kernel_size=\(3,\)`"):
        ops.patch_norm(x, (3,))
    with pytest.raises(TypeError, match=r"`x\.dtype=int32`"):
        ops.sphere_conv(np.ones((1, 4, 4, 2), np.int32), kernel)
    with pytest.raises(ValueError, match=r"`sphere_conv` needs a finite `eps"):
        ops.sphere_conv(x, fits, eps=0)


@pytest.mark.parametrize(
    ("padding", "pairs"),
    [
        ("SAME_LOWER", ((2, 1), (1, 0))),
        (((-1, 2), (0, -2)), ((0, 2), (0, 0))),
    ],
)
def test_every_padding_of_lax_is_taken(numbers, padding, pairs):
    x, kernel = numbers((1, 7, 8, 2)), numbers((4, 2, 2, 3))
    y = sphere_conv(x, kernel, padding=padding)
    seen = x[:, 1:, :-2] if padding != "SAME_LOWER" else x  # negative padding crops
    helpers.assert_close(y, reference.sphere_conv(seen, kernel, padding=pairs))
