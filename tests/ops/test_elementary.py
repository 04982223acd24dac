import jax
import jax.numpy as jnp
import numpy as np
import pytest

from hypersphere.ops import _elementary

SIZES = np.logspace(-37, 38, 200_001).astype(np.float32)


def relative_error(actual, truth):
    return np.max(np.abs(np.asarray(actual, np.float64) / truth - 1))


def derivative(function, order=1):
    for _ in range(order):
        function = jax.grad(function)
    return jax.jit(jax.vmap(function))


def test_roots_are_right_over_the_whole_range_of_float32():
    truth = np.sqrt(SIZES.astype(np.float64))
    inverse = jax.jit(_elementary.inverse_root)(SIZES)
    assert relative_error(inverse, 1 / truth) < 3e-7
    root = np.asarray(jax.jit(_elementary.root)(SIZES))
    ordinary = SIZES > 1e-30  # below, what rounding left is too small a number
    assert relative_error(root[ordinary], truth[ordinary]) < 1.5e-7
    assert relative_error(root, truth) < 6e-6
    assert float(jax.jit(_elementary.root)(np.float32(0))) == 0


def test_slopes_of_the_roots_are_right_where_float32_holds_them():
    x = np.logspace(-24, 24, 2001).astype(np.float32)
    wide = x.astype(np.float64)
    slope = derivative(_elementary.inverse_root)(x)
    assert relative_error(slope, -0.5 * wide**-1.5) < 1e-6
    assert relative_error(derivative(_elementary.root)(x), 0.5 * wide**-0.5) < 1e-6
    x = np.logspace(-14, 14, 501).astype(np.float32)
    bend = derivative(_elementary.inverse_root, 2)(x)
    assert relative_error(bend, 0.75 * x.astype(np.float64) ** -2.5) < 1e-6


@pytest.mark.parametrize(
    ("name", "truth", "slope"),
    [
        ("root", np.sqrt, lambda x: 0.5 / np.sqrt(x)),
        ("inverse_root", lambda x: x**-0.5, lambda x: -0.5 * x**-1.5),
    ],
)
def test_float64_stays_float64(name, truth, slope):
    function = getattr(_elementary, name)
    with jax.enable_x64(True):
        x = np.linspace(0.01, 5, 101)
        y = jax.jit(function)(x)
        assert y.dtype == jnp.float64
        np.testing.assert_allclose(y, truth(x), rtol=1e-14)
        np.testing.assert_allclose(derivative(function)(x), slope(x), rtol=1e-10)
