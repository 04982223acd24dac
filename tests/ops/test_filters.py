import functools

import jax
import jax.numpy as jnp
import numpy as np
import pytest
from jax import lax

from hypersphere import ops

qwix = pytest.importorskip("qwix")


@pytest.mark.usefixtures("as_a_user")  # a quantized kernel is no array
def test_the_length_of_a_quantized_filter_does_not_count(numbers):
    x, kernel = numbers((3, 4, 5)), 30 * numbers((2, 5, 3))
    quantized = qwix.quantize(kernel, jnp.int8, channelwise_axes=(0, 2))
    rough = np.asarray(qwix.dequantize(quantized))

    def product(lhs, rhs, *args, **kwargs):
        """What qwix puts in the place of JAX's own."""
        return (
            lax.dot_general(lhs, rhs, *args, **kwargs)
            if rhs is not quantized
            else (lax.dot_general(lhs, rough, *args, **kwargs))
        )

    @jax.jit
    def both(x):
        respond = functools.partial(
            ops.sphere_dot_general, dot_general=product, similarity=ops.Linear()
        )
        along = (((2,), (1,)), ((), ()))
        return respond(x, quantized, along), respond(x, rough, along)

    found, expected = map(np.asarray, both(x))
    assert np.abs(found).max() <= 1
    np.testing.assert_allclose(found, expected, atol=1e-5)
