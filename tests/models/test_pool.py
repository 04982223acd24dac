import jax
import numpy as np
import pytest
from flax import nnx

from hypersphere.models import _pool
from tests import reference


@jax.jit
def with_slope(x, weights):
    answer, pull = jax.vjp(_pool.halve, x)
    return answer, pull(weights)[0]


@pytest.mark.parametrize("shape", [(2, 4, 6, 3), (2, 5, 3, 3)])
def test_halving_is_max_pooling_and_so_is_its_slope(shape):
    x = reference.normal(*shape)
    pooled, pull = jax.vjp(lambda x: nnx.max_pool(x, (2, 2), (2, 2), "SAME"), x)
    weights = reference.normal(*pooled.shape, seed=1)
    answer, slope = with_slope(x, weights)
    np.testing.assert_array_equal(answer, pooled)
    np.testing.assert_array_equal(slope, pull(weights)[0])


def test_equal_maxima_share_a_slope_and_lose_none():
    x = np.zeros((1, 2, 4, 1), np.float32)
    x[0, 1, 3] = x[0, 0, 2] = 1.0
    _, slope = with_slope(x, np.ones((1, 1, 2, 1), np.float32))
    np.testing.assert_array_equal(
        slope[0, :, :, 0], [[0.25, 0.25, 0.5, 0], [0.25, 0.25, 0, 0.5]]
    )
