import functools

import jax
import jax.numpy as jnp
import numpy as np
import pytest
from flax import nnx

from hypersphere import ops
from tests import helpers, reference

CASES = {
    "1d": dict(x=(2, 7, 3), window=(3,), strides=(2,)),
    "2d": dict(x=(2, 5, 6, 3), window=(2, 3), strides=(2, 1)),
    "3d": dict(x=(1, 4, 3, 5, 2), window=(2, 2, 3), strides=(2, 1, 2)),
    "same": dict(x=(2, 5, 4, 3), window=(3, 2), strides=(2, 2), padding="SAME"),
    "pairs": dict(
        x=(1, 4, 4, 2), window=(3, 3), strides=(1, 2), padding=((1, 0), (2, 1))
    ),
}


max_abs_pool = jax.jit(
    ops.max_abs_pool, static_argnames=("window_shape", "strides", "padding")
)


@pytest.mark.parametrize("dtype", [jnp.float32, jnp.bfloat16])
@pytest.mark.parametrize("case", CASES.values(), ids=CASES)
def test_equals_the_slow_reference_exactly(numbers, case, dtype):
    x = numbers(case["x"]).astype(dtype)
    padding = case.get("padding", "VALID")
    arguments = case["window"], case["strides"], padding
    y = max_abs_pool(x, *arguments)
    assert y.dtype == dtype
    np.testing.assert_array_equal(np.float64(y), reference.max_abs_pool(x, *arguments))


def test_is_max_pooling_of_what_is_positive_and_min_pooling_of_what_is_not(numbers):
    x = np.abs(numbers((2, 6, 6, 3)))

    @jax.jit
    def pooled(x):
        window = (2, 2)
        return nnx.max_pool(x, window, strides=window), nnx.max_pool(x, window)

    apart, each = map(np.asarray, pooled(x))
    np.testing.assert_array_equal(max_abs_pool(x, (2, 2), (2, 2)), apart)
    np.testing.assert_array_equal(max_abs_pool(-x, (2, 2), (2, 2)), -apart)
    np.testing.assert_array_equal(max_abs_pool(x, (2, 2)), each)


def test_of_two_equally_large_entries_the_positive_one_is_taken():
    x = np.array([-2.0, 2.0, 2.0, -2.0, 0.0, -0.0], np.float32).reshape(1, 6, 1)
    y = max_abs_pool(x, (2,), (2,))
    np.testing.assert_array_equal(np.ravel(y), [2, 2, 0])


def test_the_gradient_goes_to_the_entry_that_is_chosen(numbers):
    x, target = numbers((1, 4, 4, 2)), numbers((1, 2, 2, 2))
    pool = functools.partial(ops.max_abs_pool, window_shape=(2, 2), strides=(2, 2))

    @jax.jit
    def pooled_and_slope(x, target):
        pooled, pull = jax.vjp(pool, x)
        return pooled, *pull(target)

    pooled, slope = pooled_and_slope(x, target)
    spread = np.repeat(np.repeat(target, 2, 1), 2, 2)
    chosen = np.repeat(np.repeat(pooled, 2, 1), 2, 2) == x
    np.testing.assert_array_equal(slope, spread * chosen)
    for size in (0.0, 1e30):
        _, slope = pooled_and_slope(x * size, np.ones_like(target))
        assert np.isfinite(slope).all()
    helpers.check_gradients(lambda x: pool(x * 10) / 10, x)


def test_bad_arguments_are_named(as_a_user):
    x = np.ones((1, 4, 4, 2), np.float32)
    for arguments in [((2,),), ((2, 2), (2,)), ((2, 2, 2), (2, 2, 2))]:
        with pytest.raises(ValueError, match=r"`max_abs_pool` needs .*\(1, 4, 4, 2\)"):
            ops.max_abs_pool(x, *arguments)
    with pytest.raises(ValueError, match=r"`inputs\.shape=\(4, 2\)`"):
        ops.max_abs_pool(x[0, 0], ())
    with pytest.raises(TypeError, match=r"`inputs\.dtype=int32`"):
        ops.max_abs_pool(x.astype(np.int32), (2, 2))
