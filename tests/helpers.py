"""What several tests share: tolerances and a gradient check."""

import jax.numpy as jnp
import numpy as np
from jax.test_util import check_grads

TOLERANCE = {
    "float64": dict(rtol=1e-10, atol=1e-10),
    "float32": dict(rtol=1e-5, atol=1e-6),
    "float16": dict(rtol=2e-3, atol=2e-3),
    "bfloat16": dict(rtol=2e-2, atol=2e-2),
}


def assert_close(actual, expected, dtype="float32"):
    actual = np.asarray(actual, np.float64)
    np.testing.assert_allclose(actual, expected, **TOLERANCE[dtype])


def check_gradients(function, *arguments, order=1):
    """Forward and reverse derivatives agree with finite differences."""
    wrapped = lambda *args: function(*map(jnp.asarray, args))  # noqa: E731
    check_grads(wrapped, arguments, order, atol=1e-2, rtol=1e-2, eps=1e-2)
