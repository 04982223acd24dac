import jax
import jax.numpy as jnp
import numpy as np
import optax
import pytest
from flax import nnx

from hypersphere import data, losses
from hypersphere.training import _mesh
from hypersphere.training._config import MeshConfig
from hypersphere.training._program import by_name
from hypersphere.training._step import Task, _parts
from tests.training.small import after, arrays, config_of, set_up, train_images


def assert_same(tree, other):
    jax.tree.map(np.testing.assert_array_equal, arrays(tree), arrays(other))


def moved(before, after):
    """By how much each parameter has changed, by its path."""
    change = jax.tree.map(lambda a, b: b - a, arrays(before), arrays(after))
    leaves = jax.tree_util.tree_leaves_with_path(change)
    return {
        jax.tree_util.keystr(keys, simple=True, separator="."): leaf
        for keys, leaf in leaves
    }


def test_parts_take_turns_so_that_every_device_has_some_of_each():
    parts = _parts(jnp.arange(8), 4)
    assert parts.tolist() == [[0, 4], [1, 5], [2, 6], [3, 7]]


def test_a_batch_in_parts_is_the_batch_at_once_without_batch_normalization():
    same = {"model.batch_norm": False, "data.flip": True, "data.mixup": 0.4}
    whole, in_parts = (
        after(set_up(config_of({**same, "accumulate": count})), 3) for count in (1, 4)
    )
    # Float32 sums in another order differ by a few units in the last place, and
    # three steps carry that on.
    for one, other in zip(whole[1], in_parts[1], strict=True):
        assert one == pytest.approx(other, rel=1e-5)
    near = lambda a, b: np.testing.assert_allclose(a, b, rtol=1e-5, atol=1e-6)  # noqa: E731
    jax.tree.map(near, whole[0].params, in_parts[0].params)


def test_batch_normalization_sees_the_parts_one_after_the_other():
    setup = set_up(config_of(accumulate=2))
    images, _ = train_images(setup, 0)
    conv = setup.program.task.model(setup.program.init()).stages[0][0].conv
    answers = np.asarray(conv(data.normalize(jnp.asarray(images))))
    mean = 0.0
    for part in (answers[0::2], answers[1::2]):
        mean = 0.5 * mean + 0.5 * part.mean((0, 1, 2), np.float64)
    state, _ = after(setup, 1)
    found = state.stats["stages"][0][0]["norm"]["mean"]
    np.testing.assert_allclose(found, mean, rtol=1e-5)


@pytest.fixture(scope="module")
def averaged():
    """A setup with an average, the weights after each of 4 steps, and the state."""
    setup = set_up(config_of({"optim.ema": 0.2}))
    state = setup.program.init()
    weights = [arrays((state.params, state.stats))]
    for position in range(4):
        state, _ = after(setup, 1, state, position)
        weights.append(arrays((state.params, state.stats)))
    return setup, weights, state


def test_the_average_is_the_slow_one_over_the_weights_of_each_step(averaged):
    _, weights, state = averaged
    slow = [leaf.astype(np.float64) for leaf in jax.tree.leaves(weights[0])]
    for step, newest in enumerate(weights[1:]):
        kept = min(0.2, (1 + step) / (10 + step))  # 0.1, 0.18, 0.2, 0.2
        pairs = zip(slow, jax.tree.leaves(newest), strict=True)
        slow = [kept * old + (1 - kept) * new for old, new in pairs]
    found = jax.tree.leaves((state.average["params"], state.average["stats"]))
    for mean, expected in zip(found, slow, strict=True):
        np.testing.assert_allclose(mean, expected, rtol=1e-5, atol=1e-7)


def test_an_evaluation_judges_the_averaged_weights(averaged):
    setup, _, state = averaged
    batch = next(iter(setup.evaluators["test"].split))
    as_it_is = setup.program.judge(state, *batch)
    taken_over = state._replace(**state.average)
    assert_same(as_it_is, setup.program.judge(taken_over, *batch))
    raw = setup.program.judge(state._replace(average=()), *batch)
    assert float(as_it_is["loss"]) != float(raw["loss"])
    model = setup.program.task.model(state)
    np.testing.assert_array_equal(
        model.head.kernel, state.average["params"]["head"]["kernel"]
    )


def cross_entropy(scores, labels):
    """Loss of each example in nats, in float64."""
    scores = np.asarray(scores, np.float64)
    shifted = scores - scores.max(1, keepdims=True)
    log_sums = np.log(np.exp(shifted).sum(1))
    return log_sums - shifted[np.arange(len(labels)), labels]


def margin_loss(outputs, labels):
    cos, norm = outputs
    return np.asarray(
        losses.ga_softmax(cos, jnp.asarray(labels), feature_norm=norm), np.float64
    )


@pytest.mark.parametrize(
    ("kind", "loss", "slow"),
    [("mixup", "softmax", cross_entropy), ("cutmix", "ga_softmax", margin_loss)],
)
def test_the_loss_of_mixed_images_is_shared_by_both_labels(kind, loss, slow):
    config = config_of(
        {f"data.{kind}": 1.0, "loss.name": loss, "optim.orthogonality": 0.0}
    )
    setup = set_up(config)
    task, state = setup.program.task, setup.program.init()
    images, labels = train_images(setup, 0)
    key = jax.random.fold_in(jax.random.key(config.seed), 0)
    batch = jax.jit(task._prepared)(key, images, labels)
    share = float(batch.shares[0])
    assert 0 < share < 1 and np.all(batch.shares == share)
    np.testing.assert_array_equal(batch.others, np.roll(labels, 1))
    plain = (images.astype(np.float64) - 127.5) / 128
    partner = np.roll(plain, 1, axis=0)
    if kind == "mixup":
        mixed = share * plain + (1 - share) * partner
        np.testing.assert_allclose(batch.images, mixed, atol=1e-6)
    else:
        own = np.isclose(batch.images, plain, atol=1e-6)
        assert np.all(own | np.isclose(batch.images, partner, atol=1e-6))

    @jax.jit
    def answer(state, images):
        return task._merge(state.params, state.stats, train=True)(images)

    outputs = answer(state, batch.images)
    expected = np.mean(
        share * slow(outputs, labels) + (1 - share) * slow(outputs, np.roll(labels, 1))
    )
    _, found = after(setup, 1)
    assert found[0]["loss"] == pytest.approx(expected, rel=1e-5)


@pytest.fixture(scope="module")
def dropping():
    return set_up(config_of({"model.dropout": 0.5, "model.batch_norm": False}))


def test_dropout_depends_on_seed_and_position_alone(dropping):
    program = dropping.program
    batch = dropping.feed.take(0, 1)

    def loss(**fields):
        fields = {name: jnp.int32(value) for name, value in fields.items()}
        state = program.init()._replace(**fields)
        return float(by_name(program.train(state, *batch)[1])["loss"][0])

    first = loss()
    assert loss() == first
    assert loss(step=3) == first
    assert loss(position=3) != first


def test_dropout_is_for_training_alone(dropping):
    program = dropping.program
    state = program.init()
    images, labels = train_images(dropping, 0)
    pool = jnp.asarray(images), jnp.asarray(labels)
    sums = [program.judge(state, pool, None, jnp.ones(8)) for _ in range(2)]
    assert_same(*sums)
    plain = set_up(config_of({"model.batch_norm": False})).program
    without = plain.judge(plain.init(), pool, None, jnp.ones(8))
    assert_same(sums[0], without)
    _, metrics = after(dropping, 1)
    assert abs(metrics[0]["loss"] - float(without["loss"]) / 8) > 1e-3


def test_computing_layers_again_changes_no_number():
    kept, again = (
        after(set_up(config_of({"model.remat": remat})), 3) for remat in (False, True)
    )
    # XLA fuses the two programs differently, which moves the last places.
    for one, other in zip(kept[1], again[1], strict=True):
        assert one == pytest.approx(other, rel=1e-5)
    near = lambda a, b: np.testing.assert_allclose(a, b, rtol=1e-4, atol=1e-6)  # noqa: E731
    jax.tree.map(near, kept[0].params, again[0].params)
    jax.tree.map(near, kept[0].stats, again[0].stats)


def test_with_bfloat16_only_the_computing_is_in_bfloat16():
    setup = set_up(
        config_of({"model.dtype": "bfloat16", "optim.ema": 0.9, "optim.name": "adam"})
    )
    program = setup.program
    batch = setup.feed.take(0, 1)
    state, metrics = jax.eval_shape(program.train, program.template, *batch)
    floats = {
        leaf.dtype
        for leaf in jax.tree.leaves((program.template, state, metrics))
        if jnp.issubdtype(leaf.dtype, jnp.inexact)
    }
    assert floats == {np.dtype(np.float32)}
    test = next(iter(setup.evaluators["test"].split))
    sums = jax.eval_shape(program.judge, program.template, *test)
    assert {leaf.dtype for leaf in sums.values()} == {np.dtype(np.float32)}
    assert "bf16" in str(jax.make_jaxpr(program.train)(program.template, *batch))


def poisoned(setup):
    """A state after a step, whose next one is not finite."""
    state, _ = after(setup, 1)
    return state._replace(
        params={**state.params, "head": {"kernel": jnp.full((4, 3), 1e38)}}
    )


def test_a_step_that_is_not_finite_leaves_only_the_counters_changed():
    changes = {"guard.max_skipped": 2, "optim.ema": 0.5, "optim.name": "adam"}
    setup = set_up(config_of(changes))
    before = arrays(poisoned(setup))
    state, metrics = after(setup, 1, poisoned(setup), start=1)
    assert not np.isfinite(metrics[0]["grad_norm"])
    assert metrics[0]["skipped"] == 1
    counters = {"step": 2, "position": 2, "skipped": 1}
    assert {name: int(getattr(state, name)) for name in counters} == counters
    same = {name: getattr(before, name) for name in counters}
    assert_same(before, state._replace(**same))


def test_a_step_that_is_not_finite_counts_where_none_may_be_left_out():
    setup = set_up(config_of())
    before = arrays(poisoned(setup).params)
    state, metrics = after(setup, 1, poisoned(setup), start=1)
    assert not np.isfinite(metrics[0]["grad_norm"])
    assert moved(before, state.params)["stages.0.0.conv.kernel"].all()
    assert int(state.skipped) == 0 == metrics[0]["skipped"]


def test_a_finite_step_is_the_same_whether_or_not_some_may_be_left_out():
    guarded, free = (
        after(set_up(config_of({"guard.max_skipped": count})), 2) for count in (1, 0)
    )
    near = lambda a, b: np.testing.assert_allclose(a, b, rtol=1e-5, atol=1e-7)  # noqa: E731
    jax.tree.map(near, guarded[0].params, free[0].params)
    assert guarded[1][1]["skipped"] == 0


@pytest.fixture(scope="module")
def plain():
    """A setup of plain gradient descent, its start, and its state after a step."""
    setup = set_up(config_of({"optim.orthogonality": 0.0}))
    start = arrays(setup.program.init().params)
    state, metrics = after(setup, 1)
    return setup, start, arrays(state.params), metrics[0]


def test_the_metrics_are_those_of_the_update(plain):
    _, start, end, metrics = plain
    length = lambda tree: np.sqrt(sum((x**2).sum() for x in jax.tree.leaves(tree)))  # noqa: E731
    change = jax.tree.map(np.subtract, end, start)
    assert metrics["learning_rate"] == pytest.approx(0.1)
    assert metrics["grad_norm"] == pytest.approx(length(change) / 0.1, rel=1e-4)
    assert metrics["param_norm"] == pytest.approx(length(end), rel=1e-5)


def test_frozen_parameters_stay_bit_for_bit_and_the_others_move():
    setup = set_up(config_of({"optim.frozen": ("stages.*", "feature_layer.*")}))
    start = arrays(setup.program.init().params)
    state, _ = after(setup, 2)
    change = moved(start, state.params)
    assert {name.split(".")[0] for name, x in change.items() if x.any()} == {"head"}


def test_a_rate_of_ten_moves_its_parameters_ten_times_as_far(plain):
    _, start, end, _ = plain
    changes = {"optim.rates": ("head.*: 10",), "optim.orthogonality": 0.0}
    state, _ = after(set_up(config_of(changes)), 1)
    usual, other = moved(start, end), moved(start, state.params)
    for name, change in usual.items():
        times = 10 if name.startswith("head") else 1
        # The differences of parameters of about 1 are known to 1e-7.
        np.testing.assert_allclose(other[name], times * change, rtol=1e-3, atol=2e-6)


def test_a_clipped_step_is_as_long_as_allowed_and_its_metric_is_not(plain):
    _, start, _, metrics = plain
    changes = {"optim.clip_norm": 0.01, "optim.orthogonality": 0.0}
    state, found = after(set_up(config_of(changes)), 1)
    change = moved(start, state.params).values()
    length = np.sqrt(sum((x.astype(np.float64) ** 2).sum() for x in change))
    assert length == pytest.approx(0.1 * 0.01, rel=1e-3)
    assert found[0]["grad_norm"] == pytest.approx(metrics["grad_norm"], rel=1e-5)
    assert metrics["grad_norm"] > 0.01


def test_a_model_with_other_variables_is_refused_by_their_paths():
    class Counting(nnx.Module):
        def __init__(self):
            self.calls = nnx.Cache(jnp.zeros(()))
            self.kernel = nnx.Param(jnp.zeros(2))

    mesh = _mesh.make_mesh(MeshConfig(data=1), jax.devices()[:1])
    with pytest.raises(TypeError, match=r"nnx\.BatchStat.*\('calls',\)"):
        Task(
            make_model=Counting,
            loss=lambda outputs, labels, step: outputs,
            optimizer=optax.identity(),
            schedule=optax.constant_schedule(0.1),
            config=config_of(),
            mesh=mesh,
        )
