import functools

import jax
import jax.numpy as jnp
import numpy as np
import pytest
from flax import nnx

from hypersphere import nn, ops
from hypersphere.ops import magnitudes
from tests import helpers, reference

BATCHES = [(1 + i) * reference.normal(2, 4, 3, 4, seed=i) for i in range(5)]
WINDOW = (3, 2)
RAW = np.array([1.0, 0.0, -2.0, 0.5], np.float32)
WIDE = np.array([1.0, 1.5, -2.0, 2.5], np.float32)


def draw(key, shape, dtype):
    return jnp.asarray(reference.normal(*shape, seed=len(shape)), dtype)


def make(**arguments):
    arguments = dict(kernel_init=draw, bias_init=draw, rngs=nnx.Rngs(3)) | arguments
    return nn.DecoupledConv(4, 4, WINDOW, **arguments)


def filled(**arguments):
    layer = helpers.filled(lambda: make(**arguments))
    if layer.radius is not None:
        layer.radius[...] = jax.device_put(RAW.astype(layer.radius.dtype))
    return layer


@nnx.jit
def respond(layer, x):
    return layer(x)


def mean_length(x, groups=1):
    return reference.patch_norm(x, WINDOW, (1, 1), "SAME", (1, 1), groups, 1e-2).mean()


def truth_of(layer, x, mean, name="Tanh", **options):
    radius = (np.float64(layer.radius[...]) ** 2 + 1e-4) * mean
    y = reference.decoupled_conv(
        x, layer.kernel[...], reference.MAGNITUDES[name], radius=radius, **options
    )
    return y + np.float64(layer.bias[...])


@pytest.mark.parametrize("name", ["Ball", "Tanh", "Segment"])
@pytest.mark.parametrize("options", [{}, {"weighted": True}, {"groups": 2}], ids=str)
def test_equals_the_slow_reference_at_its_radii(name, options):
    arguments = dict(options)
    groups = arguments.pop("groups", 1)
    layer = filled(
        magnitude=getattr(magnitudes, name)(), feature_group_count=groups, **arguments
    )
    x = BATCHES[0]
    truth = truth_of(layer, x, mean_length(x, groups), name, **options)
    helpers.assert_close(respond(layer, x), truth)


def test_the_running_mean_is_a_debiased_average_and_evaluation_uses_it():
    layer = filled(momentum=0.9)
    total, weight = 0.0, 0.0
    for count, x in enumerate(BATCHES, start=1):
        helpers.assert_close(respond(layer, x), truth_of(layer, x, mean_length(x)))
        total = 0.9 * total + 0.1 * mean_length(x)
        weight = 0.9 * weight + 0.1
        np.testing.assert_allclose(layer.mean[...], total / weight, rtol=1e-5)
        assert int(layer.count[...]) == count
    before = jax.tree.map(np.array, nnx.state(layer))
    layer.eval()
    y = respond(layer, BATCHES[0])
    helpers.assert_close(y, truth_of(layer, BATCHES[0], total / weight))
    after = nnx.state(layer)
    jax.tree.map(np.testing.assert_array_equal, before, after)
    layer.train()
    assert not layer.use_running_average
    y = respond(layer, BATCHES[0])
    helpers.assert_close(y, truth_of(layer, BATCHES[0], mean_length(BATCHES[0])))
    assert int(layer.count[...]) == 6


def test_before_the_first_batch_evaluation_takes_lengths_as_they_are():
    layer = filled(use_running_average=True)
    helpers.assert_close(respond(layer, BATCHES[0]), truth_of(layer, BATCHES[0], 1.0))
    assert int(layer.count[...]) == 0


@pytest.mark.parametrize("momentum", [0.0, 0.999, 1.0])
def test_every_momentum_has_a_mean_from_the_first_batch_on(momentum):
    layer = filled(momentum=momentum)
    one, other = mean_length(BATCHES[2]), mean_length(BATCHES[1])
    respond(layer, BATCHES[2])
    np.testing.assert_allclose(layer.mean[...], one, rtol=1e-5)
    respond(layer, BATCHES[1])
    mean = (momentum * one + other) / (momentum + 1)  # at one, all count the same
    np.testing.assert_allclose(layer.mean[...], mean, rtol=1e-5)


@pytest.mark.parametrize("training", [True, False])
def test_radius_kernel_and_input_learn(training):
    layer = filled(use_running_average=not training)
    layer.radius[...] = jax.device_put(WIDE)
    x, target = BATCHES[0], reference.normal(2, 4, 3, 4, seed=9)
    graphdef, params, rest = nnx.split(layer, nnx.Param, ...)
    parts = params, nnx.to_pure_dict(rest)

    @jax.jit
    def slopes(params, rest, x):
        def total(params, x):
            return jnp.sum(nnx.merge(graphdef, params, rest)(x) * target)

        return jax.value_and_grad(total, argnums=(0, 1))(params, x)

    _, (state, to_input) = slopes(*parts, x)
    to_input, target = np.asarray(to_input), np.float64(target)
    slope = np.asarray(state["radius"][...])
    mean = mean_length(x) if training else 1.0

    def numeric(change):
        raw = np.float64(WIDE) + change
        y = reference.decoupled_conv(
            x, layer.kernel[...], reference.MAGNITUDES["Tanh"],
            radius=(raw**2 + 1e-4) * mean,
        )  # fmt: skip
        return (y * target).sum((0, 1, 2))

    truth = (numeric(1e-6) - numeric(-1e-6)) / 2e-6
    np.testing.assert_allclose(slope, truth, rtol=1e-3, atol=1e-4)
    assert (np.abs(slope) > 1e-3).all()
    assert np.isfinite(to_input).all() and np.any(to_input)
    assert all(np.asarray(leaf).any() for leaf in jax.tree.leaves(state))
    if training:  # the mean of the batch has a gradient too
        step = 1e-2 * reference.normal(*x.shape, seed=4)
        values = [slopes(*parts, x + sign * step)[0] for sign in (1, -1)]
        change = np.subtract(*values) / 2
        np.testing.assert_allclose(np.sum(to_input * step), change, rtol=2e-2)


def test_jit_split_and_merge_keep_the_state():
    layer, other = filled(), nnx.eval_shape(lambda: make(rngs=nnx.Rngs(9)))
    assert nnx.graphdef(layer) == nnx.graphdef(other)
    assert nnx.graphdef(layer) != nnx.graphdef(filled(momentum=0.5))
    graphdef, params, rest = nnx.split(layer, nnx.Param, nnx.BatchStat)
    assert set(params) == {"kernel", "bias", "radius"}
    assert set(rest) == {"mean", "count"}

    @jax.jit
    def step(params, rest, x):
        merged = nnx.merge(graphdef, params, rest)
        return merged(x), nnx.state(merged, nnx.BatchStat)

    y, rest = step(params, rest, BATCHES[0])
    np.testing.assert_allclose(y, respond(layer, BATCHES[0]), rtol=1e-6, atol=1e-6)
    np.testing.assert_allclose(rest["mean"][...], layer.mean[...], rtol=1e-6)
    assert int(rest["count"][...]) == 1


@pytest.mark.parametrize("name", ["Sphere", "Linear", "Log", "Mix"])
def test_without_a_radius_there_is_no_state(name):
    layer = filled(magnitude=getattr(magnitudes, name)())
    assert set(nnx.state(layer)) == {"kernel", "bias"}
    y = respond(layer, BATCHES[0])
    truth = reference.decoupled_conv(
        BATCHES[0], layer.kernel[...], reference.MAGNITUDES[name]
    )
    helpers.assert_close(y, truth + np.float64(layer.bias[...]))


def test_sphere_conv_is_the_one_of_constant_magnitude():
    both = dict(similarity=nn.LearnableSigmoid)
    layer = filled(magnitude=magnitudes.Sphere(), **both)
    sphere = helpers.filled(
        lambda: nn.SphereConv(4, 4, WINDOW, **both, rngs=nnx.Rngs(3))
    )
    answers = jax.jit(lambda x: (layer(x), sphere(x)))
    np.testing.assert_array_equal(*answers(BATCHES[0]))


def test_half_precision_keeps_its_mean_in_float32():
    layer = filled(dtype=jnp.bfloat16, param_dtype=jnp.bfloat16)
    assert layer.radius.dtype == jnp.bfloat16
    assert respond(layer, BATCHES[0]).dtype == jnp.bfloat16
    assert layer.mean[...].dtype == jnp.float32
    rounded = BATCHES[0].astype(jnp.bfloat16)
    np.testing.assert_allclose(layer.mean[...], mean_length(rounded), rtol=1e-4)


def test_bad_arguments_are_named(as_a_user):
    with pytest.raises(
        TypeError, match=r"`DecoupledConv` needs a callable `magnitude`.*='tanh'`"
    ):
        make(magnitude="tanh")
    with pytest.raises(TypeError, match=r"needs a callable `similarity`.*='cosine'`"):
        make(similarity="cosine")
    for momentum in (-0.1, 1.1, float("nan")):
        with pytest.raises(ValueError, match=r"`DecoupledConv` needs `0 <= momentum"):
            make(momentum=momentum)
    with pytest.raises(ValueError, match=r"`DecoupledConv` needs a finite `eps > 0`"):
        make(eps=0.0)
    with pytest.raises(ValueError, match=r"multiples.*`feature_group_count=3`"):
        make(feature_group_count=3)
    with pytest.raises(TypeError, match=r"`DecoupledConv` needs `kernel_size` as a t"):
        functools.partial(nn.DecoupledConv, rngs=nnx.Rngs(0))(4, 4, 3)
    with pytest.raises(ValueError, match=r"`DecoupledConv` needs `inputs\.shape\[-1\]"):
        filled()(BATCHES[0][..., :3])
    assert ops.Cosine() == filled().similarity


@pytest.mark.skipif(not hasattr(nnx, "view"), reason="an older Flax")
def test_a_view_switches_to_the_running_mean_and_leaves_the_layer():
    model = nnx.eval_shape(
        lambda: nnx.Sequential(make(), nnx.BatchNorm(4, rngs=nnx.Rngs(0)))
    )
    view = nnx.view(model, use_running_average=True)
    assert [layer.use_running_average for layer in view.layers] == [True, True]
    assert [layer.use_running_average for layer in model.layers] == [False, False]


def test_arguments_of_a_magnitude_are_refused_where_there_is_none(as_a_user):
    with pytest.raises(TypeError, match="unexpected keyword argument 'weighted'"):
        nn.SphereConv(4, 4, (3,), weighted=True, rngs=nnx.Rngs(0))
    with pytest.raises(TypeError, match=r"not a class of them.*Write `Ball\(\)`"):
        make(magnitude=magnitudes.Ball)
