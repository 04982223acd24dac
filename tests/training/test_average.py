import jax
import jax.numpy as jnp
import numpy as np

from hypersphere.training.compute._average import moving_average


def test_the_average_is_that_of_a_slow_loop(draw):
    weights = [{"w": draw((3, 2)), "count": np.int32(i)} for i in range(30)]
    ema = {"w": np.zeros((3, 2), np.float32), "count": np.int32(0)}
    truth = np.zeros((3, 2))
    update = jax.jit(moving_average, static_argnames="decay")
    for step, new in enumerate(weights):
        ema = update(ema, new, np.int32(step), decay=0.6)
        keep = 0.6 if step >= 13 else (1 + step) / (10 + step)  # 14 / 23 > 0.6
        truth = keep * truth + (1 - keep) * np.asarray(new["w"], np.float64)
        np.testing.assert_allclose(ema["w"], truth, rtol=1e-5, atol=1e-6)
        assert int(ema["count"]) == step and ema["count"].dtype == np.int32


def test_weights_that_do_not_change_are_their_own_average(draw):
    half = np.asarray(draw((50,))).astype(jnp.bfloat16)
    weights = ema = {"w": draw((50,)), "half": half}
    update = jax.jit(moving_average, static_argnames="decay")
    for step in (0, 1, 1_000):
        ema = update(ema, weights, np.int32(step), decay=0.999)
    jax.tree.map(np.testing.assert_array_equal, ema, weights)
    assert ema["half"].dtype == jnp.bfloat16
