import dataclasses
import functools

import flax.linen
import jax
import jax.numpy as jnp
import numpy as np
import pytest
from flax import nnx
from jax import lax

from hypersphere import linen, nn, ops
from tests.linen import twins

magnitudes = ops.magnitudes
MASK = jnp.asarray(np.random.default_rng(3).random((3, 2, 4, 6)) > 0.3, jnp.float32)


def halved(*args, **kwargs):
    """A product of the user's own."""
    return 0.5 * lax.conv_general_dilated(*args, **kwargs)


# Of the input, the window, and the layer's other arguments.
IMAGE = (2, 6, 5, 4)
CASES = {
    "as it comes": (IMAGE, (3, 2), {}),
    "one axis": ((2, 7, 4), (3,), {}),
    "three axes": ((1, 4, 3, 3, 4), (2, 2, 2), {}),
    "no batch axis": (IMAGE[1:], (3, 2), {}),
    "two batch axes": ((2, *IMAGE), (3, 2), {"similarity": ops.Linear()}),
    "circular": (IMAGE, (3, 2), {"padding": "CIRCULAR"}),
    "reflect": (IMAGE, (3, 2), {"padding": "REFLECT"}),
    "causal": ((2, 7, 4), (3,), {"padding": "CAUSAL", "kernel_dilation": 2}),
    "pairs, strides": (IMAGE, (3, 2), {"padding": ((2, 0), (1, 3)), "strides": (2, 1)}),
    "dilated": (IMAGE, (3, 2), {"kernel_dilation": 2, "input_dilation": (2, 1)}),
    "groups": (IMAGE, (3, 2), {"feature_group_count": 2, "similarity": ops.Sigmoid()}),
    "mask": (IMAGE, (3, 2), {"mask": MASK}),
    "bfloat16": (IMAGE, (3, 2), {"dtype": jnp.bfloat16, "eps": 0.1}),
    "bfloat16 parameters": (IMAGE, (3, 2), {"param_dtype": jnp.bfloat16}),
    "no bias": (IMAGE, (3, 2), {"use_bias": False, "precision": "highest"}),
    "own product": (IMAGE, (3, 2), {"conv_general_dilated": halved}),
}


@pytest.mark.parametrize(("shape", "window", "options"), CASES.values(), ids=CASES)
def test_is_the_twin_of_the_nnx_layer(draw, shape, window, options):
    layer = nn.SphereConv(4, 6, window, rngs=nnx.Rngs(0), **options)
    twin = linen.SphereConv(6, window, **options)
    twins.assert_twins(layer, twin, draw(shape), draw, eager=not options)


@pytest.mark.parametrize("name", ["LearnableSigmoid", "SharpenedCosine"])
def test_a_learned_similarity_is_that_of_the_twin(draw, name):
    layer = nn.SphereConv(4, 6, (3, 2), similarity=getattr(nn, name), rngs=nnx.Rngs(0))
    twin = linen.SphereConv(6, (3, 2), similarity=getattr(linen, name))
    twins.assert_twins(layer, twin, draw(IMAGE), draw)


@pytest.mark.parametrize("use_running_average", [False, True])
@pytest.mark.parametrize("magnitude", [magnitudes.Ball(), magnitudes.Linear()])
def test_a_decoupled_convolution_is_the_twin(draw, magnitude, use_running_average):
    options = dict(
        magnitude=magnitude,
        weighted=True,
        similarity=ops.Sigmoid(),
        use_running_average=use_running_average,
        feature_group_count=2,
    )
    layer = nn.DecoupledConv(4, 6, (3, 2), rngs=nnx.Rngs(0), **options)
    if layer.radius is not None:
        layer.mean[...], layer.count[...] = jnp.float32(2.5), jnp.int32(3)
    twin = linen.DecoupledConv(6, (3, 2), **options)
    twins.assert_twins(layer, twin, draw(IMAGE), draw)


@pytest.mark.parametrize("momentum", [0.0, 0.9, 1.0])
def test_the_running_mean_is_that_of_the_twin_and_can_be_handed_back(draw, momentum):
    options = dict(magnitude=magnitudes.Ball(), momentum=momentum)
    layer = nn.DecoupledConv(4, 6, (3, 2), rngs=nnx.Rngs(0), **options)
    twin = linen.DecoupledConv(6, (3, 2), **options)
    variables = twins.variables_of(layer)
    for step in range(3):
        x = (step + 1) * draw(IMAGE)
        ours, updates = twin.apply(variables, x, mutable="batch_stats")
        twins.assert_same(ours, layer(x))
        twins.assert_same(
            updates["batch_stats"], twins.variables_of(layer)["batch_stats"]
        )
        variables = variables | updates
    assert variables["batch_stats"]["count"] == 3
    other = nn.DecoupledConv(4, 6, (3, 2), rngs=nnx.Rngs(1), **options)
    for values in variables.values():
        nnx.update(other, values)
    other.eval()
    evaluated = twin.clone(use_running_average=True)
    twins.assert_same(evaluated.apply(variables, x), other(x))


def test_the_running_mean_stands_still_in_init_and_when_it_may_not_move(draw):
    twin, x = linen.DecoupledConv(6, (3, 2)), draw(IMAGE)
    variables = twin.init(jax.random.key(0), x)
    nothing_yet = {"mean": jnp.zeros(()), "count": jnp.zeros((), jnp.int32)}
    twins.assert_same(variables["batch_stats"], nothing_yet)
    moved, _ = twin.apply(variables, x, mutable="batch_stats")
    twins.assert_same(twin.apply(variables, x), moved)


def test_starts_from_the_kernel_of_flax(draw):
    x, key = draw(IMAGE), jax.random.key(0)
    flaxes = flax.linen.Conv(6, (3, 2)).init(key, x)["params"]
    for layer in (linen.SphereConv, linen.DecoupledConv):
        params = layer(6, (3, 2)).init(key, x)["params"]
        np.testing.assert_array_equal(params["kernel"], flaxes["kernel"])


@pytest.mark.parametrize("layer", [linen.SphereConv, linen.DecoupledConv])
def test_a_product_class_of_the_user_comes_first_and_survives_a_clone(draw, layer):
    x, own = draw(IMAGE), dict(conv_general_dilated=halved)
    made = dict(conv_general_dilated_cls=lambda: halved, conv_general_dilated=None)
    variables = layer(6, (3, 2)).init(jax.random.key(0), x)
    plain = layer(6, (3, 2)).apply(variables, x)
    expected = layer(6, (3, 2), **own).apply(variables, x)
    assert not np.allclose(plain, expected)
    for options in (made, made | {"conv_general_dilated": lax.conv_general_dilated}):
        twin = layer(6, (3, 2), **options)
        for one in (twin, twin.clone(), twin.clone().copy(name="copy")):
            twins.assert_same(one.apply(variables, x), expected)


def test_works_under_the_transformations_of_linen(draw):
    class Stack(flax.linen.Module):
        remat: bool

        @flax.linen.compact
        def __call__(self, x):
            layer = linen.SphereConv
            if self.remat:
                layer = flax.linen.remat(layer)
            conv = layer(4, (3, 2), similarity=linen.LearnableSigmoid, name="conv")
            over = flax.linen.scan(
                lambda conv, x, _: (conv(x), None),
                variable_broadcast="params",
                split_rngs={"params": False},
                length=3,
            )
            return over(conv, x, None)[0]

    x = draw(IMAGE)
    variables = Stack(remat=False).init(jax.random.key(0), x)
    conv = linen.SphereConv(4, (3, 2), similarity=linen.LearnableSigmoid)
    expected = x
    for _ in range(3):
        expected = conv.apply({"params": variables["params"]["conv"]}, expected)
    for remat in (False, True):
        answer = Stack(remat=remat).apply(variables, x)
        np.testing.assert_allclose(answer, expected, rtol=1e-5, atol=1e-6)


FLAXES = {
    linen.SphereConv: flax.linen.Conv,
    linen.DecoupledConv: flax.linen.Conv,
    linen.SphereConvTranspose: flax.linen.ConvTranspose,
    linen.SphereDense: flax.linen.Dense,
}


@pytest.mark.parametrize("layer", FLAXES)
def test_has_every_argument_of_flax_in_its_place_and_says_so(layer):
    def arguments(layer):
        return [f for f in dataclasses.fields(layer) if f.init]

    ours = {field.name: field for field in arguments(layer)}
    for theirs in arguments(FLAXES[layer]):
        mine = ours.pop(theirs.name)
        assert mine.default == theirs.default
        if theirs.name not in ("name", "parent"):
            assert mine.kw_only == theirs.kw_only
        if layer is not linen.DecoupledConv:  # which refers to `SphereConv`
            assert theirs.name in layer.__doc__
    assert {"similarity", "eps"} <= set(ours)
    for name, field in ours.items():
        assert field.kw_only and f"        {name}: " in layer.__doc__


@pytest.mark.parametrize("layer", [linen.SphereConv, linen.DecoupledConv])
@pytest.mark.usefixtures("as_a_user")
def test_wrong_arguments_are_refused_with_a_way_out(draw, layer):
    make, x, key = functools.partial(layer, 6), draw(IMAGE), jax.random.key(0)
    who = f"`{layer.__name__}` needs "
    with pytest.raises(TypeError, match=who + "`kernel_size` as a tuple"):
        make(3)
    with pytest.raises(ValueError, match=who + "at least one entry"):
        make(())
    with pytest.raises(ValueError, match=who + "a finite `eps > 0`, got `eps=0"):
        make((3, 2), eps=0.0)
    with pytest.raises(TypeError, match=who + "a callable `similarity`.*linen.Learn"):
        make((3, 2), similarity="cosine")
    with pytest.raises(ValueError, match=who + ".*`in_features=4`, `out_features=6`"):
        make((3, 2), feature_group_count=4).init(key, x)
    for groups in (1, 2):
        twin = make((3, 2), feature_group_count=groups)
        variables = twin.init(key, x)
        with pytest.raises(ValueError, match=who + ".*and `in_features=4`"):
            twin.apply(variables, x[..., :2])


@pytest.mark.usefixtures("as_a_user")
def test_wrong_arguments_of_a_decoupled_convolution_are_refused():
    with pytest.raises(ValueError, match=r"`DecoupledConv` needs `0 <= momentum <= 1`"):
        linen.DecoupledConv(6, (3, 2), momentum=2.0)
    with pytest.raises(TypeError, match="a callable `magnitude`.*ops.magnitudes"):
        linen.DecoupledConv(6, (3, 2), magnitude="ball")
