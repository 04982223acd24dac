import functools
import inspect

import jax
import jax.numpy as jnp
import numpy as np
import pytest
from flax import nnx
from flax.nnx.nn import dtypes
from jax import lax

from hypersphere import losses, nn, ops
from tests import helpers, reference


def draw(key, shape, dtype):
    noise = reference.normal(*shape, seed=len(shape))
    return jax.device_put(noise.astype(dtype))


def make(in_features=5, out_features=4, **arguments):
    arguments = dict(kernel_init=draw, bias_init=draw, rngs=nnx.Rngs(3)) | arguments
    return nn.SphereLinear(in_features, out_features, **arguments)


def dense(x, kernel, similarity=reference.cosine, eps=1e-2):
    """The reference's convolution, one by one pixel."""
    x, kernel = np.asarray(x, np.float64), np.asarray(kernel, np.float64)
    pixels = x.reshape(-1, 1, 1, x.shape[-1])
    answer = reference.sphere_conv(pixels, kernel[None, None], similarity, eps=eps)
    return answer.reshape(*x.shape[:-1], -1)


@pytest.mark.parametrize("batch", [(), (3,), (2, 3)], ids=str)
def test_equals_the_slow_reference_for_any_number_of_batch_dimensions(batch):
    x = reference.normal(*batch, 5)
    layer = make(similarity=ops.Linear(), eps=0.5)
    truth = dense(x, layer.kernel[...], reference.linear, eps=0.5)
    helpers.assert_close(helpers.respond(layer, x), truth + np.asarray(layer.bias[...]))


SIMILARITIES = {
    "an object": (ops.Sigmoid(), reference.sigmoid),
    "a class": (ops.Linear, reference.linear),
    "a function": (lambda cos: cos**3, lambda cos: cos**3),
    "a partial of a module class": (
        functools.partial(nn.LearnableSigmoid, init=0.3),
        lambda c: reference.sigmoid(c, 0.35),
    ),
    "a module": (
        nn.LearnableSigmoid(4, rngs=nnx.Rngs(0)),
        lambda c: reference.sigmoid(c, 0.75),
    ),
}


@pytest.mark.parametrize(
    ("similarity", "truth"), SIMILARITIES.values(), ids=SIMILARITIES
)
def test_answers_with_the_similarity_it_is_given(similarity, truth):
    x = reference.normal(3, 5)
    layer = make(similarity=similarity, use_bias=False)
    assert layer.bias is None
    helpers.assert_close(helpers.respond(layer, x), dense(x, layer.kernel[...], truth))


def test_computes_in_dtype_and_keeps_parameters_in_param_dtype():
    x = reference.normal(3, 5)
    layer = make(dtype=jnp.bfloat16)
    assert layer.kernel.dtype == layer.bias.dtype == jnp.float32
    y = helpers.respond(layer, x)
    assert y.dtype == jnp.bfloat16
    arrays = x, np.asarray(layer.kernel[...]), np.asarray(layer.bias[...])
    rounded = [a.astype(jnp.bfloat16) for a in arrays]
    truth = dense(*rounded[:2]) + np.asarray(rounded[2], float)
    helpers.assert_close(y, truth, "bfloat16")
    layer = make(dtype=jnp.bfloat16, preferred_element_type=jnp.float32, use_bias=False)
    y = helpers.respond(layer, x)
    assert y.dtype == jnp.float32
    helpers.assert_close(y, dense(*rounded[:2]), "bfloat16")
    assert make(param_dtype=jnp.bfloat16).kernel.dtype == jnp.bfloat16


def every_argument(called):
    """A value for each argument of `nnx.Linear`; `called` notes functions called."""

    def promote_dtype(arrays, /, **options):
        called.append("promote_dtype")
        return dtypes.promote_dtype(arrays, **options)

    def dot_general(*arrays, **options):
        called.append("dot_general")
        return lax.dot_general(*arrays, **options)

    return dict(
        in_features=5,
        out_features=4,
        use_bias=True,
        dtype=jnp.float32,
        param_dtype=jnp.float32,
        precision="highest",
        kernel_init=draw,
        bias_init=draw,
        dot_general=dot_general,
        promote_dtype=promote_dtype,
        preferred_element_type=jnp.float32,
        rngs=nnx.Rngs(0),
        kernel_metadata={"role": "filters"},
        bias_metadata={"role": "shift"},
    )


def test_every_argument_of_the_plain_layer_keeps_its_meaning():
    called = []
    arguments = every_argument(called)
    names = set(inspect.signature(nnx.Linear.__init__).parameters)
    assert set(arguments) == names - {"self"}
    layer = nn.SphereLinear(**arguments)
    assert (layer.kernel.role, layer.bias.role) == ("filters", "shift")
    x = reference.normal(2, 3, 5)
    truth = dense(x, layer.kernel[...]) + np.asarray(layer.bias[...])
    helpers.assert_close(helpers.respond(layer, x), truth)
    assert called == ["promote_dtype", "dot_general"]


def test_a_learned_softness_is_in_the_state_and_learns():
    graphdef, params = nnx.split(make(similarity=nn.LearnableSigmoid))
    x, target = reference.normal(3, 5), reference.normal(3, 4, seed=1)

    @jax.jit
    def gradients(params, x):
        return jax.grad(lambda p: jnp.sum(nnx.merge(graphdef, p)(x) * target))(params)

    slope = gradients(params, x)["similarity"]["raw"][...]
    assert (np.abs(slope) > 1e-3).all()


def test_equal_layers_share_one_graph_definition():
    one, other = (make(similarity=nn.LearnableSigmoid) for _ in range(2))
    assert nnx.graphdef(one) == nnx.graphdef(other)
    assert hash(nnx.graphdef(one)) == hash(nnx.graphdef(other))


def test_bad_arguments_are_named(as_a_user):
    with pytest.raises(
        ValueError, match=r"`SphereLinear` needs a finite `eps > 0`, got `eps=0`"
    ):
        make(eps=0)
    with pytest.raises(
        TypeError, match=r"`SphereLinear` needs a callable `similarity`.*=0\.3`"
    ):
        make(similarity=0.3)
    with pytest.raises(
        ValueError,
        match=r"`SphereLinear` needs `inputs\.shape\[-1\] == in_features`, got "
        r"`inputs\.shape=\(5, 3\)` and `in_features=5`",
    ):
        make()(np.zeros((5, 3), np.float32))
    with pytest.raises(ValueError, match=r"`inputs\.shape=\(\)` and `in_features=5`"):
        make()(np.zeros((), np.float32))


def make_head(**arguments):
    arguments = dict(kernel_init=draw, rngs=nnx.Rngs(0)) | arguments
    return nn.AngularHead(5, 4, **arguments)


@pytest.mark.parametrize("batch", [(), (3,), (2, 3)], ids=str)
def test_head_gives_cosines_and_the_length_of_the_input(batch):
    head = make_head(eps=0.5)
    x = reference.normal(*batch, 5)
    cos, feature_norm = helpers.respond(head, x)
    assert cos.shape == (*batch, 4)
    assert feature_norm.shape == (*batch, 1)
    wide, kernel = np.float64(x), np.float64(head.kernel[...])
    helpers.assert_close(cos, dense(x, kernel, eps=0.5))
    lengths = np.sqrt((wide**2).sum(-1, keepdims=True) + 0.25)
    helpers.assert_close(feature_norm, lengths)
    unit_centres = kernel / np.sqrt((kernel**2).sum(0) + 0.25)
    helpers.assert_close(cos * feature_norm, wide @ unit_centres)


def test_head_answers_half_precision_in_float32():
    head = make_head(param_dtype=jnp.bfloat16)
    assert head.kernel.dtype == jnp.bfloat16
    x = reference.normal(3, 5).astype(jnp.bfloat16)
    cos, feature_norm = helpers.respond(head, x)
    assert cos.dtype == feature_norm.dtype == jnp.float32
    helpers.assert_close(cos, dense(x, head.kernel[...]))
    wide = np.float64(x)
    helpers.assert_close(feature_norm, np.sqrt((wide**2).sum(-1, keepdims=True) + 1e-4))


@pytest.mark.parametrize("size", [0.0, 1e-20, 1e18])
def test_head_and_loss_have_finite_gradients_for_features_of_every_length(size):
    graphdef, params = nnx.split(make_head())
    labels = jax.device_put(np.array([0, 3, 1], np.int32))

    @jax.jit
    def gradients(params, x):
        def total(params, x):
            cos, feature_norm = nnx.merge(graphdef, params)(x)
            return jnp.sum(losses.ga_softmax(cos, labels, feature_norm=feature_norm))

        return jax.grad(total, (0, 1))(params, x)

    x = reference.normal(3, 5) * np.float32(size)
    slopes = jax.tree.leaves(gradients(params, x))
    assert all(np.isfinite(slope).all() for slope in slopes)


def test_bad_arguments_of_the_head_are_named(as_a_user):
    with pytest.raises(
        ValueError, match=r"`AngularHead` needs a finite `eps > 0`, got `eps=-1\.0`"
    ):
        make_head(eps=-1.0)
    with pytest.raises(
        ValueError,
        match=r"`AngularHead` needs .*`inputs\.shape=\(2, 6\)` and `in_features=5`",
    ):
        make_head()(np.zeros((2, 6), np.float32))
