import jax
import jax.numpy as jnp
import numpy as np
import pytest

from hypersphere import ops


def test_arcsin_is_within_2e_7_of_the_truth_everywhere():
    x = jnp.asarray(np.linspace(-1, 1, 1_000_001), jnp.float32)
    error = np.abs(
        np.asarray(ops.arcsin(x), np.float64) - np.arcsin(np.asarray(x, float))
    )
    assert error.max() < 2e-7


def test_angle_is_exact_near_zero_where_pi_over_two_minus_arcsin_is_not():
    cos = 1 - jnp.arange(1, 2000, dtype=jnp.float32) * 6e-8
    truth = np.arccos(np.asarray(cos, float))
    np.testing.assert_allclose(ops.angle(cos), truth, rtol=5e-7)
    full = jnp.linspace(-1, 1, 100_001)
    truth = np.arccos(np.asarray(full, float))
    np.testing.assert_allclose(ops.angle(full), truth, atol=4e-7)


@pytest.mark.parametrize("function", [ops.arcsin, ops.angle])
@pytest.mark.parametrize("dtype", [jnp.float32, jnp.bfloat16, jnp.float16])
def test_slopes_are_right_inside_and_bounded_at_and_beyond_the_ends(function, dtype):
    slope = jax.vmap(jax.grad(lambda c: function(c).astype(jnp.float32)))
    inside = jnp.linspace(-0.99, 0.99, 101).astype(dtype)
    truth = 1 / np.sqrt(1 - np.asarray(inside, np.float64) ** 2)
    tolerance = 1e-5 if dtype == jnp.float32 else 1e-2
    np.testing.assert_allclose(
        np.abs(np.asarray(slope(inside), float)), truth, rtol=tolerance
    )
    ends = jnp.array([-1.01, -1.0, 1.0, 1.01], dtype)
    np.testing.assert_allclose(np.abs(np.asarray(slope(ends), float)), 1e3, rtol=5e-3)


def test_arcsin_takes_values_that_rounding_carried_past_one():
    past = jnp.array([1.0000004, -1.0000004, 1.0078], jnp.float32)
    np.testing.assert_allclose(ops.arcsin(past), np.pi / 2 * np.array([1, -1, 1]))


def test_float64_stays_float64():
    with jax.enable_x64(True):
        x = jnp.linspace(-1, 1, 101, dtype=jnp.float64)
        assert ops.arcsin(x).dtype == ops.angle(x).dtype == jnp.float64
        np.testing.assert_allclose(ops.arcsin(x), np.arcsin(np.asarray(x)), rtol=1e-14)
        assert ops.unit(x, eps=1e-6).dtype == jnp.float64


def test_second_derivatives_of_the_angle_are_right_and_finite():
    curvature = jax.vmap(jax.grad(jax.grad(ops.arcsin)))
    x = jnp.array([-1.0, -0.5, 0.0, 0.7, 1.0])
    assert np.isfinite(curvature(x)).all()
    inside = np.array([-0.5, 0.0, 0.7])
    truth = inside / (1 - inside**2) ** 1.5
    np.testing.assert_allclose(curvature(x)[1:4], truth, rtol=1e-5, atol=1e-6)


@pytest.mark.parametrize("size", [0.0, 1e-20, 1e-10, 1e-3, 1.0, 1e10, 1e18])
@pytest.mark.parametrize("dtype", [jnp.float32, jnp.bfloat16])
def test_norm_and_direction_hold_over_38_orders_of_magnitude(draw, size, dtype):
    x = (draw((5, 1152)) * size).astype(dtype)
    wide = np.asarray(x, np.float64)
    norm = np.sqrt((wide**2).sum(-1) + 1e-4)
    rtol = 1e-5 if dtype == jnp.float32 else 1e-2
    np.testing.assert_allclose(np.asarray(ops.l2_norm(x, eps=1e-2), float), norm, rtol)
    direction = np.asarray(ops.unit(x, eps=1e-2), float)
    np.testing.assert_allclose(direction, wide / norm[:, None], rtol, atol=1e-30)

    target = draw(x.shape).astype(dtype)
    loss = lambda x: jnp.sum((ops.unit(x, eps=1e-2) * target).astype(jnp.float32))  # noqa: E731
    grad = np.asarray(jax.grad(loss)(x), np.float64)
    t, u = np.asarray(target, float), wide / norm[:, None]
    truth = (t - u * (u * t).sum(-1, keepdims=True)) / norm[:, None]
    tolerance = 1e-4 if dtype == jnp.float32 else 3e-2
    np.testing.assert_allclose(
        grad, truth, rtol=0, atol=tolerance * np.abs(truth).max()
    )


def test_norm_sums_half_precision_in_float32():
    x = jnp.full((4096,), 30.0, jnp.float16)  # the squares sum to 3.7e6 > 65504
    assert float(ops.l2_norm(x, eps=1e-2)) == pytest.approx(1920.0)


def test_norm_takes_several_axes_and_keeps_them_on_request(draw):
    x = draw((2, 3, 4, 5))
    truth = np.sqrt((np.asarray(x, float) ** 2).sum((0, 1, 2)) + 1e-6)
    np.testing.assert_allclose(ops.l2_norm(x, axis=(0, 1, 2), eps=1e-3), truth, 1e-6)
    assert ops.l2_norm(x, axis=(1, 2), eps=1e-3, keepdims=True).shape == (2, 1, 1, 5)


@pytest.mark.parametrize("eps", [0.0, -1.0, float("nan"), float("inf")])
def test_eps_must_be_positive(eps):
    with pytest.raises(ValueError, match=r"`unit` needs a finite `eps > 0`, got `eps="):
        ops.unit(jnp.array([1.0]), eps=eps)
    with pytest.raises(ValueError, match=r"`l2_norm` needs a finite `eps > 0`"):
        ops.l2_norm(jnp.array([1.0]), eps=eps)


def test_integers_are_refused_with_the_way_out(as_a_user):
    with pytest.raises(TypeError, match=r"`x\.dtype=int32`.*astype\(jnp\.float32\)"):
        ops.unit(jnp.array([1, 2]), eps=1.0)


def test_clipping_keeps_the_slope():
    c = jnp.array([-1.1, -1.0, 0.3, 1.0, 1.1])
    np.testing.assert_array_equal(ops.clip_cosine(c), np.clip(np.asarray(c), -1, 1))
    np.testing.assert_array_equal(jax.vmap(jax.grad(ops.clip_cosine))(c), np.ones(5))
