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
K = 0.75  # abs(0.7) + 0.05, the authors' learnable sigmoid at its start


STATIC = (
    "similarity", "strides", "padding", "input_dilation", "kernel_dilation",
    "feature_group_count", "eps", "precision", "preferred_element_type",
)  # fmt: skip
sphere_conv = jax.jit(ops.sphere_conv, static_argnames=STATIC)


def learnable(raw):
    return lambda cos: ops.sigmoid(cos, k=jnp.abs(raw) + 0.05)


GOLDEN_CASES = [
    ("official_sphereconv", f"{norm}_none_{padding}", norm, 1, padding)
    for norm in ("cosine", "linear", "sigmoid", "lr_sigmoid")
    for padding in ("SAME", "VALID")
] + [
    (
        "official_sphereresnet_conv_and_loss",
        f"{norm}_s{stride}_{padding}",
        norm,
        stride,
        padding,
    )
    for norm in ("cosine", "linear", "sigmoid", "lr_sigmoid")
    for stride in (1, 2)
    for padding in ("SAME", "VALID")
]


@pytest.mark.parametrize(("file", "key", "norm", "stride", "padding"), GOLDEN_CASES)
def test_reproduces_the_authors_layer_and_its_gradients(
    file, key, norm, stride, padding
):
    golden = np.load(GOLDEN / f"{file}.npz")
    x, w = jnp.asarray(golden["x"]), jnp.asarray(golden["w"])
    y = golden[f"{key}_y"]
    weights = jnp.linspace(-1, 1, y.size).reshape(y.shape)
    similarities = {
        "cosine": lambda raw: ops.Cosine(),
        "linear": lambda raw: ops.Linear(),
        "sigmoid": lambda raw: ops.Sigmoid(k=0.3),
        "lr_sigmoid": learnable,
    }

    def respond(x, w, raw):
        similarity = similarities[norm](raw)
        return ops.sphere_conv(
            x, w, similarity=similarity, strides=stride, padding=padding
        )

    def total(x, w, raw):
        return jnp.sum(respond(x, w, raw) * weights)

    raw = jnp.full((1, 1, 1, w.shape[-1]), 0.7)
    np.testing.assert_allclose(jax.jit(respond)(x, w, raw), y, rtol=0, atol=2e-6)
    gradients = jax.jit(jax.grad(total, (0, 1, 2)))(x, w, raw)
    names = ["gx", "g_filter"] + ["g_k_value_lr"] * (norm == "lr_sigmoid")
    for gradient, name in zip(gradients, names, strict=False):
        truth = golden[f"{key}_{name}"]
        gradient = np.asarray(gradient).reshape(truth.shape)
        atol = 1e-4 * np.abs(truth).max()
        np.testing.assert_allclose(gradient, truth, rtol=0, atol=atol)


@pytest.mark.parametrize("padding", ["SAME", "VALID"])
def test_reproduces_the_authors_convolution_with_normalized_filters_only(padding):
    golden = np.load(GOLDEN / "official_sphereconv.npz")
    x, w = jnp.asarray(golden["x"]), jnp.asarray(golden["w"])

    def convolve(x, w):
        kernel = ops.unit(w, axis=(0, 1, 2), eps=1e-2)
        numbers = ("NHWC", "HWIO", "NHWC")
        return lax.conv_general_dilated(
            x, kernel, (1, 1), padding, dimension_numbers=numbers
        )

    y = golden[f"none_cosine_{padding}_y"]
    np.testing.assert_allclose(convolve(x, w), y, rtol=0, atol=2e-6)
    weights = jnp.linspace(-1, 1, y.size).reshape(y.shape)
    total = lambda x, w: jnp.sum(convolve(x, w) * weights)  # noqa: E731
    for gradient, name in zip(
        jax.grad(total, (0, 1))(x, w), ("gx", "g_filter"), strict=True
    ):
        truth = golden[f"none_cosine_{padding}_{name}"]
        atol = 1e-4 * np.abs(truth).max()
        np.testing.assert_allclose(gradient, truth, rtol=0, atol=atol)


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
    "groups": dict(x=(2, 5, 5, 6), kernel=(3, 3, 2, 9), groups=3),
    "depthwise": dict(x=(2, 5, 5, 4), kernel=(3, 3, 1, 8), groups=4),
}


@pytest.mark.parametrize("case", SHAPES.values(), ids=SHAPES)
@pytest.mark.parametrize("similarity", ["cosine", "linear", "sigmoid"])
def test_equals_the_slow_reference(draw, case, similarity):
    case = dict(case)
    x = draw(case.pop("x")) * 2
    kernel = draw(case.pop("kernel")) * 0.5
    ours = {
        "cosine": ops.Cosine(),
        "linear": ops.Linear(),
        "sigmoid": ops.Sigmoid(0.3),
    }[similarity]
    truth = reference.sphere_conv(x, kernel, getattr(reference, similarity), **case)
    groups = case.pop("groups", 1)
    y = sphere_conv(x, kernel, similarity=ours, feature_group_count=groups, **case)
    helpers.assert_close(y, truth)


def test_equals_the_slow_reference_in_float64(draw):
    with jax.enable_x64(True):
        x = draw((2, 5, 4, 3)).astype(jnp.float64)
        kernel = draw((3, 3, 3, 4)).astype(jnp.float64)
        y = sphere_conv(x, kernel, similarity=ops.Sigmoid())
        assert y.dtype == jnp.float64
        truth = reference.sphere_conv(x, kernel, reference.sigmoid)
        helpers.assert_close(y, truth, "float64")


@pytest.mark.parametrize("dtype", ["float16", "bfloat16"])
def test_half_precision_equals_the_reference_on_the_rounded_input(draw, dtype):
    x = draw((2, 5, 5, 8)).astype(dtype)
    kernel = draw((3, 3, 8, 4)).astype(dtype)
    y = sphere_conv(x, kernel, similarity=ops.Linear())
    assert y.dtype == dtype
    helpers.assert_close(y, reference.sphere_conv(x, kernel, reference.linear), dtype)
    wide = sphere_conv(x, kernel, preferred_element_type=jnp.float32)
    assert wide.dtype == jnp.float32


@pytest.mark.parametrize("spec", ["NCHW", "NHWC", "HWNC"])
def test_every_layout_gives_the_same_numbers(draw, spec):
    x = draw((2, 5, 6, 4))
    kernel = draw((3, 2, 2, 6))
    expected = sphere_conv(x, kernel, strides=(2, 1), feature_group_count=2)
    to_spec = ["NHWC".index(axis) for axis in spec]
    y = ops.sphere_conv_general_dilated(
        x.transpose(to_spec),
        kernel.transpose(3, 2, 0, 1),
        (2, 1),
        "SAME",
        dimension_numbers=(spec, "OIHW", "NCHW"),
        feature_group_count=2,
    )
    helpers.assert_close(y.transpose(0, 2, 3, 1), np.asarray(expected, np.float64))


def test_default_layout_is_that_of_lax(draw):
    x = draw((2, 3, 5, 6))
    kernel = draw((4, 3, 3, 3))
    y = ops.sphere_conv_general_dilated(x, kernel, (1, 1), "VALID")
    truth = reference.sphere_conv(
        x.transpose(0, 2, 3, 1), kernel.transpose(2, 3, 1, 0), padding="VALID"
    )
    helpers.assert_close(y.transpose(0, 2, 3, 1), truth)


def test_batch_groups_each_see_their_own_part_of_the_batch(draw):
    x = draw((4, 5, 5, 3))
    kernel = draw((3, 3, 3, 6))
    y = ops.sphere_conv_general_dilated(
        x,
        kernel,
        (1, 1),
        "SAME",
        dimension_numbers=("NHWC", "HWIO", "NHWC"),
        batch_group_count=2,
    )
    truth = np.concatenate(
        [
            reference.sphere_conv(x[:2], kernel[..., :3]),
            reference.sphere_conv(x[2:], kernel[..., 3:]),
        ],
        axis=-1,
    )
    helpers.assert_close(y, truth)


def test_a_mask_hides_its_pixels_from_the_norm_too(draw):
    x = draw((2, 5, 5, 4))
    kernel = draw((3, 3, 2, 6))
    mask = (draw(kernel.shape) > 0).astype(jnp.float32)
    y = ops.sphere_conv_general_dilated(
        x,
        kernel * mask,
        (1, 1),
        "SAME",
        dimension_numbers=("NHWC", "HWIO", "NHWC"),
        feature_group_count=2,
        mask=mask,
    )
    helpers.assert_close(y, reference.sphere_conv(x, kernel, groups=2, mask=mask))


@pytest.mark.parametrize("groups", [1, 3])
@pytest.mark.parametrize(
    ("window", "strides", "padding", "dilation"),
    [
        ((3, 3), (1, 1), "SAME", (1, 1)),
        ((2, 3), (2, 1), "VALID", (1, 2)),
        ((3, 1), (1, 3), ((1, 2), (0, 1)), (2, 1)),
    ],
)
def test_patch_norm_equals_the_slow_reference(
    draw, groups, window, strides, padding, dilation
):
    x = draw((2, 7, 8, 6))
    norm = ops.patch_norm(
        x,
        window,
        strides=strides,
        padding=padding,
        kernel_dilation=dilation,
        feature_group_count=groups,
        eps=0.1,
    )
    truth = reference.patch_norm(x, window, strides, padding, dilation, groups, 0.1)
    helpers.assert_close(norm, truth)


@pytest.mark.parametrize("scale", [1e-3, 7.0, 1e12, 1e18])
def test_response_ignores_the_size_of_input_and_filter(draw, scale):
    x = draw((1, 5, 5, 128)) * 1e3
    kernel = draw((3, 3, 128, 4)) * 1e3
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


@functools.partial(jax.jit, static_argnames="similarity")
def weighted(x, kernel, weights, similarity):
    def total(x, kernel):
        y = ops.sphere_conv(x, kernel, similarity=similarity).astype(jnp.float32)
        return jnp.sum(y * weights), y

    return jax.value_and_grad(total, (0, 1), has_aux=True)(x, kernel)


@pytest.mark.parametrize("sizes", EXTREMES.values(), ids=EXTREMES)
@pytest.mark.parametrize("dtype", [jnp.float32, jnp.bfloat16])
@pytest.mark.parametrize(
    "similarity",
    [ops.Cosine(), ops.Linear(), ops.Sigmoid(), ops.Sigmoid(0.05)],
    ids=str,
)
def test_values_and_gradients_are_finite_at_every_size(draw, sizes, dtype, similarity):
    x = (draw((2, 6, 6, 16)) * sizes[0]).astype(dtype)
    kernel = (draw((3, 3, 16, 8)) * sizes[1]).astype(dtype)
    weights = draw((2, 6, 6, 8))

    (_, y), gradients = weighted(x, kernel, weights, similarity=similarity)
    assert float(jnp.max(jnp.abs(y))) <= 1
    chex.assert_tree_all_finite((y, gradients))
    chex.assert_trees_all_equal_dtypes(gradients, (x, kernel))


@pytest.mark.parametrize("sign", [1, -1])
@pytest.mark.parametrize("dtype", [jnp.float32, jnp.bfloat16, jnp.float16])
@pytest.mark.parametrize("similarity", [ops.Cosine(), ops.Linear(), ops.Sigmoid(0.1)])
def test_gradients_are_finite_where_patch_and_filter_are_parallel(
    draw, sign, dtype, similarity
):
    kernel = draw((3, 3, 16, 64)).astype(dtype)
    x = sign * kernel.transpose(3, 0, 1, 2)  # patch i is filter i

    def total(x, kernel):
        y = ops.sphere_conv(x, kernel, similarity=similarity, padding="VALID")
        return jnp.sum(y.astype(jnp.float32)), y[:, 0, 0]

    (_, y), gradients = jax.jit(jax.value_and_grad(total, (0, 1), has_aux=True))(
        x, kernel
    )
    assert float(jnp.max(jnp.abs(y))) <= 1
    np.testing.assert_allclose(np.diagonal(y).astype(float), sign, atol=5e-2)
    chex.assert_tree_all_finite(gradients)


@pytest.mark.parametrize("size", [6e-8, 1e-4, 1.0, 60.0, 6e4])
def test_every_finite_float16_input_is_handled(draw, size):
    x = jnp.full((1, 4, 4, 128), size, jnp.float16)
    kernel = jnp.full((3, 3, 128, 4), size, jnp.float16)

    def total(x, kernel):
        y = ops.sphere_conv(x, kernel, similarity=ops.Linear(), padding="VALID")
        return jnp.sum(y.astype(jnp.float32)), y

    (_, y), gradients = jax.jit(jax.value_and_grad(total, (0, 1), has_aux=True))(
        x, kernel
    )
    chex.assert_tree_all_finite((y, gradients))
    truth = reference.sphere_conv(x, kernel, reference.linear, padding="VALID")
    helpers.assert_close(y, truth, "bfloat16")


@pytest.mark.parametrize("similarity", [ops.Cosine(), ops.Linear(), ops.Sigmoid()])
def test_gradients_agree_with_finite_differences(draw, similarity):
    x = draw((2, 4, 4, 4))
    kernel = draw((3, 3, 2, 4))

    def respond(x, kernel):
        return ops.sphere_conv(
            x, kernel, similarity=similarity, strides=2, feature_group_count=2
        )

    helpers.check_gradients(respond, x, kernel, order=2)


def test_a_similarity_of_ones_own_sees_cosines_inside_one(draw):
    kernel = draw((3, 3, 16, 64))
    x = kernel.transpose(3, 0, 1, 2)
    y = ops.sphere_conv(x, kernel, similarity=jnp.arccos, padding="VALID")
    assert np.isfinite(y).all()


def test_traced_once(draw):
    x = draw((1, 4, 4, 2))
    kernel = draw((3, 3, 2, 3))
    chex.clear_trace_counter()
    conv = jax.jit(
        chex.assert_max_traces(ops.sphere_conv, n=1), static_argnames="similarity"
    )
    conv(x, kernel, similarity=ops.Sigmoid(0.3))
    conv(x + 1, kernel, similarity=ops.Sigmoid(0.3))


def test_wrong_shapes_are_named(as_a_user):
    x, kernel = jnp.ones((1, 4, 4, 3)), jnp.ones((3, 3, 2, 5))
    with pytest.raises(ValueError, match=r"x\.shape=\(1, 4, 4, 3\).*\(3, 3, 2, 5\)"):
        ops.sphere_conv(x, kernel)
    with pytest.raises(ValueError, match=r"`strides` as one int or 2 ints"):
        ops.sphere_conv(x, jnp.ones((3, 3, 3, 5)), strides=(1, 1, 1))
    with pytest.raises(TypeError, match=r"`patch_norm` needs `kernel_size` as a tuple"):
        ops.patch_norm(x, 3)
    with pytest.raises(ValueError, match=r"`kernel_size=\(3,\)`"):
        ops.patch_norm(x, (3,))
    with pytest.raises(TypeError, match=r"`x\.dtype=int32`"):
        ops.sphere_conv(jnp.ones((1, 4, 4, 2), int), kernel)
    with pytest.raises(ValueError, match=r"`sphere_conv` needs a finite `eps"):
        ops.sphere_conv(x, jnp.ones((3, 3, 3, 5)), eps=0)


@pytest.mark.parametrize(
    ("padding", "pairs"),
    [
        ("SAME_LOWER", ((2, 1), (1, 0))),
        (((-1, 2), (0, -2)), ((0, 2), (0, 0))),
    ],
)
def test_every_padding_of_lax_is_taken(draw, padding, pairs):
    x, kernel = draw((1, 7, 8, 2)), draw((4, 2, 2, 3))
    y = sphere_conv(x, kernel, padding=padding)
    seen = x[:, 1:, :-2] if padding != "SAME_LOWER" else x  # negative padding crops
    helpers.assert_close(y, reference.sphere_conv(seen, kernel, padding=pairs))
