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


@pytest.mark.parametrize("dtype", [jnp.float32, jnp.bfloat16])
@pytest.mark.parametrize("case", CASES.values(), ids=CASES)
def test_equals_the_slow_reference_exactly(draw, case, dtype):
    x, window, *options = (case.get(k) for k in ("x", "window", "strides", "padding"))
    x = draw(x).astype(dtype)
    options = (options[0], options[1] or "VALID")
    y = ops.max_abs_pool(x, window, *options)
    assert y.dtype == dtype
    truth = reference.max_abs_pool(x, window, *options)
    np.testing.assert_array_equal(np.asarray(y, float), truth)


def test_is_max_pooling_of_what_is_positive_and_min_pooling_of_what_is_not(draw):
    x = jnp.abs(draw((2, 6, 6, 3)))
    pooled = nnx.max_pool(x, (2, 2), strides=(2, 2))
    np.testing.assert_array_equal(ops.max_abs_pool(x, (2, 2), (2, 2)), pooled)
    np.testing.assert_array_equal(ops.max_abs_pool(-x, (2, 2), (2, 2)), -pooled)
    each = ops.max_abs_pool(x, (2, 2))
    np.testing.assert_array_equal(each, nnx.max_pool(x, (2, 2)))


def test_of_two_equally_large_entries_the_positive_one_is_taken():
    x = jnp.array([-2.0, 2.0, 2.0, -2.0, 0.0, -0.0]).reshape(1, 6, 1)
    y = ops.max_abs_pool(x, (2,), (2,))
    np.testing.assert_array_equal(y.ravel(), [2, 2, 0])


def test_the_gradient_goes_to_the_entry_that_is_chosen(draw):
    x, target = draw((1, 4, 4, 2)), draw((1, 2, 2, 2))
    pool = functools.partial(ops.max_abs_pool, window_shape=(2, 2), strides=(2, 2))
    slope = jax.jit(jax.grad(lambda x: jnp.sum(pool(x) * target)))(x)
    spread = np.repeat(np.repeat(target, 2, 1), 2, 2)
    chosen = np.repeat(np.repeat(pool(x), 2, 1), 2, 2) == np.asarray(x)
    np.testing.assert_array_equal(slope, spread * chosen)
    for size in (0.0, 1e30):
        assert np.isfinite(jax.grad(lambda x: jnp.sum(pool(x)))(x * size)).all()
    helpers.check_gradients(lambda x: pool(x * 10) / 10, x)


def test_bad_arguments_are_named(as_a_user):
    x = jnp.ones((1, 4, 4, 2))
    for arguments in [((2,),), ((2, 2), (2,)), ((2, 2, 2), (2, 2, 2))]:
        with pytest.raises(ValueError, match=r"`max_abs_pool` needs .*\(1, 4, 4, 2\)"):
            ops.max_abs_pool(x, *arguments)
    with pytest.raises(ValueError, match=r"`inputs\.shape=\(4, 2\)`"):
        ops.max_abs_pool(x[0, 0], ())
    with pytest.raises(TypeError, match=r"`inputs\.dtype=int32`"):
        ops.max_abs_pool(x.astype(int), (2, 2))
