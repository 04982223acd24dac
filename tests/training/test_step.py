import chex
import jax
import jax.numpy as jnp
import numpy as np
import pytest

from hypersphere import losses, nn
from hypersphere.training.compute._step import _parts
from tests.helpers import respond
from tests.training.small import (
    after,
    arrays,
    config_of,
    fresh,
    set_up,
    train_images,
)


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


def ask(setup, question, **fields):
    """A question's answer about a step's state and metrics, from a state with `fields`.

    XLA leaves out what it does not ask for, the gradient above all.
    """
    task = setup.program.task
    step = jax.jit(lambda *arguments: question(*task.update(*arguments)))
    state = fresh(setup)._replace(**fields)
    return step(state, *train_images(setup, 0))


def test_parts_take_turns_so_that_every_device_has_some_of_each():
    parts = _parts(jax.device_put(np.arange(8)), 4)
    assert parts.tolist() == [[0, 4], [1, 5], [2, 6], [3, 7]]


@pytest.mark.slow
def test_a_batch_in_parts_is_the_batch_at_once_without_batch_normalization(monkeypatch):
    # On a CPU XLA would compile the four parts one by one.
    monkeypatch.setattr(jax, "default_backend", lambda: "gpu")
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


@pytest.mark.slow
def test_batch_normalization_sees_the_parts_one_after_the_other():
    setup = set_up(config_of(accumulate=2))
    images, _ = train_images(setup, 0)
    conv = setup.program.task.model(fresh(setup)).stages[0][0].conv
    normalized = (images.astype(np.float32) - 127.5) / 128
    answers = np.asarray(respond(conv, normalized))
    mean = 0.0
    for part in (answers[0::2], answers[1::2]):
        mean = 0.5 * mean + 0.5 * part.mean((0, 1, 2), np.float64)
    stats = ask(setup, lambda state, _: state.stats)
    found = stats["stages"][0][0]["norm"]["mean"]
    np.testing.assert_allclose(found, mean, rtol=1e-5)


@pytest.fixture(scope="module")
def plain():
    """A setup, its states before each of 4 steps, and the metrics of these."""
    setup = set_up(config_of())
    return setup, *followed(setup, 3)


def followed(setup, steps):
    state = fresh(setup)
    states, metrics = [arrays(state)], []
    for position in range(steps):
        state, found = after(setup, 1, state, position)
        states.append(arrays(state))
        metrics += found
    return states, metrics


@pytest.fixture(scope="module")
def averaged():
    """A setup with an average that may leave out steps; its states and metrics."""
    setup = set_up(config_of({"optim.ema": 0.2, "guard.max_skipped": 2}))
    return setup, *followed(setup, 4)


def test_the_average_is_the_slow_one_over_the_weights_of_each_step(averaged):
    _, states, _ = averaged
    weights = [(state.params, state.stats) for state in states]
    average = states[-1].average
    slow = [leaf.astype(np.float64) for leaf in jax.tree.leaves(weights[0])]
    for step, newest in enumerate(weights[1:]):
        kept = min(0.2, (1 + step) / (10 + step))  # 0.1, 0.18, 0.2, 0.2
        pairs = zip(slow, jax.tree.leaves(newest), strict=True)
        slow = [kept * old + (1 - kept) * new for old, new in pairs]
    found = jax.tree.leaves((average["params"], average["stats"]))
    for mean, expected in zip(found, slow, strict=True):
        np.testing.assert_allclose(mean, expected, rtol=1e-5, atol=1e-7)


def test_an_evaluation_judges_the_averaged_weights(averaged):
    setup, (*_, state), _ = averaged
    batch = next(iter(setup.evaluators["test"].split))
    as_it_is = setup.program.judge(state, *batch)
    taken_over = state._replace(**state.average, average=())
    found = setup.program.judge(taken_over, *batch)
    chex.assert_trees_all_close(as_it_is, found, rtol=1e-5)
    raw = setup.program.judge(state._replace(average=()), *batch)
    assert float(as_it_is["loss"]) != float(raw["loss"])
    model = setup.program.task.model(jax.device_put(state))
    np.testing.assert_array_equal(
        model.head.kernel, state.average["params"]["head"]["kernel"]
    )


def test_averaged_filters_are_judged_as_long_as_the_newest(averaged):
    setup, (*_, state), _ = averaged
    params, _ = jax.jit(setup.program.task.judged)(state)
    pairs = zip(
        *map(jax.tree.leaves, (arrays(params), state.average["params"])), strict=True
    )
    paths = jax.tree_util.tree_leaves_with_path(state.params)
    directions = nn.directions(setup.program.task.model(jax.device_put(state)))
    moved = set()
    for (keys, newest), (found, mean) in zip(paths, pairs, strict=True):
        if (found == mean).all():
            continue
        moved.add(jax.tree_util.keystr(keys, simple=True, separator="."))
        rows = [x.reshape(-1, x.shape[-1]).T for x in (found, newest, mean)]
        there, length, here = (np.linalg.norm(x, axis=1) for x in rows)
        np.testing.assert_allclose(there, length, rtol=1e-6)
        np.testing.assert_allclose(
            np.sum(rows[0] * rows[2], axis=1), there * here, rtol=1e-6
        )
    assert moved == set(directions)


def cross_entropy(scores, labels):
    """Loss of each example in nats, in float64."""
    scores = np.asarray(scores, np.float64)
    shifted = scores - scores.max(1, keepdims=True)
    log_sums = np.log(np.exp(shifted).sum(1))
    return log_sums - shifted[np.arange(len(labels)), labels]


@jax.jit
def margin_loss(outputs, labels):
    cos, norm = outputs
    return losses.ga_softmax(cos, labels, feature_norm=norm)


@pytest.mark.slow
@pytest.mark.parametrize(
    ("kind", "loss", "slow"),
    [
        ("cutmix", "ga_softmax", margin_loss),
        ("mixup", "softmax", cross_entropy),
    ],
)
def test_the_loss_of_mixed_images_is_shared_by_both_labels(kind, loss, slow):
    config = config_of(
        {f"data.{kind}": 1.0, "loss.name": loss, "optim.orthogonality": 0.0}
    )
    setup = set_up(config)
    images, labels = train_images(setup, 0)

    @jax.jit
    def answer(state, images, labels):
        task = setup.program.task
        key = jax.random.fold_in(jax.random.key(config.seed), 0)
        batch = task._prepared(key, images, labels)
        model = task._merge(state.params, state.stats, key)
        _, metrics = task.update(state, images, labels)
        return batch, model(batch.images), metrics["loss"]

    batch, outputs, found = answer(fresh(setup), images, labels)
    batch = arrays(batch)
    share = float(batch.shares[0])
    assert 0 < share < 1 and np.all(batch.shares == share)
    np.testing.assert_array_equal(batch.others, np.roll(labels, 1))
    plain = (images.astype(np.float64) - 127.5) / 128
    partner = np.roll(plain, 1, axis=0)
    if kind == "mixup":
        mixed = share * plain + (1 - share) * partner
        np.testing.assert_allclose(batch.images, mixed, atol=1e-6)
    else:
        is_own = np.isclose(batch.images, plain, atol=1e-6)
        assert np.all(is_own | np.isclose(batch.images, partner, atol=1e-6))

    own, other = (np.asarray(slow(outputs, x)) for x in (labels, np.roll(labels, 1)))
    expected = np.mean(share * own + (1 - share) * other)
    assert found == pytest.approx(expected, rel=1e-5)


@pytest.fixture(scope="module")
def dropping():
    """A setup with dropout, and (step, position) -> the loss of that step."""
    setup = set_up(config_of({"model.dropout": 0.5, "model.batch_norm": False}))
    task, batch = setup.program.task, jax.device_put(train_images(setup, 0))
    loss = jax.jit(lambda state: task.update(state, *batch)[1]["loss"])

    def loss_at(**fields):
        fields = {name: np.int32(value) for name, value in fields.items()}
        return float(loss(fresh(setup)._replace(**fields)))

    return setup, loss_at


@pytest.mark.slow
def test_dropout_depends_on_seed_and_position_alone(dropping):
    _, loss_at = dropping
    first = loss_at()
    assert loss_at() == first
    assert loss_at(step=3) == first
    assert loss_at(position=3) != first


@pytest.mark.slow
def test_dropout_is_for_training_alone(dropping):
    setup, loss_at = dropping
    program, state = setup.program, fresh(setup)
    pool, weights = jax.device_put(train_images(setup, 0)), np.ones(8, np.float32)
    sums = [program.judge(state, pool, None, weights) for _ in range(2)]
    assert_same(*sums)
    plain = set_up(config_of({"model.batch_norm": False})).program
    without = plain.judge(state, pool, None, weights)
    assert_same(sums[0], without)
    assert abs(loss_at() - float(without["loss"]) / 8) > 1e-3


@pytest.mark.slow
def test_computing_layers_again_changes_no_number(plain):
    _, (*_, kept), metrics = plain
    again, found = after(set_up(config_of({"model.remat": True})), 3)
    # XLA fuses the two programs differently, which moves the last places.
    for one, other in zip(metrics, found, strict=True):
        assert one == pytest.approx(other, rel=1e-5)
    near = lambda a, b: np.testing.assert_allclose(a, b, rtol=1e-4, atol=1e-6)  # noqa: E731
    jax.tree.map(near, kept.params, again.params)
    jax.tree.map(near, kept.stats, again.stats)


def test_with_bfloat16_only_the_computing_is_in_bfloat16():
    setup = set_up(
        config_of({"model.dtype": "bfloat16", "optim.ema": 0.9, "optim.name": "adam"})
    )
    program = setup.program
    batch = setup.feed.take(0, 1)
    jaxpr, (state, metrics) = jax.make_jaxpr(program.train, return_shape=True)(
        program.template, *batch
    )
    floats = {
        leaf.dtype
        for leaf in jax.tree.leaves((program.template, state, metrics))
        if jnp.issubdtype(leaf.dtype, jnp.inexact)
    }
    assert floats == {np.dtype(np.float32)}
    test = next(iter(setup.evaluators["test"].split))
    sums = jax.eval_shape(program.judge, program.template, *test)
    assert {leaf.dtype for leaf in sums.values()} == {np.dtype(np.float32)}
    assert "bf16" in str(jaxpr)


def poisoned(setup):
    """A state after a step, whose next one is not finite."""
    state, _ = after(setup, 1)
    place = state.params["head"]["kernel"].sharding
    huge = {"kernel": jax.device_put(np.full((4, 3), 1e38, np.float32), place)}
    return state._replace(params={**state.params, "head": huge})


def test_a_step_that_is_not_finite_leaves_only_the_counters_changed(averaged):
    setup, *_ = averaged
    before = arrays(poisoned(setup))
    state, metrics = after(setup, 1, poisoned(setup), start=1)
    assert not np.isfinite(metrics[0]["grad_norm"])
    assert metrics[0]["skipped"] == 1
    counters = {"step": 2, "position": 2, "skipped": 1}
    assert {name: int(getattr(state, name)) for name in counters} == counters
    same = {name: getattr(before, name) for name in counters}
    assert_same(before, state._replace(**same))


@pytest.mark.slow
def test_a_step_that_is_not_finite_counts_where_none_may_be_left_out(plain):
    setup, *_ = plain
    before = arrays(poisoned(setup).params)
    state, metrics = after(setup, 1, poisoned(setup), start=1)
    assert not np.isfinite(metrics[0]["grad_norm"])
    assert moved(before, state.params)["stages.0.0.conv.kernel"].all()
    assert int(state.skipped) == 0 == metrics[0]["skipped"]


def test_a_finite_step_is_the_same_whether_or_not_some_may_be_left_out(plain, averaged):
    near = lambda a, b: np.testing.assert_allclose(a, b, rtol=1e-5, atol=1e-7)  # noqa: E731
    jax.tree.map(near, averaged[1][2].params, plain[1][2].params)
    assert averaged[2][1]["skipped"] == 0


def test_the_metrics_are_those_of_the_update(plain):
    _, (start, end, *_), (metrics, *_) = plain
    length = lambda tree: np.sqrt(sum((x**2).sum() for x in jax.tree.leaves(tree)))  # noqa: E731
    change = jax.tree.map(np.subtract, end.params, start.params)
    assert metrics["learning_rate"] == pytest.approx(0.1)
    assert metrics["grad_norm"] == pytest.approx(length(change) / 0.1, rel=1e-4)
    assert metrics["param_norm"] == pytest.approx(length(end.params), rel=1e-5)


@pytest.fixture(scope="module")
def partly_frozen():
    """The states of a setup whose stages are frozen and whose head has another rate."""
    changes = {
        "optim.frozen": ("stages.*",),
        "optim.freeze_averages": False,
        "optim.rates": ("head.*: 10",),
    }
    return followed(set_up(config_of(changes)), 2)[0]


def test_frozen_parameters_stay_bit_for_bit_and_the_others_move(partly_frozen):
    start, _, end = partly_frozen
    change = moved(start.params, end.params)
    moving = {name.split(".")[0] for name, x in change.items() if x.any()}
    assert moving == {"head", "feature_layer"}


def test_a_rate_of_ten_moves_its_parameters_ten_times_as_far(plain, partly_frozen):
    usual, other = (
        moved(states[0].params, states[1].params)
        for states in (plain[1], partly_frozen)
    )
    for name, times in {"head.kernel": 10, "feature_layer.conv.kernel": 1}.items():
        # The differences of parameters of about 1 are known to 1e-7.
        expected = times * usual[name]
        np.testing.assert_allclose(other[name], expected, rtol=1e-3, atol=2e-6)


def test_a_clipped_step_is_as_long_as_allowed_and_its_metric_is_not(plain):
    _, (start, *_), (metrics, *_) = plain
    state, found = after(set_up(config_of({"optim.clip_norm": 0.01})), 1)
    change = moved(start.params, state.params).values()
    length = np.sqrt(sum((x.astype(np.float64) ** 2).sum() for x in change))
    assert length == pytest.approx(0.1 * 0.01, rel=1e-3)
    assert found[0]["grad_norm"] == pytest.approx(metrics["grad_norm"], rel=1e-5)
    assert metrics["grad_norm"] > 0.01
