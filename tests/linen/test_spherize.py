import functools

import flax.linen
import jax
import jax.numpy as jnp
import numpy as np
import optax
import pytest
from jax import lax

from hypersphere import linen, ops
from tests.linen import twins


class MnistNet(flax.linen.Module):
    """The network of Flax's MNIST example, smaller; with any two kinds of layer."""

    conv: type = flax.linen.Conv
    dense: type = flax.linen.Dense

    @flax.linen.compact
    def __call__(self, x):
        for index, features in enumerate((4, 8)):
            x = self.conv(features, (3, 3), name=f"Conv_{index}")(x)
            x = flax.linen.avg_pool(flax.linen.relu(x), (2, 2), strides=(2, 2))
        x = x.reshape(x.shape[0], -1)
        x = flax.linen.relu(self.dense(16, name="Dense_0")(x))
        return flax.linen.Dense(3, name="Dense_1")(x)


PATHS = ["Conv_0", "Conv_1", "Dense_0", "Dense_1"]


@pytest.fixture
def images(draw):
    return draw((6, 8, 8, 1))


def intercepted(interceptor, apply, *arguments):
    with flax.linen.intercept_methods(interceptor):
        return apply(*arguments)


def answers(pair, variables, x, interceptor):
    """Of the first of two models under an interceptor, and of the second."""
    one, other = pair
    return jax.jit(
        lambda *arguments: (
            intercepted(interceptor, one.apply, *arguments),
            other.apply(*arguments),
        )
    )(variables, x)


def test_answers_as_the_spherical_layers_on_the_same_parameters(images):
    model = MnistNet()
    twin = MnistNet(conv=linen.SphereConv, dense=linen.SphereDense)
    where = lambda path, layer: path != ("Dense_1",)  # noqa: E731
    interceptor = linen.spherize(where=where)
    variables = twins.drawn(model, images)
    actual, expected = answers((model, twin), variables, images, interceptor)
    np.testing.assert_array_equal(actual, expected)
    assert interceptor.paths == PATHS[:3]


def test_two_interceptors_on_one_layer_are_refused_by_its_name_and_theirs(images):
    model = MnistNet()
    one, other = linen.spherize(), linen.spherize(where="Dense_0")
    apart = linen.spherize(where="*Conv*")

    def call(outer, inner):
        with flax.linen.intercept_methods(outer):
            respond = functools.partial(intercepted, inner, model.init_with_output)
            return jax.eval_shape(respond, jax.random.key(0), images)

    with pytest.raises(ValueError, match=r"layer Dense_0 is.*where=None.*'Dense_0'"):
        call(one, other)
    call(apart, other)


def test_the_model_is_plain_again_afterwards_even_after_an_error(images):
    apply = MnistNet().apply

    @jax.jit
    def respond(variables, x):
        before = apply(variables, x)
        spherical = intercepted(linen.spherize(), apply, variables, x)
        with pytest.raises(Exception, match="shape"):
            intercepted(linen.spherize(), apply, variables, x[:, :4])
        return before, spherical, apply(variables, x)

    before, spherical, after = respond(twins.drawn(MnistNet(), images), images)
    assert not np.allclose(spherical, before)
    np.testing.assert_array_equal(after, before)


def test_init_makes_the_plain_models_parameters(images):
    @jax.jit
    def start(x):
        init, key = MnistNet().init, jax.random.key(0)
        return init(key, x), intercepted(linen.spherize(), init, key, x)

    plain, actual = start(images)
    jax.tree.map(np.testing.assert_array_equal, actual, plain)


@pytest.mark.parametrize(
    ("where", "expected"),
    {
        None: PATHS,
        "Conv_1": ["Conv_1"],
        "*nv_*": PATHS[:2],
        ("Dense_*", "Conv_0", "nothing"): ["Conv_0", "Dense_0", "Dense_1"],
        (lambda path, layer: layer.features == 8): ["Conv_1"],
    }.items(),
)
def test_where_selects_the_layers(where, expected, images):
    where = list(where) if isinstance(where, tuple) else where
    interceptor = linen.spherize(where=where)
    variables = twins.init_shapes(MnistNet(), images)
    apply = functools.partial(intercepted, interceptor, MnistNet().apply)
    jax.eval_shape(apply, variables, images)
    assert interceptor.paths == expected


MASK = jax.device_put(np.tril(np.ones((3, 3, 2, 4), np.float32)))
PRODUCT = functools.partial(lax.conv_general_dilated)
LAYERS = {
    "mask": dict(padding="CIRCULAR", feature_group_count=2, mask=MASK),
    "product": dict(strides=2, use_bias=False, conv_general_dilated=PRODUCT),
    "class": dict(dtype=jnp.bfloat16, conv_general_dilated_cls=lambda: PRODUCT),
}


@pytest.mark.parametrize("arguments", LAYERS.values(), ids=LAYERS)
def test_a_single_layer_keeps_its_settings(arguments, draw):
    chosen = dict(similarity=ops.Linear(), eps=0.1)
    x = draw((2, 6, 6, 4))
    plain = flax.linen.Conv(4, (3, 3), **arguments)
    twin = linen.SphereConv(4, (3, 3), **arguments, **chosen)
    interceptor = linen.spherize(**chosen)
    actual, expected = answers((plain, twin), twins.drawn(plain, x), x, interceptor)
    np.testing.assert_array_equal(actual, expected)


def test_what_is_spherical_already_or_of_another_class_is_left(draw):
    class Special(flax.linen.Dense):
        pass

    x = draw((2, 3, 3, 4))
    conv = flax.linen.Conv(4, (2, 2), use_bias=False)
    model = flax.linen.Sequential(
        [linen.SphereConv(4, (2, 2)), linen.SphereNorm(conv), Special(4)]
        + [linen.SphereDense(4), linen.SphereDenseGeneral(4)]
    )
    interceptor = linen.spherize(similarity=ops.Linear())
    variables = twins.drawn(model, x)
    actual, expected = answers((model, model), variables, x, interceptor)
    np.testing.assert_array_equal(actual, expected)
    assert interceptor.paths == []


@pytest.mark.slow
def test_a_model_trains_under_it(images):
    labels, optimizer = np.arange(6) % 3, optax.adam(1e-2)

    interceptor = linen.spherize(where="[!D]*")

    def loss(params):
        logits = intercepted(interceptor, MnistNet().apply, {"params": params}, images)
        losses = optax.softmax_cross_entropy_with_integer_labels
        return losses(logits, labels).mean()

    def step(carry, _):
        params, state = carry
        value, grads = jax.value_and_grad(loss)(params)
        updates, state = optimizer.update(grads, state)
        return (optax.apply_updates(params, updates), state), value

    @jax.jit
    def train(params):
        return jax.lax.scan(step, (params, optimizer.init(params)), length=20)[1]

    values = np.asarray(train(twins.drawn(MnistNet(), images)["params"]))
    assert interceptor.paths == PATHS[:2]
    assert values[-1] < 0.8 * values[0]


def test_wrong_arguments_are_refused(as_a_user):
    with pytest.raises(TypeError, match="got `where=3`"):
        linen.spherize(where=3)
    with pytest.raises(ValueError, match="eps=0"):
        linen.spherize(eps=0)
    with pytest.raises(TypeError, match="callable `similarity`"):
        linen.spherize(similarity="cosine")
