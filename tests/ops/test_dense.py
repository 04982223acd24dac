import functools

import jax
import jax.numpy as jnp
import numpy as np
import pytest
from flax import nnx

from hypersphere import ops
from tests import helpers, reference

sphere_dense = jax.jit(ops.sphere_dense, static_argnames="similarity")
sphere_dot_general = jax.jit(
    ops.sphere_dot_general, static_argnums=2, static_argnames="similarity"
)


def slow(x, kernel, similarity=reference.linear):
    """Rows of x and columns of a matrix, through the one-by-one convolution."""
    return reference.sphere_conv(x[None], kernel[None], similarity)[0]


def test_dense_is_the_one_by_one_convolution(numbers):
    x, kernel = numbers((2, 3, 3, 5)), numbers((5, 4))
    y = sphere_dense(x, kernel, similarity=ops.Linear())
    truth = reference.sphere_conv(x, kernel[None, None], reference.linear)
    helpers.assert_close(y, truth)
    one = sphere_dense(x[0, 0, 0], kernel, similarity=ops.Linear())
    helpers.assert_close(one, truth[0, 0, 0])


@pytest.mark.parametrize("dtype", [jnp.float32, jnp.bfloat16])
def test_a_head_answers_with_cosines_and_lengths_of_at_least_float32(numbers, dtype):
    x, kernel = (numbers(shape).astype(dtype) for shape in ((2, 3, 5), (5, 4)))
    cos, length = jax.jit(ops.angular_head)(x, kernel)
    assert cos.dtype == length.dtype == jnp.float32
    x, kernel = np.float64(x), np.float64(kernel)
    lengths = np.sqrt(np.sum(x**2, -1, keepdims=True) + 1e-4)
    columns = np.sqrt(np.sum(kernel**2, 0) + 1e-4)
    helpers.assert_close(length, lengths)
    helpers.assert_close(cos, x @ kernel / lengths / columns)


def test_dot_general_is_dense_bit_for_bit(numbers):
    x, kernel = numbers((2, 3, 5)), numbers((5, 4))
    y = sphere_dot_general(x, kernel, (((2,), (0,)), ((), ())))
    np.testing.assert_array_equal(y, sphere_dense(x, kernel))


def test_what_is_contracted_makes_up_one_vector(numbers):
    x, kernel = numbers((2, 3, 4, 5)), numbers((5, 6, 3, 2))
    along = (((1, 3), (2, 0)), ((), ()))
    y = sphere_dot_general(x, kernel, along, similarity=ops.Linear())
    assert y.shape == (2, 4, 6, 2)
    rows = np.transpose(x, (0, 2, 1, 3)).reshape(8, 15)
    columns = np.transpose(kernel, (2, 0, 1, 3)).reshape(15, 12)
    helpers.assert_close(y, slow(rows, columns).reshape(2, 4, 6, 2))


@pytest.mark.parametrize("axes", [(0, 1, 2, 3), (2, 0, 3, 1)])
def test_each_entry_of_the_batch_has_its_own_kernel(numbers, axes):
    x, kernel = numbers((2, 3, 4, 5)), numbers((2, 3, 5, 6))  # batch axes first
    order = np.argsort(axes)
    b0, b1, _, contracted = (int(axis) for axis in order)
    y = sphere_dot_general(
        x.transpose(axes),
        kernel,
        (((contracted,), (2,)), ((b0, b1), (0, 1))),
        similarity=ops.Linear(),
    )
    truth = [
        [slow(x[i, j], kernel[i, j]) for j in range(3)] for i in range(2)
    ]  # one matrix at a time
    helpers.assert_close(y, np.array(truth))


def test_in_linear_general(numbers):
    x = numbers((2, 3, 4))
    layer = helpers.filled(
        lambda: nnx.LinearGeneral(
            (3, 4), (2, 5), axis=(-2, -1), dot_general=ops.sphere_dot_general,
            use_bias=False, rngs=nnx.Rngs(0),
        )
    )  # fmt: skip
    kernel = np.asarray(layer.kernel[...]).reshape(12, 10)
    truth = slow(x.reshape(2, 12), kernel, reference.cosine)
    helpers.assert_close(helpers.respond(layer, x), truth.reshape(2, 2, 5))


def test_in_the_projections_of_attention(numbers):
    layer = helpers.filled(
        lambda: nnx.MultiHeadAttention(
            2, 4, qkv_dot_general=ops.sphere_dot_general, decode=False, rngs=nnx.Rngs(0)
        )
    )
    x = numbers((2, 3, 4))
    kernel = np.asarray(layer.query.kernel[...]).reshape(4, 4)
    bias = np.asarray(layer.query.bias[...])
    truth = slow(x.reshape(6, 4), kernel, reference.cosine).reshape(2, 3, 2, 2)
    helpers.assert_close(helpers.respond(layer.query, x), truth + bias)
    assert helpers.respond(layer, x).shape == (2, 3, 4)


@pytest.mark.parametrize("dtype", ["float16", "bfloat16"])
def test_half_precision_equals_the_reference_on_the_rounded_input(numbers, dtype):
    x = numbers((3, 2, 8)).astype(jnp.dtype(dtype))
    kernel = numbers((2, 8, 4)).astype(jnp.dtype(dtype))
    along = (((1, 2), (0, 1)), ((), ()))
    y = sphere_dot_general(x, kernel, along)
    assert y.dtype == dtype
    truth = slow(x.reshape(3, 16), kernel.reshape(16, 4), reference.cosine)
    helpers.assert_close(y, truth, dtype)
    wide = jax.eval_shape(
        lambda x, kernel: ops.sphere_dot_general(
            x, kernel, along, preferred_element_type=jnp.float32
        ),
        x,
        kernel,
    )
    assert wide.dtype == jnp.float32


def test_gradients_agree_with_finite_differences_and_are_finite_at_zero(numbers):
    x, kernel = numbers((2, 3, 4)), numbers((2, 4, 3))
    respond = functools.partial(
        ops.sphere_dot_general,
        dimension_numbers=(((2,), (1,)), ((0,), (0,))),
        similarity=ops.Sigmoid(),
    )
    helpers.check_gradients(respond, x, kernel)
    slopes = jax.jit(jax.grad(lambda *arrays: jnp.sum(respond(*arrays)), (0, 1)))
    for size in (0.0, 1e18):
        found = slopes(x * size, kernel * size)
        assert all(np.isfinite(slope).all() for slope in found)


def test_bad_arguments_are_named(as_a_user):
    along = (((0,), (0,)), ((), ()))
    x, kernel, other = (np.ones(s, np.float32) for s in (3, (3, 2), (4, 5)))
    with pytest.raises(ValueError, match=r"`sphere_dot_general` needs a finite `eps"):
        ops.sphere_dot_general(x, kernel, along, eps=0.0)
    with pytest.raises(TypeError, match=r"`rhs\.dtype=int32`"):
        ops.sphere_dot_general(x, kernel.astype(np.int32), along)
    with pytest.raises(ValueError, match=r"`sphere_dense` needs.*\(3,\).*\(4, 5\)"):
        ops.sphere_dense(x, other)
