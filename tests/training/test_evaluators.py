import json

import chex
import jax
import numpy as np
import pytest

from hypersphere import training, viz
from hypersphere.training.checkpoints._checkpoint import Checkpoints
from hypersphere.training.compute._moments import mean_of
from hypersphere.training.machine._stop import StopSign
from hypersphere.training.run import _judge, _loop
from hypersphere.training.run._progress import Progress
from hypersphere.training.settings._check import check
from tests.data import test_folder
from tests.helpers import respond
from tests.training.small import SOURCE, arrays, config_of, fresh, set_up

OTHER = SOURCE.replace("examples=48", "examples=5")
SPLITS = ("train every 2", f"{OTHER} every 3")


def rows(folder):
    lines = map(json.loads, (folder / "metrics.jsonl").read_text().splitlines())
    return {(line["split"], line["step"]): line for line in lines}


@pytest.fixture(scope="module")
def finished(tmp_path_factory):
    folder = tmp_path_factory.mktemp("evaluated")
    config = config_of({"evaluators": SPLITS, "optim.ema": 0.5, "log_every": 6})
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(_loop, "finish", lambda config, folder, run, *_: {"run": run})
        return training.train(config, folder)["run"], folder


@pytest.mark.slow
def test_every_evaluation_is_at_its_steps_and_the_last_one(finished):
    found = {key for key in rows(finished[1]) if "_raw" not in key[0]}
    evaluations = {
        *(("test", step) for step in (3, 6)),
        *((OTHER, step) for step in (3, 6)),
        *(("train_eval", step) for step in (2, 4, 6)),
    }
    assert found == evaluations | {("train", step) for step in (2, 3, 4, 6)}


@pytest.mark.slow
def test_the_weights_as_they_are_are_judged_beside_the_average(finished):
    found = rows(finished[1])
    for step in (3, 6):
        raw, averaged = found[("test_raw", step)], found[("test", step)]
        assert raw["loss"] != averaged["loss"]


@pytest.mark.slow
def test_a_loaded_model_has_the_averaged_weights(finished):
    run, folder = finished
    model, _ = training.load(folder)
    average = run.state.average["params"]
    assert not np.array_equal(
        average["head"]["kernel"], run.state.params["head"]["kernel"]
    )
    np.testing.assert_array_equal(model.head.kernel[...], average["head"]["kernel"])
    kernel, mean, newest = (
        np.asarray(x).reshape(-1, x.shape[-1])
        for x in (
            model.stages[0][0].conv.kernel[...],
            average["stages"][0][0]["conv"]["kernel"],
            run.state.params["stages"][0][0]["conv"]["kernel"],
        )
    )
    longer = np.linalg.norm(newest, axis=0) / np.linalg.norm(mean, axis=0)
    np.testing.assert_allclose(kernel, mean * longer, rtol=1e-5)  # a filter's direction


def test_a_set_without_one_class_is_judged_by_the_names_of_its_classes(tmp_path):
    for part, classes in (("all", "abc"), ("some", "bc")):
        for name in classes:
            for index in range(4):
                file = tmp_path / part / "train" / name / f"{index}.png"
                pixels = np.full((8, 8), 80 * "abc".index(name) + index, np.uint8)
                test_folder.write(file, pixels)
                test_folder.write(tmp_path / part / "test" / name / "0.png", pixels)
    other = f"folder:{tmp_path}/some"
    source = f"folder:{tmp_path}/all"
    config = config_of({"data.source": source, "evaluators": (f"{other} every 3",)})
    found = set_up(config).evaluators
    labels = {k: np.asarray(e.split.pool[1]).tolist() for k, e in found.items()}
    assert labels == {"test": [0, 1, 2], other: [1, 2]}


def test_a_set_of_more_classes_than_trained_on_is_refused():
    other = SOURCE.replace("classes=3", "classes=4")
    config = config_of(evaluators=(f"{other} every 3",))
    with pytest.raises(ValueError, match=r"1 classes that are not trained on.*'3'"):
        set_up(config)


def test_a_set_smaller_than_a_batch_can_be_evaluated_on():
    config = config_of(evaluators=(f"{OTHER} every 3",))
    split = set_up(config).evaluators[OTHER].split
    assert sum(float(np.sum(batch.weights)) for batch in split) == split.size > 0


def test_validation_images_say_which_state_is_the_best(monkeypatch):
    config = config_of({"data.validation_fraction": 0.25}, patience=1)
    setup = set_up(config)
    accuracies = {12: 0.25, setup.feed.images.test: 0.75}
    assert (setup.feed.images.train, setup.feed.images.validation) == (36, 12)

    def evaluate(self, state, split, *_):
        return {"loss": 1.0, "accuracy": accuracies[split.size]}

    monkeypatch.setattr(_judge.Judge, "evaluate", evaluate)
    judge = _judge.Judge(setup.evaluators, setup.program, StopSign(), patience=1)
    progress, told = Progress(0.0), []
    tell = lambda name, values: told.append(name)  # noqa: E731
    for step in (3, 6):
        accuracies[12] /= step
        state = fresh(setup)
        judge.evaluate_due({"on test", "on validation"}, state, step, progress, tell)
    assert told == ["test", "validation"] * 2
    assert (progress.best, progress.since_best) == (0.25 / 3, 1)
    assert "The validation accuracy has not risen" in judge.out_of_patience(progress)


def test_validation_images_that_are_not_there_are_missed():
    config = config_of(evaluators=("validation@batch every 3",))
    with pytest.raises(ValueError, match=r"Hold some back: `config\.data\.valid"):
        set_up(config)


def scripted(monkeypatch, accuracies):
    """Runs whose evaluations have these accuracies, one after the other."""
    script = iter(accuracies)

    def evaluate(self, state, split, *_):
        return {"loss": 1.0, "accuracy": next(script) if state.average else 1.0}

    monkeypatch.setattr(_judge.Judge, "evaluate", evaluate)
    monkeypatch.setattr(_loop, "finish", lambda c, f, run, *_: {"steps": run.step})


@pytest.mark.slow
def test_patience_ends_a_run_early_and_says_so(monkeypatch, tmp_path, capsys):
    scripted(monkeypatch, [0.2, 0.5, 0.5, 0.4, 0.9])
    config = config_of({"optim.ema": 0.5}, patience=2, eval_every=1)
    assert training.train(config, tmp_path) == {"steps": 4}
    said = " ".join(capsys.readouterr().out.split())
    assert "not risen above 0.5000 for 2 evaluations: training ends here" in said
    assert Checkpoints(tmp_path, read_only=True).steps()[-1] == 4


@pytest.mark.slow
def test_the_result_tells_the_step_that_was_reached(monkeypatch, tmp_path):
    never_better = lambda *_, **__: {"loss": 1.0, "accuracy": 0.5}  # noqa: E731
    monkeypatch.setattr(_judge.Judge, "evaluate", never_better)
    monkeypatch.setattr(viz, "draw", lambda folder: [])
    result = training.train(
        config_of({"optim.ema": 0.5}, patience=1, eval_every=1), tmp_path
    )
    assert result["steps"] == 2
    assert json.loads((tmp_path / "result.json").read_text())["steps"] == 2


@pytest.mark.slow
def test_the_best_checkpoint_is_kept_beside_the_newest(monkeypatch, tmp_path):
    scripted(monkeypatch, [0.2, 0.9, 0.5, 0.4, 0.3, 0.6])
    config = config_of({"optim.ema": 0.5}, eval_every=1, checkpoint_every=1, keep=1)
    training.train(config, tmp_path)
    assert Checkpoints(tmp_path, read_only=True).steps() == [2, 6]
    state = Checkpoints(tmp_path, read_only=True).restore(
        set_up(config).program.template
    )
    assert int(jax.device_get(state.state.step)) == 6


STATISTICS = ("test@batch of 5 every 3", "test@debiased every 3", "test of 5 every 3")


@pytest.fixture(scope="module")
def in_three_ways():
    """A state as after four steps from averages of zero, and its evaluations."""
    config = config_of({"evaluators": STATISTICS, "model.averages": "zero"})
    config.eval_batch_size, config.model.momentum = 10, 0.9
    setup = set_up(config)
    draw = np.random.default_rng(20171108)
    state = arrays(fresh(setup))

    def some(keys, leaf):
        low, high = (-0.1, 0.1) if keys[-1].key == "mean" else (0.1, 0.4)
        return draw.uniform(low, high, leaf.shape).astype(np.float32)

    stats = jax.tree_util.tree_map_with_path(some, state.stats)
    state = state._replace(step=np.int32(4), stats=stats)

    def judge(name, state=state):
        evaluator = setup.evaluators[name]
        sums = [
            setup.program.judge(state, *batch, statistics=evaluator.statistics)
            for batch in evaluator.split
        ]
        return sum(float(part["loss"]) for part in sums)

    return setup, state, judge


def test_debiased_statistics_are_the_averages_divided_by_how_full_they_are(
    in_three_ways,
):
    _, state, judge = in_three_ways
    expected, fuller = (
        judge(
            "test",
            state._replace(
                stats=jax.tree.map(lambda leaf, n=n: leaf / (1 - 0.9**n), state.stats)
            ),
        )
        for n in (4, 5)
    )
    assert judge("test@debiased") == pytest.approx(expected, rel=1e-5)
    assert abs(judge("test") - expected) > 1e-3 < abs(fuller - expected)


def test_batch_statistics_are_those_of_the_images_at_hand(in_three_ways):
    setup, state, judge = in_three_ways
    assert len(list(setup.evaluators["test@batch of 5"].split)) == 1
    (batch,) = setup.evaluators["test@batch of 5"].split
    model = setup.program.task.model(state)
    model.train()  # without dropout, training mode is that of batch normalization
    pool, labels = (np.asarray(part)[batch.order] for part in batch.pool)
    images = (pool.astype(np.float32) - 127.5) / 128
    scores = np.asarray(respond(model, images), np.float64)
    shifted = scores - scores.max(1, keepdims=True)
    log_p = shifted - np.log(np.exp(shifted).sum(1, keepdims=True))
    expected = -np.sum(log_p[np.arange(len(labels)), labels])
    assert judge("test@batch of 5") == pytest.approx(expected, rel=1e-4)
    other = jax.tree.map(lambda leaf: leaf + 1, state.stats)
    again = judge("test@batch of 5", state._replace(stats=other))
    assert again == pytest.approx(expected, rel=1e-4)  # running averages play no part


@pytest.mark.slow
def test_recalibrated_statistics_are_those_of_training_images(in_three_ways):
    setup, state, judge = in_three_ways
    assert setup.feed.images.train == 48
    names = ("train@recalibrated of 48", "train@batch of 48")
    config = setup.config
    config = config_of(
        {"evaluators": tuple(f"{name} every 3" for name in names)}
        | {"model.averages": "zero", "optim.ema": 0.5}
    )
    ways = []
    for size in (48, 24):
        config.eval_batch_size = size
        ways.append(set_up(config))
    other = jax.tree.map(lambda leaf: leaf + 1, state.stats)
    averaged = {"params": state.params, "stats": other}
    state = state._replace(stats=other, average=averaged)
    statistics = []
    for one in ways:
        split = one.evaluators[names[0]].calibration
        found = [one.program.moments(state, b.pool, b.order) for b in split]
        statistics.append(one.program.recalibrated(state, mean_of(found)))
    whole, (batch,) = ways[0], ways[0].evaluators[names[1]].split
    judged = lambda state, how: whole.program.judge(state, *batch, statistics=how)  # noqa: E731
    # The statistics of all of them at once are those of this batch.
    expected = judged(state, "batch")
    found = judged(statistics[0], "running")
    assert found["loss"] == pytest.approx(float(expected["loss"]), rel=1e-4)
    assert abs(found["loss"] - judged(state, "running")["loss"]) > 1e-2
    # In parts, mean and variance of what the first one gets are those of the whole.
    first = [s.stats["stages"][0][0]["norm"] for s in statistics]
    chex.assert_trees_all_close(*first, rtol=1e-5)


def test_a_batch_has_of_a_whole_sorted_set():
    config = config_of(evaluators=("train@batch of 40 every 3",), eval_batch_size=10)
    setup = set_up(config)
    split = setup.evaluators["train@batch of 40"].split
    orders = [batch.order.tolist() for batch in split]
    total = setup.feed.images.train
    spaced = [i * total // 40 for i in range(40)]
    assert sorted(sum(orders, [])) == spaced
    assert orders[1] == spaced[1::4]


def test_statistics_of_a_batch_that_is_not_full_are_refused():
    config = config_of(evaluators=("train@batch of 43 every 3",), eval_batch_size=10)
    with pytest.raises(ValueError, match="Write `train@batch of 40`, or change"):
        set_up(config)


def test_some_of_the_test_images_are_evenly_spaced(in_three_ways):
    setup, *_ = in_three_ways
    split = setup.evaluators["test of 5"].split
    (batch,) = split
    total = setup.feed.images.test
    assert sorted(batch.order.tolist()) == [i * total // 5 for i in range(5)]


@pytest.mark.parametrize(
    ("name", "expected"),
    [
        ("train", ("train", "running", 0)),
        ("test@batch of 1000", ("test", "batch", 1000)),
        ("folder:art of man", ("folder:art of man", "running", 0)),
        ("folder:a of 5 of 20", ("folder:a of 5", "running", 20)),
        ("test@debiased", ("test", "debiased", 0)),
        ("folder:me@home of 3", ("folder:me@home", "running", 3)),
        ("folder:me@home@batch", ("folder:me@home", "batch", 0)),
    ],
)
def test_a_name_says_source_statistics_and_number(name, expected):
    found = training.Evaluation.of(f"{name}  every  3 epochs")
    assert (found.source, found.statistics, found.most) == expected
    assert found.name == name and found.every == "3 epochs"


@pytest.mark.parametrize("text", ["train", "every 5", "train every ", "train5 epochs"])
def test_an_evaluation_without_source_or_duration_is_told(text):
    with pytest.raises(ValueError, match="`NAME every DURATION`"):
        training.Evaluation.of(text)


def test_wrong_statistics_name_the_nearest():
    with pytest.raises(ValueError, match="Did you mean `test@batch`"):
        training.Evaluation.of("test@bacth every 2")


@pytest.mark.parametrize(
    ("changes", "message"),
    [
        ({"evaluators": ("test every 2",)}, "what `config.eval_every` is for"),
        ({"evaluators": ("test@debiased every 2",)}, "averages that start at zero"),
        (
            {"evaluators": ("test@recalibrated every 2",), "model.batch_norm": False},
            "Leave `@recalibrated` out",
        ),
        ({"evaluators": ("test@x every 2",)}, "knows the statistics running"),
        ({"evaluators": ("test of 0 every 2",)}, "at least one image"),
        (
            {"evaluators": ("test@batch every 2",), "model.batch_norm": False},
            "needs batch normalization",
        ),
        (
            {
                "evaluators": ("test@debiased every 2",),
                "model.averages": "zero",
                "optim.ema": 0.9,
            },
            "no `config.optim.ema`",
        ),
    ],
)
def test_evaluations_that_make_no_sense_are_refused(changes, message):
    with pytest.raises(ValueError, match=message):
        check(config_of(changes))
