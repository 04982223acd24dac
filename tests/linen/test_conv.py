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
from tests import helpers
from tests.linen import twins

magnitudes = ops.magnitudes
MASK = (np.random.default_rng(3).random((3, 2, 4, 6)) > 0.3).astype(np.float32)
MASK = jax.device_put(MASK)


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


WITH_GRADIENTS = ["as it comes", "circular", "groups", "mask", "bfloat16"]


def filled(kind, **options):
    return helpers.filled(lambda: kind(4, 6, (3, 2), **options, rngs=nnx.Rngs(0)))


FAST = ("one axis", "pairs, strides", "groups", "bfloat16")


@pytest.mark.parametrize("case", helpers.sampled(CASES, *FAST))
def test_is_the_twin_of_the_nnx_layer(draw, case):
    shape, window, options = CASES[case]
    layer = helpers.filled(
        lambda: nn.SphereConv(4, 6, window, rngs=nnx.Rngs(0), **options)
    )
    twin = linen.SphereConv(6, window, **options)
    twins.assert_twins(layer, twin, draw(shape), gradients=case in WITH_GRADIENTS)


@pytest.mark.parametrize("name", ["LearnableSigmoid", "SharpenedCosine"])
def test_a_learned_similarity_is_that_of_the_twin(draw, name):
    layer = filled(nn.SphereConv, similarity=getattr(nn, name))
    twin = linen.SphereConv(6, (3, 2), similarity=getattr(linen, name))
    twins.assert_twins(layer, twin, draw(IMAGE), gradients=True)


@pytest.mark.parametrize(
    ("magnitude", "use_running_average"),
    helpers.sampled_rows(
        {
            f"{magnitude}, {average}": (magnitude, average)
            for magnitude in (magnitudes.Ball(), magnitudes.Linear())
            for average in (False, True)
        },
        f"{magnitudes.Ball()}, False",
        f"{magnitudes.Linear()}, True",
    ),
)
def test_a_decoupled_convolution_is_the_twin(draw, magnitude, use_running_average):
    options = dict(
        magnitude=magnitude,
        weighted=True,
        similarity=ops.Sigmoid(),
        use_running_average=use_running_average,
        feature_group_count=2,
    )
    layer = filled(nn.DecoupledConv, **options)
    if layer.radius is not None:
        layer.mean[...] = jax.device_put(np.float32(2.5))
        layer.count[...] = jax.device_put(np.int32(3))
    twin = linen.DecoupledConv(6, (3, 2), **options)
    twins.assert_twins(layer, twin, draw(IMAGE), gradients=True)


@pytest.mark.parametrize("momentum", [0.0, 0.9, 1.0])
def test_the_running_mean_is_that_of_the_twin_and_can_be_handed_back(draw, momentum):
    options = dict(magnitude=magnitudes.Ball(), momentum=momentum)
    layer = filled(nn.DecoupledConv, **options)
    twin = linen.DecoupledConv(6, (3, 2), **options)
    evaluated = twin.clone(use_running_average=True)

    @jax.jit
    def step(variables, x):
        """Of the twins, in training and then, with what it has left, in evaluation."""
        ours, updates = twin.apply(variables, x, mutable="batch_stats")
        variables_then = variables | updates
        mine = ours, variables_then, evaluated.apply(variables_then, x)
        trained = twins.rebuilt(layer, variables)
        theirs = trained(x)
        held = twins.variables_of(trained)
        other = twins.rebuilt(layer, variables_then)
        other.eval()
        return mine, (theirs, held, other(x))

    variables = twins.variables_of(layer)
    for size in (1, 2, 3):
        ours, theirs = step(variables, size * np.asarray(draw(IMAGE)))
        twins.assert_same(ours, theirs)
        variables = ours[1]
    assert int(variables["batch_stats"]["count"]) == 3


def test_the_running_mean_stands_still_in_init_and_when_it_may_not_move(draw):
    twin = linen.DecoupledConv(6, (3, 2))

    @jax.jit
    def start(x):
        variables = twin.init(jax.random.key(0), x)
        moved, _ = twin.apply(variables, x, mutable="batch_stats")
        return variables["batch_stats"], moved, twin.apply(variables, x)

    stats, moved, still = start(draw(IMAGE))
    twins.assert_same(stats, {"mean": np.float32(0), "count": np.int32(0)})
    twins.assert_same(still, moved)


def test_starts_from_the_kernel_of_flax(draw):
    layers = flax.linen.Conv, linen.SphereConv, linen.DecoupledConv
    start = lambda layer, x: layer(6, (3, 2)).init(jax.random.key(0), x)["params"]  # noqa: E731
    starts = jax.jit(lambda x: [start(layer, x)["kernel"] for layer in layers])
    flaxes, *ours = starts(draw(IMAGE))
    for kernel in ours:
        np.testing.assert_array_equal(kernel, flaxes)


@pytest.mark.parametrize("layer", [linen.SphereConv, linen.DecoupledConv])
def test_a_product_class_of_the_user_comes_first_and_survives_a_clone(draw, layer):
    variables = twins.variables_of(filled(getattr(nn, layer.__name__)))
    made = dict(conv_general_dilated_cls=lambda: halved, conv_general_dilated=None)
    both = made | {"conv_general_dilated": lax.conv_general_dilated}
    of_options = lambda **options: layer(6, (3, 2), **options)  # noqa: E731
    layers = [of_options(), of_options(conv_general_dilated=halved)]
    for twin in (of_options(**made), of_options(**both)):
        layers += [twin, twin.clone(), twin.clone().copy(name="copy")]
    answers = jax.jit(lambda *arguments: [twin.apply(*arguments) for twin in layers])
    plain, expected, *others = answers(variables, draw(IMAGE))
    assert not np.allclose(plain, expected)
    for answer in others:
        twins.assert_same(answer, expected)


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

    make = lambda: nn.SphereConv(  # noqa: E731
        4, 4, (3, 2), similarity=nn.LearnableSigmoid, rngs=nnx.Rngs(0)
    )
    params = twins.variables_of(helpers.filled(make))["params"]
    x, variables = draw(IMAGE), {"params": {"conv": params}}
    conv = linen.SphereConv(4, (3, 2), similarity=linen.LearnableSigmoid)
    made = twins.init_shapes(Stack(remat=False), x)
    assert twins.shapes(made) == twins.shapes(variables)

    @jax.jit
    def answers(variables, x):
        expected = x
        for _ in range(3):
            expected = conv.apply({"params": variables["params"]["conv"]}, expected)
        return expected, *(Stack(r).apply(variables, x) for r in (False, True))

    expected, *others = answers(variables, x)
    for answer in others:
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
    make, x = functools.partial(layer, 6), draw(IMAGE)
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
        twins.init_shapes(make((3, 2), feature_group_count=4), x)
    for groups in (1, 2):
        twin = make((3, 2), feature_group_count=groups)
        variables = twins.init_shapes(twin, x)
        with pytest.raises(ValueError, match=who + ".*and `in_features=4`"):
            jax.eval_shape(twin.apply, variables, np.asarray(x)[..., :2])


@pytest.mark.usefixtures("as_a_user")
def test_wrong_arguments_of_a_decoupled_convolution_are_refused():
    with pytest.raises(ValueError, match=r"`DecoupledConv` needs `0 <= momentum <= 1`"):
        linen.DecoupledConv(6, (3, 2), momentum=2.0)
    with pytest.raises(TypeError, match="a callable `magnitude`.*ops.magnitudes"):
        linen.DecoupledConv(6, (3, 2), magnitude="ball")


@pytest.mark.parametrize("kind", [linen.SphereConv, linen.DecoupledConv])
def test_a_layer_hands_on_that_its_input_is_stored(kind):
    x = jax.ShapeDtypeStruct((2, 4, 4, 8), jnp.bfloat16)

    def products(**told):
        layer = kind(4, (1, 1), dtype=jnp.bfloat16, **told)
        variables = jax.eval_shape(layer.init, jax.random.key(0), x)
        return str(jax.make_jaxpr(layer.apply)(variables, x)).count("platform_index")

    assert products(is_input_stored=True) < products()
