"""The angular head, in both APIs."""

import jax
import jax.numpy as jnp
import numpy as np
import pytest
from flax import nnx

from hypersphere import linen, losses, nn
from tests import reference

X = jnp.float32(reference.normal(6, 5))
APIS = {
    "nnx": lambda **a: (
        (make := lambda: nn.AngularHead(5, 7, rngs=nnx.Rngs(0), **a)),
        (graph := nnx.graphdef(nnx.eval_shape(make))),
        jax.jit(lambda: nnx.to_pure_dict(nnx.state(make(), nnx.Param)))(),
        lambda params, x: nnx.merge(graph, nnx.State(params))(x),
    )[2:],
    "linen": lambda **a: (
        (head := linen.AngularHead(7, **a)),
        jax.jit(head.init)(jax.random.key(0), X)["params"],
        lambda params, x: head.apply({"params": params}, x),
    )[1:],
}
both = pytest.mark.parametrize("api", APIS)


@both
def test_padding_is_no_class_and_learns_nothing(api):
    params, apply = APIS[api](shards=4, centres=2)
    bare, _ = APIS[api](centres=2)
    assert params["kernel"].shape == (5, 16)
    np.testing.assert_array_equal(params["kernel"][:, :14], bare["kernel"])

    @jax.jit
    def found(params, x):
        labels = jnp.arange(6, dtype=jnp.int32)
        total = lambda p: jnp.sum(losses.arcface(apply(p, x)[0], labels))  # noqa: E731
        return apply(params, x)[0], jax.grad(total)(params)["kernel"]

    cos, slope = found(params, X)
    assert cos.shape == (6, 7) and not slope[:, 14:].any() and slope[:, :14].any()
    rows = [np.asarray(x, np.float64) for x in (X, params["kernel"][:, :14].T)]
    x, w = (row / np.linalg.norm(row, axis=1, keepdims=True) for row in rows)
    truth = (x @ w.T).reshape(6, 7, 2).max(-1)
    np.testing.assert_allclose(cos, truth, atol=1e-4)


@both
def test_a_scale_is_returned_for_the_length_and_may_be_learned(api):
    params, apply = APIS[api](scale=16.0)
    assert set(params) == {"kernel"}
    learned, apply_learned = APIS[api](scale=16.0, learn_scale=True, initial_length=3.0)
    lengths = np.linalg.norm(np.asarray(learned["kernel"]), axis=0)
    np.testing.assert_allclose(lengths, 3.0, rtol=1e-5)

    @jax.jit
    def found(params, learned, x):
        total = lambda p: jnp.sum(apply_learned(p, x)[1])  # noqa: E731
        return (
            apply(params, x)[1],
            apply_learned(learned, x)[1],
            jax.grad(total)(learned),
        )

    fixed, free, slope = found(params, learned, X)
    np.testing.assert_allclose(fixed, np.full((6, 1), 16.0))
    np.testing.assert_allclose(free, np.full((6, 1), 16.0), rtol=1e-5)
    np.testing.assert_allclose(slope["log_scale"], 6 * 16.0, rtol=1e-5)


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        ({"learn_scale": True}, "needs a `scale` to begin with"),
        ({"centres": 0}, "at least 1 and `chunk >= 0`, got 7, 0, 1 and 0"),
        ({"initial_length": 0.0}, "initial_length > 0"),
    ],
)
@both
def test_wrong_numbers_are_named(api, arguments, message):
    with pytest.raises(ValueError, match=message):
        APIS[api](**arguments)
