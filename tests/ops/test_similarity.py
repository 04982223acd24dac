import functools

import jax
import jax.numpy as jnp
import numpy as np
import pytest

from hypersphere import ops
from tests import helpers, reference

SIMILARITIES = {
    "cosine": (ops.Cosine(), reference.cosine),
    "linear": (ops.Linear(), reference.linear),
    "sigmoid": (ops.Sigmoid(), reference.sigmoid),
    "sharp": (ops.Sigmoid(k=0.1), lambda c: reference.sigmoid(c, 0.1)),
    "squared": (ops.SquaredCosine(), reference.squared_cosine),
}
every_similarity = pytest.mark.parametrize(
    ("similarity", "truth"), SIMILARITIES.values(), ids=SIMILARITIES
)
some_similarities = pytest.mark.parametrize(
    ("similarity", "truth"), helpers.sampled_rows(SIMILARITIES, "linear", "sharp")
)
pytestmark = pytest.mark.optimized  # the sharpest slopes lose a digit without
SAMPLES = 10_001


@functools.partial(jax.jit, static_argnames="similarity")
def curve(cos, similarity):
    """Responses and their slopes."""
    return jax.vmap(jax.value_and_grad(similarity))(cos)


@functools.partial(jax.jit, static_argnames="similarity")
def at_angle(theta, similarity):
    return similarity.at_angle(theta)


@every_similarity
def test_matches_the_published_formula_in_the_angle(similarity, truth):
    c = np.linspace(-1, 1, SAMPLES, dtype=np.float32)
    response, _ = curve(c, similarity=similarity)
    np.testing.assert_allclose(response, truth(np.float64(c)), rtol=1e-5, atol=2e-6)


@every_similarity
def test_at_angle_continues_the_response(similarity, truth):
    cos = np.linspace(-1, 1, SAMPLES, dtype=np.float32)
    theta = np.arccos(np.float64(cos)).astype(np.float32)
    response, _ = curve(cos, similarity=similarity)
    continued = at_angle(theta, similarity=similarity)
    np.testing.assert_allclose(continued, response, atol=2e-6)


@every_similarity
@pytest.mark.parametrize("dtype", [jnp.float32, jnp.bfloat16, jnp.float16])
def test_responses_are_odd_bounded_and_keep_the_dtype(similarity, truth, dtype):
    c = np.linspace(-1.01, 1.01, SAMPLES).astype(dtype)
    y, slope = curve(c, similarity=similarity)
    assert y.dtype == dtype
    assert np.max(np.abs(y)) <= 1
    opposite, _ = curve(-c, similarity=similarity)
    np.testing.assert_array_equal(opposite, -np.asarray(y))
    assert np.isfinite(np.float32(slope)).all()


@every_similarity
def test_slope_is_that_of_the_formula(similarity, truth):
    c = np.linspace(-0.99, 0.99, SAMPLES)
    numeric = (truth(c + 1e-6) - truth(c - 1e-6)) / 2e-6
    _, slope = curve(np.float32(c), similarity=similarity)
    np.testing.assert_allclose(slope, numeric, rtol=1e-4, atol=1e-5)


def test_sigmoid_is_finite_for_every_softness():
    c = np.linspace(-1, 1, 101, dtype=np.float32)

    @jax.jit
    def curves(c):
        return [
            jax.vmap(jax.value_and_grad(ops.Sigmoid(k)))(c)
            for k in (1e-30, 1e-3, 0.0178, 1.0, 1e6)
        ]

    for value, slope in curves(c):
        assert np.isfinite(value).all() and np.isfinite(slope).all()
        np.testing.assert_array_equal(np.asarray(value)[[0, -1]], [-1, 1])


PSI_MARGINS = [1.0, 1.5, 2.0, 3.0, 4.0, 5.3, 8.0]


@every_similarity
def test_psi_never_rises_and_falls_strictly_where_it_does_not_saturate(
    similarity, truth
):
    theta = np.linspace(0, np.pi, 200_001)
    for margin in PSI_MARGINS:
        with jax.enable_x64(True):
            steps = np.diff(at_angle(margin * theta, similarity=similarity))
        assert (steps <= 0).all()
        if not isinstance(similarity, ops.Sigmoid):
            assert (steps < 0).all()


MARGINS = [1.0, 1.5, 4.0]
THETA = np.linspace(0, np.pi, 2_001)
BEYOND = [1.0, -1.0, 1.0000004]  # the ends, and where rounding carries a cosine


@functools.partial(jax.jit, static_argnames="similarity")
def margin_responses(cos, similarity):
    """For each margin, responses and their first two derivatives."""

    def derivatives(margin):
        respond = functools.partial(
            ops.margin_response, margin=margin, similarity=similarity
        )
        slope = jax.grad(respond)
        return [jax.vmap(f)(cos) for f in (respond, slope, jax.grad(slope))]

    return {margin: derivatives(margin) for margin in MARGINS}


@some_similarities
def test_margin_response_is_psi_of_the_angle_in_float32(similarity, truth):
    cos = np.append(np.cos(THETA), BEYOND).astype(np.float32)
    found = margin_responses(cos, similarity=similarity)
    for margin, (response, _, _) in found.items():
        response = np.asarray(response)[: THETA.size]
        with jax.enable_x64(True):
            expected = at_angle(margin * THETA, similarity=similarity)
        # The cosine of an angle near 0 or pi holds it to 3.5e-4 radians only.
        np.testing.assert_allclose(response, expected, atol=4e-4 * margin**2)
        assert (np.diff(response) <= 1e-6).all()


@some_similarities
def test_margin_gradient_is_finite_everywhere_and_never_negative(similarity, truth):
    cos = np.append(np.cos(THETA), BEYOND).astype(np.float32)
    found = margin_responses(cos, similarity=similarity)
    for margin, (response, slope, bend) in found.items():
        assert np.isfinite([response, slope, bend]).all()
        if isinstance(similarity, ops.Cosine | ops.SquaredCosine):
            # Not compiled as a whole: fused, some of the zeros round to -1e-5.
            respond = functools.partial(
                ops.margin_response, margin=margin, similarity=similarity
            )
            slope = jax.vmap(jax.grad(respond))(cos)
            assert np.isfinite(slope).all()
        assert (np.asarray(slope) >= 0).all()


def test_cosine_margin_slope_is_its_limit_at_zero_and_the_formula_inside():
    theta = np.append(np.linspace(0.05, 3.0, THETA.size + 2), 0.0)
    cos = np.cos(theta).astype(np.float32)
    _, slope, _ = margin_responses(cos, similarity=ops.Cosine())[4.0]
    theta, (*slope, at_zero) = theta[:-1], np.asarray(slope)
    assert float(at_zero) == pytest.approx(16.0)
    turn = (-1.0) ** np.floor(4 * theta / np.pi)
    truth = turn * 4 * np.sin(4 * theta) / np.sin(theta)
    np.testing.assert_allclose(slope, truth, rtol=1e-4, atol=1e-3)


def test_similarities_are_equal_by_value_hashable_and_not_pytrees():
    assert ops.Sigmoid(0.5) == ops.Sigmoid(0.5) != ops.Sigmoid(0.3)
    assert len({ops.Cosine(), ops.Cosine(), ops.Linear()}) == 2
    assert jax.tree.leaves(ops.Sigmoid(0.5)) == [ops.Sigmoid(0.5)]


@pytest.mark.parametrize("k", [0.0, -0.3, float("nan")])
def test_softness_must_be_positive(k):
    with pytest.raises(ValueError, match=r"`Sigmoid` needs a finite `k > 0`, got `k="):
        ops.Sigmoid(k=k)


def test_a_soft_sigmoid_is_linear_past_pi_too():
    theta = np.linspace(0, 8 * np.pi, 101, dtype=np.float32)
    straight = 1 - 2 * np.float64(theta) / np.pi
    soft = jax.jit(lambda x: [ops.Sigmoid(k).at_angle(x) for k in (1e5, 1e8, 1e18)])
    for response in soft(theta):
        np.testing.assert_allclose(response, straight, atol=1e-4)


POWERS = np.array([0.1, 0.5, 1.0, 2.0, 3.7], np.float32)
sharpened_cosine = jax.jit(ops.sharpened_cosine, static_argnames="floor")


@pytest.mark.parametrize("floor", [1e-6, 0.1])
def test_sharpened_cosine_is_its_formula(floor):
    c = np.linspace(-1, 1, 2001, dtype=np.float32)[:, None]
    p = POWERS[None]
    y = sharpened_cosine(c, p=p, floor=floor)
    truth = reference.sharpened_cosine(np.float64(c), np.float64(p), floor=floor)
    np.testing.assert_allclose(y, truth, rtol=1e-5, atol=1e-6)
    assert np.max(np.abs(y)) <= 1


def test_sharpened_cosine_is_damped_where_the_norm_is_small():
    c = reference.normal(4, 3) / 4
    norm = np.array([[1e-3], [0.1], [1.0], [1e6]], np.float32)
    y = sharpened_cosine(c, p=2.0, q=0.1, norm=norm)
    truth = reference.sharpened_cosine(np.float64(c), 2.0, 0.1, np.float64(norm))
    np.testing.assert_allclose(y, truth, rtol=1e-5, atol=1e-7)
    undamped = sharpened_cosine(c, p=2.0)
    np.testing.assert_array_equal(sharpened_cosine(c, p=2.0, q=0.1), undamped)
    np.testing.assert_allclose(y[3], undamped[3], rtol=1e-6)


@jax.jit
def sharpened_slopes(c, p, q, norm):
    def total(c, p, q):
        y = ops.sharpened_cosine(c, p=p, q=q, norm=norm)
        assert y.dtype == c.dtype
        return jnp.sum(y.astype(jnp.float32))

    at_zero = ops.sharpened_cosine(jnp.zeros(()), p=p)
    return at_zero, jax.grad(total, (0, 1, 2))(c, p, q)


@pytest.mark.parametrize("dtype", [jnp.float32, jnp.bfloat16, jnp.float16])
@pytest.mark.parametrize("power", POWERS)
def test_sharpened_cosine_has_finite_slopes_at_zero_and_the_ends(dtype, power):
    c = np.array([-1.01, -1.0, -1e-7, 0.0, 1e-7, 1.0, 1.01], dtype)
    norm = np.array([0.01, 0.01, 1e4, 0.01, 1e18, 1.0, 0.01], np.float32)
    at_zero, slopes = sharpened_slopes(c, power, np.float32(1e-3), norm)
    assert all(np.isfinite(np.float32(slope)).all() for slope in slopes)
    assert float(at_zero) == 0


curvature = jax.jit(jax.hessian(lambda v: ops.sigmoid(v[0], k=v[1])))


@pytest.mark.parametrize("cos", [0.0, 0.4, -0.8])
def test_second_derivatives_to_cosine_and_softness_are_symmetric(cos):
    at = np.array([cos, 0.3])
    truth, step = np.zeros((2, 2)), 1e-4
    for i, j in np.ndindex(2, 2):
        for a, b in np.ndindex(2, 2):
            one, other = (-1) ** a * np.eye(2)[i], (-1) ** b * np.eye(2)[j]
            value = reference.sigmoid(*(at + step * (one + other)))
            truth[i, j] += (-1) ** (a + b) * value / (4 * step**2)
    np.testing.assert_allclose(curvature(np.float32(at)), truth, rtol=1e-3, atol=1e-3)


def test_python_numbers_are_taken_and_integers_refused(as_a_user):
    third, slope = jax.jit(lambda: (ops.Linear()(0.5), jax.grad(ops.Sigmoid())(0.0)))()
    assert float(third) == pytest.approx(1 / 3)
    assert float(slope) > 1
    for function in (ops.arcsin, ops.angle, ops.Sigmoid()):
        with pytest.raises(TypeError, match=r"real floating-point.*dtype=int32"):
            function(jax.device_put(np.array([1, 0], np.int32)))
