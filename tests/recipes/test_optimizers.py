import chex
import jax
import jax.numpy as jnp
import numpy as np
import optax
import pytest
from flax import nnx

from hypersphere import nn, recipes
from hypersphere.recipes import _optimizer
from tests import helpers
from tests.helpers import filled
from tests.training.small import section

STEPS = 4
RATE = 0.1
PLAIN = {"plain.kernel", "head.kernel"}
SPHERICAL = {"layers.0.kernel", "layers.1.layer.kernel"}


class Net(nnx.Module):
    """A parameter of every kind; never called."""

    def __init__(self, rngs):
        inner = nnx.Conv(3, 4, (2, 2), use_bias=False, rngs=rngs)
        self.layers = nnx.List(
            [nn.SphereConv(2, 3, (2, 2), rngs=rngs), nn.SphereNorm(inner)]
        )
        self.plain = nnx.Conv(4, 2, (1, 3), rngs=rngs)
        self.norm = nnx.BatchNorm(2, rngs=rngs)
        self.head = nnx.Linear(2, 5, rngs=rngs)
        self.scale = nnx.Param(jnp.ones(()))


@pytest.fixture(scope="module")
def model():
    return filled(lambda: Net(nnx.Rngs(0)))


@pytest.fixture(scope="module")
def params(model):
    """Random, so that biases are no zeros."""
    generator = np.random.default_rng(20171108)
    tree = nnx.to_pure_dict(nnx.state(model, nnx.Param))
    return jax.tree.map(
        lambda leaf: np.asarray(generator.standard_normal(leaf.shape), leaf.dtype),
        tree,
    )


@pytest.fixture(scope="module")
def gradients(params):
    generator = np.random.default_rng(20171109)
    return [
        jax.tree.map(
            lambda leaf: np.asarray(generator.standard_normal(leaf.shape), leaf.dtype),
            params,
        )
        for _ in range(STEPS)
    ]


def config_of(name="sgd", **fields):
    return section("optim", name=name, learning_rate=RATE, **fields)


def plain_sgd(**fields):
    """Whose step is the gradient times the rate, so that all else shows."""
    return config_of(momentum=0.0, **fields)


def trained(optimizer, params, gradients):
    """The parameters after some steps, by path, and the last state."""
    ends, state = followed(optimizer, params, gradients)
    return ends[-1], state


def followed(optimizer, params, gradients):
    """The parameters after each step, by path, and the last state."""

    def step(carry, gradient):
        params, state = carry
        updates, state = optimizer.update(gradient, state, params)
        params = optax.apply_updates(params, updates)
        return (params, state), params

    @jax.jit
    def run(params, gradients):
        start = params, optimizer.init(params)
        (_, state), ends = jax.lax.scan(step, start, gradients)
        return ends, state

    ends, state = run(params, jax.tree.map(lambda *x: np.stack(x), *gradients))
    ends = jax.device_get(ends)
    return [
        by_path(jax.tree.map(lambda leaf, i=i: leaf[i], ends))
        for i in range(len(gradients))
    ], state


def by_path(tree):
    return {
        ".".join(str(key.key) for key in keys): np.asarray(leaf)
        for keys, leaf in jax.tree_util.tree_leaves_with_path(tree)
    }


def mask_of(paths, params):
    return jax.tree_util.tree_map_with_path(
        lambda keys, _: ".".join(str(key.key) for key in keys) in paths, params
    )


def assert_equal(ours, truth):
    assert ours.keys() == truth.keys()
    for path in truth:
        np.testing.assert_array_equal(ours[path], truth[path], err_msg=path)


@pytest.mark.parametrize(
    ("name", "decay"),
    [("adam", 0.0), ("adamw", 0.3), ("sgd", 0.3), ("lion", 0.3)]
    + [
        pytest.param(*x, marks=pytest.mark.slow)
        for x in (
            ("adam", 0.3),
            ("sgd", 0.0),
            ("lion", 0.0),
            ("lamb", 0.0),
            ("lamb", 0.3),
        )
    ],
)
def test_optimizers_are_those_of_optax(name, decay, model, params, gradients):
    mask = mask_of(PLAIN, params)
    schedule = optax.cosine_decay_schedule(RATE, 10)
    decayed = {"weight_decay": decay, "mask": mask}
    sgd = optax.chain(
        optax.trace(0.8, nesterov=True),
        optax.add_decayed_weights(**decayed),
        optax.scale_by_learning_rate(schedule),
    )
    truth = {
        "adam": optax.adamw(schedule, **decayed) if decay else optax.adam(schedule),
        "adamw": optax.adamw(schedule, **decayed),
        "sgd": sgd if decay else optax.sgd(schedule, momentum=0.8, nesterov=True),
        "lion": optax.lion(schedule, **decayed),
        "lamb": optax.lamb(schedule, **decayed),
    }[name]
    config = config_of(
        name, momentum=0.8, nesterov=True, schedule="cosine", weight_decay=decay
    )
    ours, _ = trained(config.make(10, model), params, gradients)
    expected, _ = trained(truth, params, gradients)
    if name == "lamb":  # an older Optax adds its decay of zero, and rounds
        chex.assert_trees_all_close(ours, expected, rtol=1e-5, atol=1e-6)
    else:
        assert_equal(ours, expected)


def muon_reference(kernel, gradients):
    """Muon with Nesterov's momentum on one kernel as a matrix, in float64."""
    shape = kernel.shape
    kernel = np.asarray(kernel, np.float64).reshape(-1, shape[-1])
    fan_in, filters = kernel.shape
    mean = np.zeros_like(kernel)
    for step, gradient in enumerate(gradients, start=1):
        gradient = np.asarray(gradient, np.float64).reshape(fan_in, filters)
        mean = 0.95 * mean + 0.05 * gradient
        x = 0.95 * mean / (1 - 0.95 ** (step + 1)) + 0.05 * gradient / (1 - 0.95**step)
        x = x / np.linalg.norm(x)
        for _ in range(5):
            square = x @ x.T
            x = 3.4445 * x - 4.7750 * square @ x + 2.0315 * square @ square @ x
        kernel = kernel - RATE * 0.2 * np.sqrt(max(fan_in, filters)) * x
    return kernel.reshape(shape)


@pytest.fixture(scope="module")
def by_muon(model, params, gradients):
    """The parameters after each step of Muon, and the last state."""
    return followed(config_of("muon").make(10, model), params, gradients)


def test_muon_takes_kernels_as_matrices_and_leaves_the_rest_to_adam(
    by_muon, params, gradients
):
    (*_, ours), state = by_muon
    rest, _ = trained(optax.adam(RATE, nesterov=True), params, gradients)
    flat = [by_path(gradient) for gradient in gradients]
    start = by_path(params)
    matrices = SPHERICAL | {"plain.kernel"}
    for path in matrices:
        truth = muon_reference(start[path], [gradient[path] for gradient in flat])
        np.testing.assert_allclose(ours[path], truth, rtol=2e-5, atol=2e-5)
    for path in start.keys() - matrices:
        np.testing.assert_allclose(ours[path], rest[path], rtol=1e-5, atol=1e-6)
    assert "head.kernel" in start.keys() - matrices
    others = 4  # three counts and Muon's coefficients
    size = len(matrices) + 2 * (len(start) - len(matrices)) + others
    assert len(jax.tree.leaves(state)) == size


def test_muon_steps_are_of_the_size_of_adam_steps(by_muon, params):
    (ours, *_), _ = by_muon
    start = by_path(params)
    for path in SPHERICAL:
        size = np.sqrt(np.mean(np.square(ours[path] - start[path]))) / RATE
        # Five iterations leave singular values between 0.7 and 1.2, not at one.
        assert 0.2 * 0.65 < size < 0.2 * 1.25


def test_the_state_is_as_small_as_that_of_optax(model, params):
    count = len(jax.tree.leaves(params))

    def leaves(config):
        optimizer = config.make(10, model)
        return len(jax.tree.leaves(jax.eval_shape(optimizer.init, params)))

    assert leaves(config_of("adam")) == 2 * count + 2
    assert leaves(config_of("sgd")) == count + 1
    assert leaves(plain_sgd()) == 1
    assert leaves(config_of("lion")) == count + 2
    with_more = config_of("adam", weight_decay=0.1, clip_norm=1.0, unit_norm_every=2)
    assert leaves(with_more) == 2 * count + 3
    two_rates = config_of("adam", rates=("head.*: 2", "norm.*: 3"))
    assert leaves(two_rates) == 2 * count + 1 + 3
    frozen = config_of("adam", frozen=("layers.*", "norm.*"))
    left = sum(not p.startswith(("layers.", "norm.")) for p in by_path(params))
    assert leaves(frozen) == 2 * left + 2


@pytest.mark.parametrize("name", helpers.sampled(["adam", "lamb", "muon"], "muon"))
def test_frozen_parameters_stay_as_they_are_and_the_rest_does_not(
    name, model, params, gradients
):
    config = config_of(
        name,
        frozen=("layers.0.*", "*.bias"),
        weight_decay=0.1,
        decay=("*",),
        rates=("head.*: 10", "plain.*: 0.5 cosine"),
        clip_norm=1.0,
        unit_norm_every=2,
    )
    broken = jax.tree.map(np.copy, gradients)
    for gradient in broken:
        gradient["layers"][0]["kernel"] *= np.nan
    ours, _ = trained(config.make(10, model), params, broken)
    for path, start in by_path(params).items():
        if path.startswith("layers.0.") or path.endswith(".bias"):
            assert ours[path].tobytes() == start.tobytes()
        else:
            assert np.all(np.isfinite(ours[path]))
            assert np.all(ours[path] != start)


def test_frozen_parameters_do_not_count_for_the_length_of_the_gradient(
    model, params, gradients
):
    config = plain_sgd(frozen=("layers.*",), clip_norm=0.5)
    ours, _ = trained(config.make(10, model), params, gradients[:1])
    start = by_path(params)
    steps = [(ours[path] - start[path]) / RATE for path in start]
    length = np.sqrt(sum(np.sum(np.square(step)) for step in steps))
    np.testing.assert_allclose(length, 0.5, rtol=1e-4)


@pytest.mark.parametrize(
    ("patterns", "decaying"),
    [
        ((), PLAIN),
        (("*.bias",), {"layers.0.bias", "layers.1.bias", "plain.bias", "norm.bias",
                       "head.bias"}),
        (("head.*", "layers.0.kernel"), {"head.kernel", "head.bias",
                                         "layers.0.kernel"}),
    ],
)  # fmt: skip
def test_what_decays_is_plain_kernels_or_what_the_patterns_say(
    patterns, decaying, model, params
):
    config = plain_sgd(weight_decay=0.5, decay=patterns)
    nothing = jax.tree.map(np.zeros_like, params)
    ours, _ = trained(config.make(10, model), params, [nothing])
    for path, start in by_path(params).items():
        share = 1 - RATE * 0.5 if path in decaying else 1.0
        np.testing.assert_allclose(ours[path], share * start, rtol=1e-6, err_msg=path)


@pytest.mark.parametrize("name", helpers.sampled(["adam", "muon"], "adam"))
def test_rates_multiply_the_steps_of_what_the_first_pattern_fits(
    name, model, params, gradients
):
    config = config_of(
        name,
        rates=("head.bias: 10", "head.*: 0.5", "*.1.*: 2"),
        weight_decay=0.1,
        decay=("*",),
    )
    one_rate = config_of(name, weight_decay=0.1, decay=("*",))
    ours, _ = trained(config.make(10, model), params, gradients[:1])
    same, _ = trained(one_rate.make(10, model), params, gradients[:1])
    for path, start in by_path(params).items():
        share = {"head.bias": 10, "head.kernel": 0.5}.get(
            path, 2 if path.startswith("layers.1.") else 1
        )
        np.testing.assert_allclose(
            ours[path] - start, share * (same[path] - start), rtol=1e-4, atol=1e-6
        )


def test_a_rate_may_have_a_schedule_of_its_own(model, params):
    config = plain_sgd(schedule="cosine", rates=("norm.*: 3 constant", "head.*: 0.5"))
    ones = [jax.tree.map(np.ones_like, params)] * STEPS
    ours, _ = trained(config.make(STEPS, model), params, ones)
    cosine = sum((1 + np.cos(np.pi * i / STEPS)) / 2 for i in range(STEPS))
    for path, start in by_path(params).items():
        kind = path.split(".")[0]
        total = {"norm": 3 * STEPS, "head": 0.5 * cosine}.get(kind, cosine)
        np.testing.assert_allclose(
            start - ours[path], RATE * total, rtol=1e-4, atol=1e-5
        )


def test_spherical_filters_alone_are_brought_back_to_unit_length(
    model, params, gradients
):
    with_norm = plain_sgd(unit_norm_every=STEPS).make(10, model)
    without = plain_sgd().make(10, model)
    (*_, before, after), _ = followed(with_norm, params, gradients)
    (*_, same, free), _ = followed(without, params, gradients)
    assert_equal(before, same)
    for path in after:
        if path in SPHERICAL:
            squares = np.square(after[path]).reshape(-1, after[path].shape[-1])
            lengths = np.sqrt(squares.sum(axis=0))
            np.testing.assert_allclose(lengths, 1.0, rtol=1e-5)
        else:
            np.testing.assert_array_equal(after[path], free[path])


@pytest.mark.slow
def test_an_abstract_model_serves_as_well(params, gradients, model):
    config = config_of("muon", weight_decay=0.1, frozen=("norm.*",), unit_norm_every=1)
    abstract = nnx.eval_shape(lambda: Net(nnx.Rngs(0)))
    ours, _ = trained(config.make(10, abstract), params, gradients[:2])
    truth, _ = trained(config.make(10, model), params, gradients[:2])
    assert_equal(ours, truth)


def test_a_rate_may_have_a_schedule_with_durations_of_its_own():
    config = section("optim", rates=("*: 1 trapezoid",), final=0.5)
    _, changed = _optimizer._parse_rate(config.rates[0], config, 100)
    assert changed.schedule == recipes.Trapezoid(cooldown=20, final=0.5)
    assert config.schedule == recipes.Constant()


@pytest.mark.parametrize(
    ("fields", "message"),
    [
        ({"name": "adan"}, "Did you mean 'adam'"),
        ({"name": "adamw"}, "AdamW without decay is 'adam'"),
        ({"decay": ("*.bias",)}, "`config.optim.decay` needs a positive"),
        ({"frozen": ("haed.*",)}, r"`config.optim.frozen`.*nearest.*head\.kernel"),
        ({"decay": ("x",), "weight_decay": 0.1}, "`config.optim.decay` needs patterns"),
        ({"rates": ("stem.*: 2",)}, "`config.optim.rates` needs patterns"),
        ({"rates": ("head.*: 2",), "frozen": ("head.*",)}, "needs patterns that fit"),
        ({"rates": ("*: 2", "head.*: 3")}, "'head.*: 3', which comes too late"),
        ({"rates": ("head.*",)}, "needs entries `PATTERN: SHARE`"),
        ({"rates": ("head.*: 0",)}, "belongs into `config.optim.frozen`"),
        ({"rates": ("head.*: 1e",)}, "needs entries `PATTERN: SHARE`"),
        ({"rates": ("head.*: -1",)}, "with a positive share"),
        ({"rates": ("head.*: 2 cosin",)}, "Did you mean 'cosine'"),
        ({"rates": ("head.*: 2 piecewise",)}, "`config.optim.schedule.boundaries`"),
        ({"frozen": ("*",)}, "must leave a parameter to train"),
        (
            {"frozen": ("plain.*", "head.*"), "weight_decay": 0.1},
            "has no parameter to act on",
        ),
        (
            {"frozen": ("layers.*",), "unit_norm_every": 1},
            "needs spherical filters that are trained",
        ),
    ],
)
def test_settings_without_a_meaning_are_refused(fields, message, model):
    with pytest.raises(ValueError, match=message):
        config = section("optim", **fields)
        config.check()
        config.make(10, model)
