import functools

import jax
import jax.numpy as jnp
import numpy as np
import pytest

from hypersphere import ops

arcsin, angle = jax.jit(ops.arcsin), jax.jit(ops.angle)


@functools.partial(jax.jit, static_argnames="function")
def derivative(x, function):
    return jax.vmap(jax.grad(function))(x)


def test_arcsin_is_within_2e_7_of_the_truth_everywhere():
    x = np.linspace(-1, 1, 1_000_001).astype(np.float32)
    error = np.abs(np.float64(arcsin(x)) - np.arcsin(np.float64(x)))
    assert error.max() < 2e-7


def test_angle_is_exact_near_zero_where_pi_over_two_minus_arcsin_is_not():
    cos = np.float32(1) - np.arange(1, 2000, dtype=np.float32) * np.float32(6e-8)
    np.testing.assert_allclose(angle(cos), np.arccos(np.float64(cos)), rtol=5e-7)
    full = np.linspace(-1, 1, 100_001, dtype=np.float32)
    np.testing.assert_allclose(angle(full), np.arccos(np.float64(full)), atol=4e-7)


@pytest.mark.parametrize("function", [ops.arcsin, ops.angle])
@pytest.mark.parametrize("dtype", [jnp.float32, jnp.bfloat16, jnp.float16])
def test_slopes_are_right_inside_and_bounded_at_and_beyond_the_ends(function, dtype):
    inside = np.linspace(-0.99, 0.99, 101).astype(dtype)
    ends = np.array([-1.01, -1.0, 1.0, 1.01], dtype)
    slope = np.float64(derivative(np.append(inside, ends), function=function))
    truth = 1 / np.sqrt(1 - np.float64(inside) ** 2)
    tolerance = 1e-5 if dtype == jnp.float32 else 1e-2
    np.testing.assert_allclose(np.abs(slope[:-4]), truth, rtol=tolerance)
    np.testing.assert_allclose(np.abs(slope[-4:]), 1e3, rtol=5e-3)


def test_arcsin_takes_values_that_rounding_carried_past_one():
    past = np.array([1.0000004, -1.0000004, 1.0078], np.float32)
    np.testing.assert_allclose(arcsin(past), np.pi / 2 * np.array([1, -1, 1]))


def test_float64_stays_float64():
    with jax.enable_x64(True):
        x = np.linspace(-1, 1, 101)
        assert angle(x).dtype == arcsin(x).dtype == jnp.float64
        np.testing.assert_allclose(arcsin(x), np.arcsin(x), rtol=1e-14)
        unit = functools.partial(ops.unit, eps=1e-6)
        assert jax.eval_shape(unit, x).dtype == jnp.float64


def test_second_derivatives_of_the_angle_are_right_and_finite():
    curvature = jax.jit(jax.vmap(jax.grad(jax.grad(ops.arcsin))))
    found = np.asarray(curvature(np.array([-1.0, -0.5, 0.0, 0.7, 1.0], np.float32)))
    assert np.isfinite(found).all()
    inside = np.array([-0.5, 0.0, 0.7])
    truth = inside / (1 - inside**2) ** 1.5
    np.testing.assert_allclose(found[1:4], truth, rtol=1e-5, atol=1e-6)


@jax.jit
def norm_and_direction(x, target):
    """And the gradient of what the direction has along the target."""

    def along(x):
        direction = ops.unit(x, eps=1e-2)
        return jnp.sum((direction * target).astype(jnp.float32)), direction

    slope, direction = jax.grad(along, has_aux=True)(x)
    return ops.l2_norm(x, eps=1e-2), direction, slope


@pytest.mark.parametrize("size", [0.0, 1e-20, 1e-10, 1e-3, 1.0, 1e10, 1e18])
@pytest.mark.parametrize("dtype", [jnp.float32, jnp.bfloat16])
def test_norm_and_direction_hold_over_38_orders_of_magnitude(numbers, size, dtype):
    x = (numbers((5, 1152)) * size).astype(dtype)
    target = numbers(x.shape).astype(dtype)
    norm, direction, grad = map(np.float64, norm_and_direction(x, target))
    wide = np.float64(x)
    true_norm = np.sqrt((wide**2).sum(-1) + 1e-4)
    rtol = 1e-5 if dtype == jnp.float32 else 1e-2
    np.testing.assert_allclose(norm, true_norm, rtol)
    u = wide / true_norm[:, None]
    np.testing.assert_allclose(direction, u, rtol, atol=1e-30)
    t = np.float64(target)
    truth = (t - u * (u * t).sum(-1, keepdims=True)) / true_norm[:, None]
    tolerance = 1e-4 if dtype == jnp.float32 else 3e-2
    np.testing.assert_allclose(
        grad, truth, rtol=0, atol=tolerance * np.abs(truth).max()
    )


l2_norm = jax.jit(ops.l2_norm, static_argnames=("axis", "eps"))


def test_norm_sums_half_precision_in_float32():
    x = np.full(4096, 30.0, np.float16)  # the squares sum to 3.7e6 > 65504
    assert float(l2_norm(x, eps=1e-2)) == pytest.approx(1920.0)


def test_norm_takes_several_axes_and_keeps_them_on_request(numbers):
    x = numbers((2, 3, 4, 5))
    truth = np.sqrt((np.float64(x) ** 2).sum((0, 1, 2)) + 1e-6)
    np.testing.assert_allclose(l2_norm(x, axis=(0, 1, 2), eps=1e-3), truth, 1e-6)
    kept = functools.partial(ops.l2_norm, axis=(1, 2), eps=1e-3, keepdims=True)
    assert jax.eval_shape(kept, x).shape == (2, 1, 1, 5)


@pytest.mark.parametrize("eps", [0.0, -1.0, float("nan"), float("inf")])
def test_eps_must_be_positive(as_a_user, eps):
    x = np.ones(1, np.float32)
    with pytest.raises(ValueError, match=r"`unit` needs a finite `eps > 0`, got `eps="):
        ops.unit(x, eps=eps)
    with pytest.raises(ValueError, match=r"`l2_norm` needs a finite `eps > 0`"):
        ops.l2_norm(x, eps=eps)


def test_integers_are_refused_with_the_way_out(as_a_user):
    with pytest.raises(TypeError, match=r"`x\.dtype=int32`.*astype\(jnp\.float32\)"):
        ops.unit(np.array([1, 2], np.int32), eps=1.0)


def test_clipping_keeps_the_slope():
    c = np.array([-1.1, -1.0, 0.3, 1.0, 1.1], np.float32)
    clipped, slope = jax.jit(jax.vmap(jax.value_and_grad(ops.clip_cosine)))(c)
    np.testing.assert_array_equal(clipped, np.clip(c, -1, 1))
    np.testing.assert_array_equal(slope, np.ones(5))
