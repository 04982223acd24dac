import functools
import inspect

import jax
import jax.numpy as jnp
import numpy as np
import pytest

from hypersphere.ops import magnitudes
from tests import helpers, reference

CLASSES = {
    name: value
    for name, value in vars(magnitudes).items()
    if isinstance(value, type) and value.__module__ == magnitudes.__name__
}
BENDING = {"Ball", "Tanh", "Segment"}
every_magnitude = pytest.mark.parametrize("name", CLASSES)
NORMS = np.array([0.0, 1e-6, 0.01, 0.5, 1.7, 2.0, 3.0, 50.0, 1e6], np.float32)


def test_each_has_a_formula_in_the_reference():
    assert set(CLASSES) == set(reference.MAGNITUDES)


@functools.partial(jax.jit, static_argnums=0)
def lengths(magnitude):
    """One column per radius."""
    y = magnitude(jnp.asarray(NORMS)[:, None], radius=jnp.array([[0.3, 2.0]]))
    return jnp.broadcast_to(y, (NORMS.size, 2))


@every_magnitude
@pytest.mark.parametrize("numbers", [{}, {"alpha": 1.5, "beta": 0.25}])
def test_equals_its_formula(name, numbers):
    fields = inspect.signature(CLASSES[name]).parameters
    numbers = {key: value for key, value in numbers.items() if key in fields}
    magnitude = CLASSES[name](**numbers)
    formula = functools.partial(reference.MAGNITUDES[name], **numbers)
    truth = [[formula(n, r) for r in (0.3, 2.0)] for n in NORMS.tolist()]
    helpers.assert_close(lengths(magnitude), truth)


@every_magnitude
def test_a_radius_per_filter_broadcasts_and_counts_only_where_said(name):
    magnitude = CLASSES[name]()
    assert magnitude.uses_radius == (name in BENDING)
    y = np.asarray(lengths(magnitude))
    truth = [
        [reference.MAGNITUDES[name](n, r) for r in (0.3, 2.0)] for n in NORMS.tolist()
    ]
    helpers.assert_close(y, truth)
    assert (y[:, 0] != y[:, 1]).any() == (name in BENDING)


@every_magnitude
def test_never_falls_and_slopes_are_finite_at_zero_the_radius_and_far_away(name):
    magnitude = CLASSES[name]()

    @jax.jit
    def with_slopes(norm, radius):
        each = lambda *a: jnp.broadcast_to(magnitude(a[0], radius=a[1]), norm.shape)  # noqa: E731
        y, pull = jax.vjp(each, norm, radius)
        return y, pull(jnp.ones_like(y))

    y, slopes = with_slopes(NORMS, np.full(NORMS.shape, 2.0, np.float32))
    assert (np.diff(y) >= 0).all()
    assert np.isfinite(slopes).all()
    assert (np.asarray(slopes[0]) >= 0).all()


@pytest.mark.parametrize("name", sorted(BENDING - {"Tanh"}))
def test_slope_at_the_radius_lies_between_those_of_its_sides(name):
    magnitude = CLASSES[name]()
    slope = jax.jit(jax.vmap(jax.grad(lambda norm: magnitude(norm, radius=2.0))))
    before, at, after = np.asarray(slope(np.array([1.99, 2.0, 2.01], np.float32)))
    assert after <= at <= before


@every_magnitude
def test_equal_by_value_hashable_and_not_a_pytree(name):
    one, other = CLASSES[name](), CLASSES[name](alpha=2.0)
    assert one == CLASSES[name]() != other
    assert len({one, CLASSES[name](), other}) == 2
    assert jax.tree.leaves(one) == [one]


@every_magnitude
@pytest.mark.parametrize("value", [0.0, -1.0, float("nan"), float("inf")])
def test_numbers_must_be_positive(name, value):
    for field in inspect.signature(CLASSES[name]).parameters:
        with pytest.raises(
            ValueError, match=rf"`{name}` needs a finite `{field} > 0`, got `{field}="
        ):
            CLASSES[name](**{field: value})


@pytest.mark.parametrize("dtype", ["float32", "bfloat16"])
def test_a_learned_radius_is_in_units_of_the_mean_length_and_never_zero(dtype):
    raw = np.array([0.0, 1.0, -2.0, 0.015625], jnp.dtype(dtype))
    rho = jax.jit(magnitudes.learned_radius)(raw, np.float32(3.0))
    assert rho.dtype == jnp.float32
    truth = [3 * (r * r + 1e-4) for r in (0, 1, -2, 0.015625)]
    helpers.assert_close(rho, truth)
