import functools

import jax
import jax.numpy as jnp
import numpy as np
import pytest
from flax import nnx
from jax import lax

from hypersphere import ops
from tests import helpers, reference

STATIC = ("strides", "padding", "kernel_dilation", "transpose_kernel")
conv_transpose = jax.jit(ops.sphere_conv_transpose, static_argnames=STATIC)

CASES = {
    "1d": dict(x=(2, 4, 3), kernel=(3, 3, 4), strides=(2,)),
    "2d": dict(x=(2, 3, 4, 3), kernel=(3, 2, 3, 4)),
    "3d": dict(x=(1, 2, 3, 2, 2), kernel=(2, 2, 2, 2, 3), strides=(1, 2, 2)),
    "strides": dict(x=(1, 3, 4, 2), kernel=(3, 4, 2, 3), strides=(2, 3)),
    "window below strides": dict(x=(1, 3, 3, 2), kernel=(1, 2, 2, 3), strides=(3, 3)),
    "valid": dict(x=(1, 3, 4, 2), kernel=(3, 3, 2, 3), strides=(2, 4), padding="VALID"),
    "pairs": dict(
        x=(1, 3, 4, 2), kernel=(3, 3, 2, 3), strides=(2, 1), padding=((2, 0), (1, 3))
    ),
    "dilation": dict(
        x=(1, 3, 4, 2), kernel=(3, 2, 2, 3), strides=(2, 1), kernel_dilation=(2, 3)
    ),
    "turned": dict(
        x=(1, 3, 4, 2), kernel=(3, 2, 4, 2), strides=(2, 1), transpose_kernel=True
    ),
}
every_case = pytest.mark.parametrize("case", CASES.values(), ids=CASES)


def dots(cos, norm):
    """The similarity that answers with the dot product with the unit filter."""
    return cos * norm


def lengths(cos, norm):
    return jnp.broadcast_to(norm, cos.shape)


dots.takes_norm = lengths.takes_norm = True


def build(numbers, case):
    case = dict(case)
    return numbers(case.pop("x")), numbers(case.pop("kernel")), case


@every_case
def test_equals_the_slow_reference(numbers, case):
    x, kernel, options = build(numbers, case)
    ours = {"cosine": ops.Cosine(), "sigmoid": ops.Sigmoid()}

    @jax.jit
    def respond(x, kernel):
        return {
            name: ops.sphere_conv_transpose(
                x, kernel, similarity=similarity, eps=0.1, **options
            )
            for name, similarity in ours.items()
        }

    for name, y in respond(x, kernel).items():
        g = getattr(reference, name)
        truth = reference.conv_transpose(x, kernel, g, eps=0.1, **options)
        helpers.assert_close(y, truth)


@every_case
def test_behind_a_mask_the_norm_counts_what_is_seen(numbers, case):
    x, kernel, options = build(numbers, case)
    mask = np.float32(numbers(kernel.shape) > 0)
    y = conv_transpose(x, kernel * mask, mask=mask, **options)
    truth = reference.conv_transpose(x, kernel, mask=mask, **options)
    helpers.assert_close(y, truth)


@every_case
def test_dot_products_are_those_of_lax(numbers, case):
    x, kernel, options = build(numbers, case)
    rank = x.ndim - 2
    plain = dict(strides=(1,) * rank, padding="SAME") | options
    turned = options.get("transpose_kernel", False)
    axes = (*range(rank), -1 if turned else -2)
    plain["rhs_dilation"] = plain.pop("kernel_dilation", (1,) * rank)

    @jax.jit
    def both(x, kernel):
        ours = ops.sphere_conv_transpose(
            x, kernel, similarity=dots, eps=1e-3, **options
        )
        unit = ops.unit(kernel, axis=axes, eps=1e-3)
        return ours, lax.conv_transpose(x, unit, **plain)

    np.testing.assert_allclose(*both(x, kernel), rtol=1e-4, atol=1e-5)


@pytest.mark.parametrize("turned", [pytest.param(False, marks=pytest.mark.slow), True])
@pytest.mark.parametrize(
    ("window", "strides", "dilation"),
    [
        pytest.param((3, 2), 1, 1, marks=pytest.mark.slow),
        pytest.param((3, 2), 2, 1, marks=pytest.mark.slow),
        ((1, 2), (3, 1), 1),
        pytest.param((4, 5), (2, 3), 1, marks=pytest.mark.slow),
        ((9, 3), (1, 2), 1),  # wider than the image
        ((2, 3), 2, (3, 2)),
    ],
)
def test_circular_wraps_as_flax_does(numbers, window, strides, dilation, turned):
    x, kernel = numbers((2, 3, 4, 2)), numbers((*window, 2, 2))
    options = dict(
        strides=strides,
        kernel_dilation=dilation,
        padding="CIRCULAR",
        transpose_kernel=turned,
    )

    def convolve(x, kernel):
        rngs = nnx.Rngs(0)
        plain = nnx.ConvTranspose(2, 2, window, use_bias=False, rngs=rngs, **options)
        plain.kernel[...] = kernel
        return plain(x)

    @jax.jit
    def pairs(x, kernel):
        unit = ops.unit(kernel, axis=(0, 1, -1 if turned else -2), eps=1e-3)
        ours = functools.partial(
            ops.sphere_conv_transpose, x, unit, eps=1e-3, **options
        )
        squares = jnp.square(ours(similarity=lengths))
        return [
            (ours(similarity=dots), convolve(x, unit)),
            (squares, convolve(jnp.square(x), jnp.ones_like(unit))),
        ]

    for one, other in pairs(x, kernel):
        np.testing.assert_allclose(one, other, rtol=1e-4, atol=1e-4)


def test_circular_shifts_with_its_input(numbers):
    x, kernel = numbers((1, 4, 5, 2)), numbers((3, 4, 2, 3))
    options = dict(strides=(2, 3), padding="CIRCULAR")
    y = conv_transpose(x, kernel, **options)
    rolled = conv_transpose(np.roll(x, (1, -2), (1, 2)), kernel, **options)
    np.testing.assert_allclose(rolled, np.roll(y, (2, -6), (1, 2)), rtol=1e-5)
    flat = conv_transpose(np.ones_like(x), kernel, strides=1, padding="CIRCULAR")
    np.testing.assert_allclose(flat, np.broadcast_to(flat[:, :1, :1], flat.shape), 1e-5)


@pytest.mark.parametrize("padding", ["SAME", "CIRCULAR"])
def test_takes_any_number_of_batch_axes(numbers, padding):
    x, kernel = numbers((2, 3, 4, 3, 2)), numbers((3, 3, 2, 4))
    respond = functools.partial(ops.sphere_conv_transpose, strides=2, padding=padding)

    @jax.jit
    def several(x, kernel):
        flat = x.reshape(6, 4, 3, 2)
        return respond(x, kernel), respond(flat, kernel), respond(x[0, 0], kernel)

    y, one, alone = map(np.asarray, several(x, kernel))
    assert y.shape == (2, 3, 8, 6, 4)
    np.testing.assert_allclose(y.reshape(one.shape), one, rtol=1e-6)
    np.testing.assert_allclose(alone, one[0], rtol=1e-5, atol=1e-6)


@pytest.mark.slow
@pytest.mark.parametrize("padding", ["SAME", "CIRCULAR"])
def test_gradients_agree_with_finite_differences(numbers, padding):
    x, kernel = numbers((1, 2, 2, 2)), numbers((3, 2, 2, 2))
    respond = functools.partial(ops.sphere_conv_transpose, strides=2, padding=padding)
    helpers.check_gradients(respond, x, kernel)
    slope = jax.jit(jax.grad(lambda x, kernel: jnp.sum(respond(x, kernel))))
    assert np.isfinite(slope(0 * x, kernel)).all()


@pytest.mark.parametrize("dtype", ["float16", "bfloat16"])
def test_half_precision_equals_the_reference_on_the_rounded_input(numbers, dtype):
    x = numbers((1, 3, 3, 4)).astype(jnp.dtype(dtype))
    kernel = numbers((3, 3, 4, 2)).astype(jnp.dtype(dtype))
    y = conv_transpose(x, kernel, strides=2)
    assert y.dtype == dtype
    truth = reference.conv_transpose(x, kernel, strides=(2, 2))
    helpers.assert_close(y, truth, dtype)


def test_bad_arguments_are_named(as_a_user):
    x, kernel, flat = (
        np.ones(shape, np.float32) for shape in ((1, 4, 4, 3), (3, 3, 3, 5), (3, 5))
    )
    with pytest.raises(ValueError, match=r"\(\*window, in_features, out_f.*\(3, 5\)"):
        ops.sphere_conv_transpose(x, flat)
    with pytest.raises(ValueError, match=r"\(\*window, out_features, in_features\)"):
        ops.sphere_conv_transpose(x, kernel, transpose_kernel=True)
    with pytest.raises(ValueError, match=r"'CIRCULAR' or a .*`padding='REFLECT'`"):
        ops.sphere_conv_transpose(x, kernel, padding="REFLECT")
    with pytest.raises(ValueError, match=r"`strides` as one int or 2 ints"):
        ops.sphere_conv_transpose(x, kernel, strides=(1, 2, 1))
    with pytest.raises(ValueError, match=r"needs a finite `eps > 0`, got `eps=0`"):
        ops.sphere_conv_transpose(x, kernel, eps=0)
    with pytest.raises(TypeError, match=r"`lhs\.dtype=int32`"):
        ops.sphere_conv_transpose(x.astype(np.int32), kernel)
