"""What every public layer, loss, regularizer, similarity and magnitude keeps to.

One row for each; a row for another mode has that behind the name. Most answers have the
same shape, so that layers that are called without being compiled share operations.
"""

import functools
from collections.abc import Callable
from typing import Any, NamedTuple

import chex
import jax
import jax.numpy as jnp
import numpy as np
import optax
import pytest
from flax import linen as flax_linen, nnx

from hypersphere import linen, losses, nn, ops, optim, regularizers
from hypersphere.ops import magnitudes
from tests import helpers, reference
from tests.public import public


class Row(NamedTuple):
    make: Callable[[nnx.Rngs], Callable]  # a layer, or a function of `inputs`
    inputs: Callable[[int, float], tuple[Any, ...]]  # of a seed and a size
    sizes: tuple[float, ...] = (1.0, 0.0, 1e18)
    per_example: bool = True  # whether the first axis is that of the examples


def images(seed, size):
    return (size * reference.normal(3, 5, 4, 4, seed=seed),)


def narrow_images(seed, size):
    return (size * reference.normal(3, 5, 2, 4, seed=seed),)


def cosines(seed, size):
    return (np.tanh(size * reference.normal(3, 5, 4, 6, seed=seed)),)


def norms(seed, size):
    return (np.abs(size * reference.normal(3, 5, 4, 1, seed=seed)),)


def cosines_and_norms(seed, size):
    return (*cosines(seed, size), *norms(seed + 1, size))


def queries_keys_values(seed, size):
    return tuple(size * reference.normal(3, 3, 4, 2, 5, seed=seed))


def answers(seed, size):
    """Cosines and labels, and features of the given length."""
    labels = np.random.default_rng(seed).integers(0, 4, 3)
    lengths = np.abs(size * reference.normal(3, seed=seed + 1))
    return np.tanh(reference.normal(3, 4, seed=seed)), labels, lengths


def scores(seed, size):
    return size * reference.normal(3, 4, seed=seed), answers(seed, size)[1]


def steps(seed, size):
    return (np.abs(1e3 * size * reference.normal(3, seed=seed)),)


def on_norms(magnitude):
    return lambda rngs: lambda norm: magnitude(norm, radius=2.0) * jnp.ones_like(norm)


def on_answers(loss):
    return lambda rngs: (
        lambda cos, labels, lengths: loss(cos, labels, feature_norm=lengths)
    )


def on_cosines(loss, **options):
    return lambda rngs: lambda cos, labels, lengths: loss(cos, labels, **options)


def with_state(loss, state):
    """The loss alone of one that has a state."""
    return lambda cos, labels, **given: loss(cos, labels, state, **given)[0]


def projected(params):
    projection = optim.keep_unit_norm()
    steps = jnp.zeros_like(params)
    return projection.update(steps, projection.init(params), params)[0]


def stepped(optimizer):
    def step(params):
        gradient = jnp.cos(params)
        return params + optimizer.update(gradient, optimizer.init(params), params)[0]

    return lambda rngs: step


def max_abs_pool(pool):
    return lambda rngs: functools.partial(pool, window_shape=(2, 2), strides=(2, 1))


ROWS = {
    "nn.SphereConv": Row(
        lambda rngs: nn.SphereConv(
            4, 6, (3, 2), similarity=nn.LearnableSigmoid, rngs=rngs
        ),
        images,
    ),
    "nn.SphereConvTranspose": Row(
        lambda rngs: nn.SphereConvTranspose(
            4, 6, (3, 2), strides=(1, 2), similarity=nn.SharpenedCosine, rngs=rngs
        ),
        narrow_images,
    ),
    "nn.DecoupledConv": Row(
        lambda rngs: nn.DecoupledConv(
            4, 6, (3, 2), weighted=True, use_running_average=True, rngs=rngs
        ),
        images,
    ),
    "nn.DecoupledConv in training": Row(
        lambda rngs: nn.DecoupledConv(4, 6, (3, 2), rngs=rngs),
        images,
        per_example=False,  # the mean length is that of the batch
    ),
    "nn.SphereLinear": Row(
        lambda rngs: nn.SphereLinear(4, 6, similarity=ops.Linear(), rngs=rngs),
        images,
    ),
    "nn.SphereLinearGeneral": Row(
        lambda rngs: nn.SphereLinearGeneral(4, (2, 3), rngs=rngs), images
    ),
    "nn.SphereEinsum": Row(
        lambda rngs: nn.SphereEinsum("...d,hdk->...hk", (2, 4, 3), rngs=rngs), images
    ),
    "nn.Scaled": Row(
        lambda rngs: nn.Scaled(6, scale=3.0, learn_scale=True, rngs=rngs),
        cosines,
        sizes=(1.0, 0.0),
    ),
    "nn.SphereNorm": Row(
        lambda rngs: nn.SphereNorm(
            nnx.Conv(4, 6, (3, 2), use_bias=False, rngs=rngs), similarity=ops.Sigmoid()
        ),
        images,
    ),
    "nn.AngularHead": Row(lambda rngs: nn.AngularHead(4, 6, rngs=rngs), images),
    "nn.LearnableSigmoid": Row(
        lambda rngs: nn.LearnableSigmoid(6, rngs=rngs), cosines, sizes=(1.0, 0.0)
    ),
    "nn.SharpenedCosine": Row(
        lambda rngs: nn.SharpenedCosine(6, rngs=rngs), cosines_and_norms
    ),
    "nn.CosineAttention": Row(
        lambda rngs: nn.CosineAttention(2, rngs=rngs), queries_keys_values
    ),
    "nn.max_abs_pool": Row(max_abs_pool(nn.max_abs_pool), images),
    "linen.SphereConv": Row(
        lambda rngs: linen.SphereConv(6, (3, 2), similarity=linen.LearnableSigmoid),
        images,
    ),
    "linen.SphereConvTranspose": Row(
        lambda rngs: linen.SphereConvTranspose(
            6, (3, 2), strides=(1, 2), similarity=linen.SharpenedCosine
        ),
        narrow_images,
    ),
    "linen.DecoupledConv": Row(
        lambda rngs: linen.DecoupledConv(
            6, (3, 2), weighted=True, use_running_average=True
        ),
        images,
    ),
    "linen.DecoupledConv in training": Row(
        lambda rngs: linen.DecoupledConv(6, (3, 2)), images, per_example=False
    ),
    "linen.SphereDense": Row(
        lambda rngs: linen.SphereDense(6, similarity=ops.Linear()), images
    ),
    "linen.SphereDenseGeneral": Row(
        lambda rngs: linen.SphereDenseGeneral((2, 3)), images
    ),
    "linen.Scaled": Row(
        lambda rngs: linen.Scaled(6, scale=3.0, learn_scale=True),
        cosines,
        sizes=(1.0, 0.0),
    ),
    "linen.SphereNorm": Row(
        lambda rngs: linen.SphereNorm(
            flax_linen.Conv(6, (3, 2), use_bias=False), similarity=ops.Sigmoid()
        ),
        images,
    ),
    "linen.AngularHead": Row(lambda rngs: linen.AngularHead(6), images),
    "linen.LearnableSigmoid": Row(
        lambda rngs: linen.LearnableSigmoid(6), cosines, sizes=(1.0, 0.0)
    ),
    "linen.SharpenedCosine": Row(
        lambda rngs: linen.SharpenedCosine(6), cosines_and_norms
    ),
    "linen.max_abs_pool": Row(max_abs_pool(linen.max_abs_pool), images),
    "losses.softmax": Row(
        lambda rngs: functools.partial(losses.softmax, label_smoothing=0.1, floor=1e-4),
        scores,
    ),
    "losses.spherical_softmax": Row(lambda rngs: losses.spherical_softmax, scores),
    "losses.taylor_softmax": Row(lambda rngs: losses.taylor_softmax, scores),
    "losses.z_loss": Row(lambda rngs: losses.z_loss, scores),
    "losses.w_softmax": Row(on_answers(losses.w_softmax), answers),
    "losses.ga_softmax": Row(on_answers(losses.ga_softmax), answers),
    "losses.a_softmax": Row(on_answers(losses.a_softmax), answers),
    "losses.normface": Row(on_cosines(losses.normface), answers),
    "losses.cosface": Row(on_cosines(losses.cosface), answers),
    "losses.arcface": Row(on_cosines(losses.arcface), answers),
    "losses.combined_margin": Row(
        on_cosines(losses.combined_margin, times=1.5, label_smoothing=0.1), answers
    ),
    "losses.sphereface": Row(on_cosines(losses.sphereface), answers),
    "losses.sphereface_r": Row(on_cosines(losses.sphereface_r, version="v2"), answers),
    "losses.sphereface2": Row(on_cosines(losses.sphereface2, bias=1.0), answers),
    "losses.adaface": Row(
        on_answers(with_state(losses.adaface, losses.AdaFaceState())),
        answers,
        per_example=False,
    ),
    "losses.magface": Row(on_answers(losses.magface), answers),
    "losses.curricularface": Row(
        on_cosines(with_state(losses.curricularface, losses.CurricularFaceState())),
        answers,
        per_example=False,
    ),
    "losses.adacos": Row(
        on_cosines(with_state(losses.adacos, losses.adacos_start(4))),
        answers,
        per_example=False,
    ),
    "losses.madacos": Row(on_cosines(losses.madacos), answers, per_example=False),
    "losses.weighted_mean": Row(
        lambda rngs: (
            lambda cos, labels, lengths: losses.weighted_mean(
                lengths, jnp.ones(len(lengths), lengths.dtype)
            )
        ),
        answers,
        per_example=False,
    ),
    "losses.without_similar": Row(on_cosines(losses.without_similar), answers),
    "losses.raise_hardest": Row(on_cosines(losses.raise_hardest, count=2), answers),
    "losses.nearest_subcentre": Row(
        lambda rngs: (
            lambda cos, labels, lengths: losses.nearest_subcentre(
                cos[..., None] * jnp.array([0.5, 1.0], cos.dtype)[None, None]
            )
        ),
        answers,
    ),
    "ops.additive_margin": Row(
        lambda rngs: functools.partial(ops.additive_margin, angular=0.5), cosines
    ),
    "losses.annealed_margin_weight": Row(
        lambda rngs: losses.annealed_margin_weight(), steps
    ),
    "losses.margin_ramp": Row(lambda rngs: losses.margin_ramp(1, 1_000_000), steps),
    "regularizers.orthogonality": Row(
        lambda rngs: regularizers.orthogonality,
        images,
        sizes=(1.0, 0.0, 1e8),  # its fourth power is in range
        per_example=False,
    ),
    **{
        f"regularizers.{name}": Row(
            lambda rngs, penalty=penalty: penalty,
            images,
            sizes=(1.0, 0.0, 1e8),
            per_example=False,
        )
        for name, penalty in {
            "hyperspherical_energy": functools.partial(
                regularizers.hyperspherical_energy, angular=True, half_space=True
            ),
            "separation": regularizers.separation,
            "nearest_cosine": regularizers.nearest_cosine,
            "length_variance": regularizers.length_variance,
            "gram_determinant": regularizers.gram_determinant,
            "polarization": lambda w: regularizers.polarization(w, w[..., 0].ravel()),
            "covering": lambda w: regularizers.covering(w, w[..., 0].ravel()),
            "koleo": lambda x: regularizers.koleo(x.reshape(-1, x.shape[-1])),
            "uniformity": lambda x: regularizers.uniformity(x.reshape(-1, x.shape[-1])),
            "alignment": lambda x: regularizers.alignment(
                *[y.reshape(-1, x.shape[-1]) for y in (x, x[::-1])]
            ),
        }.items()
    },
    "optim.keep_unit_norm": Row(
        lambda rngs: projected,
        images,
        per_example=False,  # a filter is spread over all axes but the last
    ),
    **{
        f"optim.{name}": Row(
            stepped(optimizer),
            images,
            per_example=False,  # as above
        )
        for name, optimizer in {
            "riemannian_sgd": optim.riemannian_sgd(0.1, momentum=0.9, exact=True),
            "riemannian_adam": optim.riemannian_adam(0.1),
            "hyperball": optim.hyperball(optax.scale_by_adam(), 0.1),
            "spherical": optim.spherical(optax.identity(), 0.1),
            "adamp": optim.adamp(0.1, weight_decay=0.1),
            "sgdp": optim.sgdp(0.1, momentum=0.9),
            "keep_norm": optim.keep_norm(),
            "tangent_projection": optim.tangent_projection(),
            "scale_by_filter_rms": optim.scale_by_filter_rms(),
        }.items()
    },
    "optim.effective_learning_rate": Row(
        lambda rngs: lambda params: optim.effective_learning_rate(params, params + 1),
        images,
        per_example=False,
    ),
    "ops.Cosine": Row(lambda rngs: ops.Cosine(), cosines, sizes=(1.0, 0.0)),
    "ops.Linear": Row(lambda rngs: ops.Linear(), cosines, sizes=(1.0, 0.0)),
    "ops.Sigmoid": Row(lambda rngs: ops.Sigmoid(), cosines, sizes=(1.0, 0.0)),
    "ops.SquaredCosine": Row(
        lambda rngs: ops.SquaredCosine(), cosines, sizes=(1.0, 0.0)
    ),
    "ops.magnitudes.Sphere": Row(
        on_norms(magnitudes.Sphere()),
        norms,
        per_example=False,  # the same for every example
    ),
    "ops.magnitudes.Linear": Row(on_norms(magnitudes.Linear()), norms),
    "ops.magnitudes.Ball": Row(on_norms(magnitudes.Ball()), norms),
    "ops.magnitudes.Tanh": Row(on_norms(magnitudes.Tanh()), norms),
    "ops.magnitudes.Log": Row(on_norms(magnitudes.Log()), norms),
    "ops.magnitudes.Segment": Row(on_norms(magnitudes.Segment()), norms),
    "ops.magnitudes.Mix": Row(on_norms(magnitudes.Mix()), norms),
}
# Functions of whole models: what they make of a layer has a row as that layer.
NOT_LAYERS = {
    "losses.AdaCosState",
    "losses.AdaFaceState",
    "losses.CurricularFaceState",
    "losses.adacos_start",
    "losses.spherical_logits",
    "losses.sphereface2_bias",
    "losses.subcentre_outliers",
    "optim.Columns",
    "regularizers.random_projections",
    "optim.in_float32",
    "optim.put_columns",
    "optim.manifold_muon",  # a loop of unknown length, which has no gradient
    "optim.with_lengths_of",
    "regularizers.penalty",
    "optim.take_columns",
    "nn.directions",
    "nn.spherize",
    "nn.plain_layers",
    "nn.spherical_layers",
    "nn.unspherize",
    "nn.with_similarity",
    "linen.spherize",
}
DRAW_NOTHING = {
    *("nn.LearnableSigmoid", "linen.LearnableSigmoid", "nn.CosineAttention"),
    *("nn.Scaled", "linen.Scaled"),
}

# Plain functions of arrays, of which every use is compiled.
FUNCTIONS = {name for name in ROWS if name.startswith(("losses", "regul", "optim"))}

every_row = pytest.mark.parametrize("name", ROWS)
per_example = [name for name, row in ROWS.items() if row.per_example]


def public_name(row):
    return row.partition(" ")[0]


def is_seldom(name):
    """Of many that are made of the same few lines some are enough among fast tests."""
    fast = "keep_unit_norm", "riemannian_sgd", "adamp", "hyperspherical_energy", "koleo"
    fast += "adaface", "curricularface", "combined_margin", "ga_softmax", "sphereface2"
    is_one_of_many = name.startswith(("optim.", "regularizers.", "losses."))
    return name.startswith("linen.") or (is_one_of_many and not name.endswith(fast))


every_layer = pytest.mark.parametrize(
    "name",
    [
        pytest.param(name, marks=pytest.mark.slow if is_seldom(name) else [])
        for name in ROWS
        if name.startswith(("nn.", "linen."))
        and isinstance(public()[public_name(name)], type)
    ],
)


def without_a_row():
    def is_formula(name, value):
        """Neither a similarity nor a magnitude: its own tests are in tests/ops."""
        if name.startswith("ops.magnitudes."):
            return not isinstance(value, type)
        is_class = isinstance(value, type) and value is not ops.Similarity
        is_similarity = is_class and issubclass(value, ops.Similarity)
        return name.startswith("ops.") and not is_similarity

    needed = {name for name, value in public().items() if not is_formula(name, value)}
    return needed - NOT_LAYERS - set(map(public_name, ROWS))


def test_every_public_name_has_a_row():
    assert without_a_row() == set()
    assert set(map(public_name, ROWS)) | NOT_LAYERS <= set(public())


def test_a_public_name_without_a_row_is_noticed(monkeypatch):
    monkeypatch.setattr(losses, "new_loss", lambda cos: cos, raising=False)
    monkeypatch.setattr(ops, "Quadratic", type("Quadratic", (ops.Cosine,), {}), False)
    monkeypatch.setattr(linen, "NewLayer", flax_linen.Dense, raising=False)
    assert without_a_row() == {"losses.new_loss", "ops.Quadratic", "linen.NewLayer"}


def split(name, seed=0):
    """The layer, its parameters, and a pure function of them and the inputs.

    A Linen module is here what calls it with its variables. Running means stay where
    they start.
    """
    made = ROWS[name].make(nnx.Rngs(seed))
    if isinstance(made, flax_linen.Module):
        inputs = map(jnp.asarray, ROWS[name].inputs(1, 1.0))
        rest = made.init(jax.random.key(seed), *inputs)
        params = rest.pop("params")

        def apply(params, *inputs):
            return made.apply({**rest, "params": params}, *inputs)

        return functools.partial(apply, params), params, apply
    if not isinstance(made, nnx.Module):
        return made, {}, lambda params, *inputs: made(*inputs)
    graphdef, params, rest = nnx.split(made, nnx.Param, ...)

    def apply(params, *inputs):
        fresh = jax.tree.map(jnp.asarray, rest)  # of the trace that may write to it
        return nnx.merge(graphdef, params, fresh)(*inputs)

    return made, params, apply


@functools.cache
def built(name):
    """The layer, its parameters, and a compiled function of them and the inputs.

    It gives the answers and, of a weighted sum of them, the gradients to parameters and
    inputs: one program per row is all that the tests of numbers need.
    """
    made, params, apply = split(name)

    @jax.jit
    def respond(params, *inputs):
        floats = {i: a for i, a in enumerate(inputs) if a.dtype.kind == "f"}

        def total(params, floats):
            out = apply(params, *(floats.get(i, a) for i, a in enumerate(inputs)))
            weigh = lambda a: jnp.sum(a * reference.normal(*a.shape, seed=5))  # noqa: E731
            return sum(jax.tree.leaves(jax.tree.map(weigh, out))), out

        slopes, out = jax.grad(total, (0, 1), has_aux=True)(params, floats)
        return out, slopes

    return made, params, respond


@pytest.mark.slow  # all of them together
@pytest.mark.parametrize("name", [name for name in ROWS if name not in FUNCTIONS])
def test_compiled_equals_eager_and_neither_changes_the_parameters(name):
    made, params, respond = built(name)
    before = jax.tree.map(np.array, params)
    inputs = jax.device_put(ROWS[name].inputs(1, 1.0))
    jax.tree.map(
        lambda one, other: helpers.assert_close(one, np.float64(other)),
        respond(params, *inputs)[0],
        made(*inputs),
    )
    if isinstance(made, nnx.Module):
        chex.assert_trees_all_equal(nnx.state(made, nnx.Param), before)


@pytest.mark.slow  # all of them together
@pytest.mark.parametrize("name", per_example)
def test_an_example_does_not_know_the_rest_of_the_batch(name):
    _, params, respond = built(name)
    inputs, others = ROWS[name].inputs(1, 1.0), ROWS[name].inputs(2, 1.0)
    mixed = [
        np.concatenate([a[:1], b[1:]]) for a, b in zip(inputs, others, strict=True)
    ]
    before, after = (
        map(np.asarray, jax.tree.leaves(respond(params, *arrays)[0]))
        for arrays in (inputs, mixed)
    )
    for one, other in zip(before, after, strict=True):
        np.testing.assert_array_equal(one[0], other[0])
        assert not np.array_equal(one[1:], other[1:])


@every_layer
def test_a_seed_decides_the_parameters(name):
    states = [split(name, seed)[1] for seed in (0, 0, 1)]
    chex.assert_trees_all_equal(states[0], states[1])
    leaves = [jax.tree.leaves_with_path(state) for state in states]
    differs = {
        jax.tree_util.keystr(path): not np.array_equal(one, other)
        for (path, one), (_, other) in zip(leaves[0], leaves[2], strict=True)
    }
    assert any(differs.values()) == (name not in DRAW_NOTHING)
    assert all(d for path, d in differs.items() if "'kernel'" in path)


@pytest.mark.parametrize(
    "name",
    [
        pytest.param(name, marks=pytest.mark.slow if is_seldom(name) else [])
        for name in ROWS
    ],
)
def test_a_second_call_is_not_traced_again(name):
    _, params, apply = split(name)
    _, again, _ = split(name, seed=1)
    chex.clear_trace_counter()
    traced_once = jax.jit(chex.assert_max_traces(apply, n=1))
    jax.eval_shape(traced_once, params, *ROWS[name].inputs(1, 1.0))
    jax.eval_shape(traced_once, again, *ROWS[name].inputs(2, 1.0))


@pytest.mark.parametrize(
    "name",
    [  # Linen's layers compute what those of NNX do, which the twins' tests show
        pytest.param(name, marks=pytest.mark.slow if is_seldom(name) else [])
        for name in ROWS
    ],
)
def test_values_and_gradients_are_finite_at_every_size(name):
    _, params, respond = built(name)
    for size in ROWS[name].sizes:
        inputs = ROWS[name].inputs(1, size)
        chex.assert_tree_all_finite(respond(params, *inputs))
