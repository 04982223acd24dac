import jax
import jax.numpy as jnp
import numpy as np
import pytest
from flax import nnx

from hypersphere import ops
from tests import helpers, reference


def slow(x, kernel, similarity=reference.linear):
    """Rows of x and columns of a matrix, through the one-by-one convolution."""
    return reference.sphere_conv(x[None], kernel[None], similarity)[0]


def test_dense_is_the_one_by_one_convolution(draw):
    x, kernel = draw((2, 3, 3, 5)), draw((5, 4))
    y = ops.sphere_dense(x, kernel, similarity=ops.Linear())
    truth = reference.sphere_conv(x, kernel[None, None], reference.linear)
    helpers.assert_close(y, truth)
    assert ops.sphere_dense(x[0, 0, 0], kernel).shape == (4,)


def test_dot_general_is_dense_bit_for_bit(draw):
    x, kernel = draw((2, 3, 5)), draw((5, 4))
    y = ops.sphere_dot_general(x, kernel, (((2,), (0,)), ((), ())))
    np.testing.assert_array_equal(y, ops.sphere_dense(x, kernel))


def test_what_is_contracted_makes_up_one_vector(draw):
    x, kernel = draw((2, 3, 4, 5)), draw((5, 6, 3, 2))
    y = ops.sphere_dot_general(
        x, kernel, (((1, 3), (2, 0)), ((), ())), similarity=ops.Linear()
    )
    assert y.shape == (2, 4, 6, 2)
    rows = np.transpose(x, (0, 2, 1, 3)).reshape(8, 15)
    columns = np.transpose(kernel, (2, 0, 1, 3)).reshape(15, 12)
    helpers.assert_close(y, slow(rows, columns).reshape(2, 4, 6, 2))


@pytest.mark.parametrize("axes", [(0, 1, 2, 3), (2, 0, 3, 1)])
def test_each_entry_of_the_batch_has_its_own_kernel(draw, axes):
    x, kernel = draw((2, 3, 4, 5)), draw((2, 3, 5, 6))  # batch axes first
    order = np.argsort(axes)
    b0, b1, _, contracted = (int(axis) for axis in order)
    y = ops.sphere_dot_general(
        x.transpose(axes),
        kernel,
        (((contracted,), (2,)), ((b0, b1), (0, 1))),
        similarity=ops.Linear(),
    )
    truth = [
        [slow(x[i, j], kernel[i, j]) for j in range(3)] for i in range(2)
    ]  # one matrix at a time
    helpers.assert_close(y, np.array(truth))


def test_in_linear_general(draw):
    x = draw((2, 3, 4))
    layer = nnx.LinearGeneral(
        (3, 4), (2, 5), axis=(-2, -1), dot_general=ops.sphere_dot_general,
        use_bias=False, rngs=nnx.Rngs(0),
    )  # fmt: skip
    truth = slow(x.reshape(2, 12), layer.kernel[...].reshape(12, 10), reference.cosine)
    helpers.assert_close(layer(x), truth.reshape(2, 2, 5))


def test_in_the_projections_of_attention(draw):
    layer = nnx.MultiHeadAttention(
        2, 4, qkv_dot_general=ops.sphere_dot_general, decode=False, rngs=nnx.Rngs(0)
    )
    x = draw((2, 3, 4))
    kernel = layer.query.kernel[...].reshape(4, 4)
    truth = slow(x.reshape(6, 4), kernel, reference.cosine)
    helpers.assert_close(layer.query(x), truth.reshape(2, 3, 2, 2))
    assert layer(x).shape == (2, 3, 4)


@pytest.mark.parametrize("dtype", ["float16", "bfloat16"])
def test_half_precision_equals_the_reference_on_the_rounded_input(draw, dtype):
    x, kernel = draw((3, 2, 8)).astype(dtype), draw((2, 8, 4)).astype(dtype)
    numbers = (((1, 2), (0, 1)), ((), ()))
    y = ops.sphere_dot_general(x, kernel, numbers)
    assert y.dtype == dtype
    truth = slow(x.reshape(3, 16), kernel.reshape(16, 4), reference.cosine)
    helpers.assert_close(y, truth, dtype)
    wide = ops.sphere_dot_general(
        x, kernel, numbers, preferred_element_type=jnp.float32
    )
    assert wide.dtype == jnp.float32


def test_gradients_agree_with_finite_differences_and_are_finite_at_zero(draw):
    x, kernel = draw((2, 3, 4)), draw((2, 4, 3))
    respond = lambda x, kernel: ops.sphere_dot_general(  # noqa: E731
        x, kernel, (((2,), (1,)), ((0,), (0,))), similarity=ops.Sigmoid()
    )
    helpers.check_gradients(respond, x, kernel)
    total = lambda *arrays: jnp.sum(respond(*arrays))  # noqa: E731
    for size in (0.0, 1e18):
        slopes = jax.jit(jax.grad(total, (0, 1)))(x * size, kernel * size)
        assert all(np.isfinite(slope).all() for slope in slopes)


def test_bad_arguments_are_named(as_a_user):
    numbers = (((0,), (0,)), ((), ()))
    with pytest.raises(ValueError, match=r"`sphere_dot_general` needs a finite `eps"):
        ops.sphere_dot_general(jnp.ones(3), jnp.ones((3, 2)), numbers, eps=0.0)
    with pytest.raises(TypeError, match=r"`rhs\.dtype=int32`"):
        ops.sphere_dot_general(jnp.ones(3), jnp.ones((3, 2), int), numbers)
    with pytest.raises(ValueError, match=r"`sphere_dense` needs.*\(3,\).*\(4, 5\)"):
        ops.sphere_dense(jnp.ones(3), jnp.ones((4, 5)))
