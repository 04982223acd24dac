import jax
import jax.numpy as jnp
import numpy as np
import pytest

from hypersphere import ops
from tests import reference

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


@every_similarity
def test_matches_the_published_formula_in_the_angle(similarity, truth):
    c = jnp.linspace(-1, 1, 10_001)
    expected = truth(np.asarray(c, np.float64))
    np.testing.assert_allclose(similarity(c), expected, rtol=1e-5, atol=2e-6)


@every_similarity
def test_at_angle_continues_the_response(similarity, truth):
    cos = np.linspace(-1, 1, 1001, dtype=np.float32)
    theta = jnp.asarray(np.arccos(cos.astype(np.float64)), jnp.float32)
    response = similarity(jnp.asarray(cos))
    np.testing.assert_allclose(similarity.at_angle(theta), response, atol=2e-6)


@every_similarity
@pytest.mark.parametrize("dtype", [jnp.float32, jnp.bfloat16, jnp.float16])
def test_responses_are_odd_bounded_and_keep_the_dtype(similarity, truth, dtype):
    c = jnp.linspace(-1.01, 1.01, 1001).astype(dtype)
    y = similarity(c)
    assert y.dtype == dtype
    assert float(jnp.max(jnp.abs(y))) <= 1
    np.testing.assert_array_equal(similarity(-c), -y)
    assert np.isfinite(jax.vmap(jax.grad(similarity))(c).astype(np.float32)).all()


@every_similarity
def test_slope_is_that_of_the_formula(similarity, truth):
    c = np.linspace(-0.99, 0.99, 199)
    numeric = (truth(c + 1e-6) - truth(c - 1e-6)) / 2e-6
    slope = jax.vmap(jax.grad(similarity))(jnp.asarray(c, jnp.float32))
    np.testing.assert_allclose(slope, numeric, rtol=1e-4, atol=1e-5)


@pytest.mark.parametrize("k", [1e-30, 1e-3, 0.0178, 1.0, 1e6])
def test_sigmoid_is_finite_for_every_softness(k):
    c = jnp.linspace(-1, 1, 101)
    value, slope = jax.vmap(jax.value_and_grad(ops.Sigmoid(k)))(c)
    assert np.isfinite(value).all() and np.isfinite(slope).all()
    assert float(value[0]) == -1 and float(value[-1]) == 1


@pytest.mark.parametrize("margin", [1.0, 1.5, 2.0, 3.0, 4.0, 5.3, 8.0])
@every_similarity
def test_psi_never_rises_and_falls_strictly_where_it_does_not_saturate(
    similarity, truth, margin
):
    with jax.enable_x64(True):
        theta = jnp.linspace(0, jnp.pi, 200_001, dtype=jnp.float64)
        steps = np.diff(similarity.at_angle(margin * theta))
    assert (steps <= 0).all()
    if not isinstance(similarity, ops.Sigmoid):
        assert (steps < 0).all()


@pytest.mark.parametrize("margin", [1.0, 1.5, 4.0, 8.0])
@every_similarity
def test_margin_response_is_psi_of_the_angle_in_float32(similarity, truth, margin):
    theta = np.linspace(0, np.pi, 2_001)
    cos = jnp.asarray(np.cos(theta), jnp.float32)
    response = ops.margin_response(cos, margin=margin, similarity=similarity)
    with jax.enable_x64(True):
        expected = similarity.at_angle(jnp.asarray(margin * theta))
    # The cosine of an angle near 0 or pi holds it to 3.5e-4 radians only.
    np.testing.assert_allclose(response, expected, atol=4e-4 * margin**2)
    assert (np.diff(response) <= 1e-6).all()


@pytest.mark.parametrize("margin", [1.0, 1.5, 2.0, 4.0, 8.0])
@every_similarity
def test_margin_gradient_is_finite_everywhere_and_never_negative(
    similarity, truth, margin
):
    theta = jnp.linspace(0, jnp.pi, 2_001)
    cos = jnp.concatenate([jnp.cos(theta), jnp.array([1.0, -1.0, 1.0000004])])
    respond = lambda c: ops.margin_response(c, margin=margin, similarity=similarity)  # noqa: E731
    slope = jax.vmap(jax.grad(respond))(cos)
    assert np.isfinite(slope).all() and (slope >= 0).all()
    bend = jax.vmap(jax.grad(jax.grad(respond)))(cos)
    assert np.isfinite(bend).all()


def test_cosine_margin_slope_is_its_limit_at_zero_and_the_formula_inside():
    respond = lambda c: ops.margin_response(c, margin=4.0, similarity=ops.Cosine())  # noqa: E731
    assert float(jax.grad(respond)(jnp.array(1.0))) == pytest.approx(16.0)
    theta = np.linspace(0.05, 3.0, 60)
    turn = (-1.0) ** np.floor(4 * theta / np.pi)
    truth = turn * 4 * np.sin(4 * theta) / np.sin(theta)
    slope = jax.vmap(jax.grad(respond))(jnp.asarray(np.cos(theta), jnp.float32))
    np.testing.assert_allclose(slope, truth, rtol=1e-4, atol=1e-3)


def test_similarities_are_equal_by_value_hashable_and_not_pytrees():
    assert ops.Sigmoid(0.5) == ops.Sigmoid(0.5) != ops.Sigmoid(0.3)
    assert len({ops.Cosine(), ops.Cosine(), ops.Linear()}) == 2
    assert jax.tree.leaves(ops.Sigmoid(0.5)) == [ops.Sigmoid(0.5)]


@pytest.mark.parametrize("k", [0.0, -0.3, float("nan")])
def test_softness_must_be_positive(k):
    with pytest.raises(ValueError, match=r"`Sigmoid` needs a finite `k > 0`, got `k="):
        ops.Sigmoid(k=k)


@pytest.mark.parametrize("k", [1e5, 1e8, 1e18])
def test_a_soft_sigmoid_is_linear_past_pi_too(k):
    theta = jnp.linspace(0, 8 * np.pi, 101)
    straight = 1 - 2 * np.asarray(theta, float) / np.pi
    np.testing.assert_allclose(ops.Sigmoid(k).at_angle(theta), straight, atol=1e-4)


POWERS = np.array([0.1, 0.5, 1.0, 2.0, 3.7], np.float32)


@pytest.mark.parametrize("p", [*POWERS.tolist(), POWERS])
@pytest.mark.parametrize("floor", [1e-6, 0.1])
def test_sharpened_cosine_is_its_formula(p, floor):
    c = np.linspace(-1, 1, 2001, dtype=np.float32)[:, None]
    p = jnp.reshape(jnp.asarray(p), (1, -1))
    y = ops.sharpened_cosine(jnp.asarray(c), p=p, floor=floor)
    truth = reference.sharpened_cosine(np.float64(c), np.float64(p), floor=floor)
    np.testing.assert_allclose(y, truth, rtol=1e-5, atol=1e-6)
    assert float(jnp.max(jnp.abs(y))) <= 1


def test_sharpened_cosine_is_damped_where_the_norm_is_small():
    c = jnp.asarray(reference.normal(4, 3)) / 4
    norm = jnp.array([[1e-3], [0.1], [1.0], [1e6]])
    y = ops.sharpened_cosine(c, p=2.0, q=0.1, norm=norm)
    truth = reference.sharpened_cosine(np.float64(c), 2.0, 0.1, np.float64(norm))
    np.testing.assert_allclose(y, truth, rtol=1e-5, atol=1e-7)
    undamped = ops.sharpened_cosine(c, p=2.0)
    np.testing.assert_array_equal(ops.sharpened_cosine(c, p=2.0, q=0.1), undamped)
    np.testing.assert_allclose(y[3], undamped[3], rtol=1e-6)


@pytest.mark.parametrize("dtype", [jnp.float32, jnp.bfloat16, jnp.float16])
@pytest.mark.parametrize("power", POWERS.tolist())
def test_sharpened_cosine_has_finite_slopes_at_zero_and_the_ends(dtype, power):
    c = jnp.array([-1.01, -1.0, -1e-7, 0.0, 1e-7, 1.0, 1.01], dtype)
    norm = jnp.array([0.01, 0.01, 1e4, 0.01, 1e18, 1.0, 0.01])

    def total(c, p, q):
        y = ops.sharpened_cosine(c, p=p, q=q, norm=norm)
        assert y.dtype == dtype
        return jnp.sum(y.astype(jnp.float32))

    slopes = jax.jit(jax.grad(total, (0, 1, 2)))(c, jnp.array(power), jnp.array(1e-3))
    assert all(np.isfinite(slope.astype(jnp.float32)).all() for slope in slopes)
    assert float(ops.sharpened_cosine(jnp.zeros(()), p=power)) == 0


@pytest.mark.parametrize("cos", [0.0, 0.4, -0.8])
def test_second_derivatives_to_cosine_and_softness_are_symmetric(cos):
    curvature = jax.jit(jax.hessian(lambda v: ops.sigmoid(v[0], k=v[1])))
    at = np.array([cos, 0.3])
    truth, step = np.zeros((2, 2)), 1e-4
    for i, j in np.ndindex(2, 2):
        for a, b in np.ndindex(2, 2):
            one, other = (-1) ** a * np.eye(2)[i], (-1) ** b * np.eye(2)[j]
            value = reference.sigmoid(*(at + step * (one + other)))
            truth[i, j] += (-1) ** (a + b) * value / (4 * step**2)
    found = curvature(jnp.asarray(at, jnp.float32))
    np.testing.assert_allclose(found, truth, rtol=1e-3, atol=1e-3)


def test_python_numbers_are_taken_and_integers_refused(as_a_user):
    assert float(ops.Linear()(0.5)) == pytest.approx(1 / 3)
    assert float(jax.grad(ops.Sigmoid())(0.0)) > 1
    for function in (ops.arcsin, ops.angle, ops.Sigmoid()):
        with pytest.raises(TypeError, match=r"real floating-point.*dtype=int32"):
            function(jnp.array([1, 0]))
