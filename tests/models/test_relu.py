import jax
import jax.numpy as jnp
import numpy as np
import pytest

from hypersphere import models
from tests import reference


@jax.jit
def answers(x, weights):
    """Of ours and of JAX's: answer, slope backward, slope forward, curvature."""

    def of(f):
        answer, pull = jax.vjp(f, x)
        _, push = jax.jvp(f, (x,), (weights,))
        bend = jax.grad(lambda x: jnp.sum(jax.vjp(f, x)[1](weights)[0] ** 2))(x)
        return answer, pull(weights)[0], push, bend

    return of(models.relu), of(jax.nn.relu)


@pytest.mark.parametrize("dtype", [jnp.float32, jnp.bfloat16, jnp.float16])
def test_it_is_the_one_of_jax_in_value_and_slope(dtype):
    x = reference.normal(4, 33).astype(dtype)
    x[0, :5] = 0.0, -0.0, jnp.finfo(dtype).tiny, -jnp.finfo(dtype).max, np.inf
    ours, theirs = answers(x, reference.normal(4, 33, seed=1).astype(dtype))
    assert ours[0].dtype == dtype
    for mine, other in zip(ours, theirs, strict=True):
        np.testing.assert_array_equal(np.float64(mine), np.float64(other))


@pytest.mark.parametrize(("platform", "is_hidden"), [("cuda", True), ("tpu", False)])
def test_where_the_answer_is_stored_anyway_the_slope_is_read_off_it(
    platform, is_hidden
):
    slope = jax.jit(jax.grad(lambda x: jnp.sum(models.relu(x))))
    lowered = slope.trace(jnp.ones(3)).lower(lowering_platforms=(platform,))
    assert ("optimization_barrier" in lowered.as_text()) == is_hidden
