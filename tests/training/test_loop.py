import dataclasses
import functools
import json
import shutil
import weakref

import jax
import numpy as np
import pytest
from flax import nnx

from hypersphere import data, nn, ops, training, viz
from hypersphere.training.checkpoints._checkpoint import Checkpoints
from hypersphere.training.checkpoints._seal import read_seal, replace_seal
from hypersphere.training.run import (
    _cadence,
    _finish,
    _judge,
    _logging,
    _loop,
    _run,
    _saver,
    _stepper,
    _workdir,
)
from hypersphere.training.run._guard import SpikeError
from hypersphere.training.settings._durations import resolve
from tests.helpers import respond
from tests.training.small import config_of, fresh, lively, set_up


def final_state(workdir):
    """Every leaf of the newest checkpoint, as bytes."""
    config = training.from_json((workdir / "config.json").read_text())
    checkpoints = Checkpoints(workdir, read_only=True)
    state = checkpoints.restore(set_up(config).program.template).state
    return [np.asarray(leaf).tobytes() for leaf in jax.tree.leaves(state)]


def losses_by_step(workdir):
    lines = map(json.loads, (workdir / "metrics.jsonl").read_text().splitlines())
    return {(x["split"], x["step"]): (x["loss"], x["accuracy"]) for x in lines}


@pytest.fixture(scope="module")
def finished(tmp_path_factory):
    folder = tmp_path_factory.mktemp("finished") / "run"
    return training.train(lively(), folder), folder


@pytest.fixture
def unfinished(finished, tmp_path):
    """A copy of the finished run's folder, as if it had ended before its result."""
    folder = shutil.copytree(finished[1], tmp_path / "unfinished")
    (folder / "result.json").unlink()
    return folder


def normalized(images):
    return (np.asarray(images, np.float32) - 127.5) / 128


def test_a_run_leaves_what_its_folder_promises(finished, tiny):
    result, folder = finished
    needed = {"test_accuracy", "steps", "seconds", "examples_per_second", "parameters"}
    assert needed <= set(result)
    assert json.loads((folder / "result.json").read_text()) == result
    stored = training.from_json((folder / "config.json").read_text())
    assert stored == resolve(tiny, examples=48)
    assert set(losses_by_step(folder)) == {
        *(("train", step) for step in (2, 3, 4, 6)),
        *(("test", step) for step in (3, 6)),
    }
    pictures = {path.name for path in (folder / "plots").iterdir()}
    assert pictures == {"learning_curve.png", "filter_angles.png", "features.png"}
    assert list(folder.glob("events.out.tfevents*"))
    assert not list(folder.rglob("*.part"))


def test_the_softness_of_learned_sigmoids_is_kept_layer_by_layer():
    rngs = nnx.Rngs(0)
    sigmoid = functools.partial(nn.LearnableSigmoid, init=0.2)
    layers = [
        nn.SphereConv(2, 3, (1, 1), similarity=similarity, rngs=rngs)
        for similarity in (sigmoid, ops.Linear(), nn.LearnableSigmoid)
    ]
    found = _finish._softness(nnx.List(layers))
    assert list(found) == ["0", "2"]
    np.testing.assert_allclose(found["0"], [0.25] * 3)
    np.testing.assert_allclose(found["2"], [0.75] * 3)


def test_the_loaded_model_is_the_trained_one(finished, tiny):
    result, folder = finished
    model, config = training.load(folder)
    assert config == resolve(tiny, examples=48)
    test = data.load(tiny.data.source, seed=tiny.seed).test
    images = normalized(test.images)
    right = np.argmax(np.asarray(respond(model, images)), -1) == test.labels
    assert np.mean(right) == pytest.approx(result["test_accuracy"])
    with np.load(folder / "features.npz") as arrays:
        saved = arrays["features"]
    features = jax.jit(model.features)(images)
    np.testing.assert_allclose(features, saved, rtol=1e-4, atol=1e-5)


def test_a_finished_run_is_returned_as_it_is(finished, tiny):
    result, folder = finished
    before = (folder / "metrics.jsonl").read_text()
    assert training.train(tiny, folder) == result
    assert (folder / "metrics.jsonl").read_text() == before


def test_a_resumed_run_is_bit_for_bit_the_run_that_never_stopped(
    finished, tiny, tmp_path, monkeypatch
):
    _, straight = finished
    advance = _stepper.Stepper.advance

    def until(stop):
        def interrupted(self, count):
            if self.step == stop:
                raise KeyboardInterrupt
            return advance(self, count)

        return interrupted

    monkeypatch.setattr(_loop, "finish", lambda *arguments: {})
    for stop in (2, 3, 5):  # before, at and after the first checkpoint
        monkeypatch.setattr(_stepper.Stepper, "advance", until(stop))
        with pytest.raises(KeyboardInterrupt):
            training.train(tiny, tmp_path)
    monkeypatch.setattr(_stepper.Stepper, "advance", advance)
    training.train(tiny, tmp_path)
    assert final_state(tmp_path) == final_state(straight)
    resumed, whole = losses_by_step(tmp_path), losses_by_step(straight)
    assert resumed[("test", 6)] == whole[("test", 6)]
    assert resumed[("train", 6)] == whole[("train", 6)]


def test_a_folder_of_another_config_is_refused_and_left_alone(finished, tiny):
    _, folder = finished
    other = dataclasses.replace(tiny, seed=1)
    with pytest.raises(
        ValueError, match=r"config\.seed is 0 there and 1 now.*--workdir"
    ):
        training.train(other, folder)
    assert (folder / "result.json").is_file()


@pytest.mark.slow
def test_divergence_names_the_steps_and_keeps_the_last_good_checkpoint(tmp_path):
    diverging = config_of({"optim.schedule": "piecewise", "optim.factor": 1e38})
    diverging.optim.boundaries = (3,)
    with pytest.raises(
        training.DivergedError, match=r"in steps 4 to 4|at step [56].*in steps 5 to 6"
    ):
        training.train(diverging, tmp_path)
    assert Checkpoints(tmp_path, read_only=True).steps() == [3]
    assert (tmp_path / "metrics.jsonl").is_file()


@pytest.mark.parametrize(
    ("change", "error", "message"),
    [
        (("batch_size", 49), ValueError, r"49.*48|48.*49"),
        (("data.source", "idx:/no/such"), FileNotFoundError, r"/no/such"),
        (("data.source", "mnist"), ValueError, r"mnist5k.*tfds:.*folder:"),
        (("model.similarity", "lineal"), ValueError, r"Did you mean 'linear'"),
        (("model.depth", 4), ValueError, r"`depth=4`"),
        (("optim.schedule", "cosin"), ValueError, r"Did you mean 'cosine'"),
    ],
)
def test_bad_input_stops_before_training(tiny, tmp_path, change, error, message):
    field, value = change
    *parents, name = field.split(".")
    with pytest.raises(error, match=message):
        setattr(getattr(tiny, parents[0]) if parents else tiny, name, value)
        training.train(tiny, tmp_path)
    assert not list(tmp_path.iterdir())  # the corrected command may use the folder


def test_loading_what_is_not_there_says_so(tmp_path):
    with pytest.raises(FileNotFoundError, match=r"no config\.json"):
        training.load(tmp_path / "nothing")


@pytest.mark.slow
def test_one_call_of_many_steps_is_many_calls_of_one(tiny):
    setup = set_up(tiny)
    program = setup.program
    pool, order = setup.feed.take(0, 3)
    together, metrics = program.train(fresh(setup), pool, order)
    one = fresh(setup)
    for i in range(3):
        one, last = program.train(one, pool, order[i : i + 1])
    losses = program.by_name(metrics)["loss"]
    assert losses.shape == (3,)
    np.testing.assert_allclose(losses[2], program.by_name(last)["loss"][0], rtol=1e-4)
    near = lambda a, b: np.testing.assert_allclose(a, b, rtol=2e-3, atol=2e-4)  # noqa: E731
    jax.tree.map(near, together.params, one.params)


@pytest.fixture(scope="module")
def judged():
    """A program at its beginning, and its share of right answers on the test images."""
    program = set_up(lively()).program
    test = data.load(lively().data.source, seed=0).test
    model = program.task.model(program.init())
    scores = respond(model, normalized(test.images))
    right = np.argmax(np.asarray(scores), -1) == test.labels
    return program, np.mean(right)


@pytest.mark.parametrize(
    "batch_size", [4, pytest.param(9, marks=pytest.mark.slow), 100]
)
def test_evaluation_counts_every_example_once(tiny, judged, batch_size, tmp_path):
    program, accuracy = judged
    tiny.eval_batch_size = batch_size
    config, feed, evaluators, *_ = set_up(tiny)
    run = _run.Run(config, tmp_path, feed, evaluators, program, Checkpoints(tmp_path))
    values = run.evaluate(evaluators["test"].split)
    assert values["accuracy"] == pytest.approx(accuracy, abs=1e-6)


@pytest.mark.parametrize(
    ("backend", "step", "most", "profile", "expected"),
    [
        ("cpu", 0, 100, (), 1),
        ("gpu", 0, 100, (), 50),
        ("gpu", 0, 20, (), 10),
        ("gpu", 20, 100, (), 1),  # up to the next multiple
        ("gpu", 950, 100, (), 50),
        ("gpu", 1000, 100, (), 1),  # of 1,030 steps
        ("gpu", 50, 100, (60, 70), 1),
        ("gpu", 100, 100, (60, 70), 50),
    ],
)
def test_steps_per_call_divide_every_cadence(
    monkeypatch, backend, step, most, profile, expected
):
    monkeypatch.setattr(jax, "default_backend", lambda: backend)
    config = training.TrainConfig(steps=1030, log_every=50, eval_every=500)
    config.checkpoint_every, config.max_steps_per_call = 100, most
    config.profile = profile
    evaluators = {"test": _cadence.Evaluator((), config.eval_every)}
    assert _cadence.steps_per_call(config, evaluators, step) == expected


def test_a_half_written_line_and_repeated_steps_leave_the_log_when_resuming(tmp_path):
    from hypersphere.training.run import _logging

    file = tmp_path / "metrics.jsonl"
    lines = [f'{{"step": {step}, "loss": 1.0}}' for step in (2, 3, 4)]
    file.write_text("\n".join(lines) + '\n{"step": 5, "lo')
    _logging._forget_after(file, 3)
    assert file.read_text().splitlines() == lines[:2]


def test_data_that_have_changed_are_not_taken_for_the_same(
    tiny, unfinished, monkeypatch
):
    load = data.load
    other = tiny.data.source.replace("examples=48", "examples=60")
    monkeypatch.setattr(data, "load", lambda source, **kw: load(other, **kw))
    with pytest.raises(ValueError, match=r"data have changed.*were 48 images.*are 60"):
        training.train(tiny, unfinished)


def test_classes_that_were_renamed_are_told_and_allowed_on_request(
    tiny, unfinished, monkeypatch, capsys
):
    load = data.load

    def renamed(source, **arguments):
        found = load(source, **arguments)
        names = ("zero", *found.class_names[1:])
        return dataclasses.replace(found, class_names=names)

    monkeypatch.setattr(data, "load", renamed)
    with pytest.raises(ValueError, match=r"class 0 was '0' and is 'zero'.*--allow_ch"):
        training.train(tiny, unfinished)
    monkeypatch.setattr(_loop, "finish", lambda *arguments: {})
    training.train(tiny, unfinished, allow_changes=True)
    assert "With other data than before: class 0" in capsys.readouterr().out


def test_other_images_of_the_same_number_are_told(tiny, unfinished, monkeypatch):
    load = data.load

    def inverted(source, **arguments):
        found = load(source, **arguments)
        images = 255 - found.test.images
        return dataclasses.replace(found, test=found.test._replace(images=images))

    monkeypatch.setattr(data, "load", inverted)
    with pytest.raises(ValueError, match="begun: the images to test are others"):
        training.train(tiny, unfinished)


@pytest.mark.slow
def test_an_old_folder_takes_the_data_of_today_and_says_so(
    tiny, unfinished, monkeypatch, capsys
):
    for seal in unfinished.glob("checkpoints/*/seal.json"):
        old = read_seal(seal.parent)
        for name in ("class_names", "contents", "dtype"):
            del old["meta"]["dataset"][name]
        del old["meta"]["config"], old["meta"]["progress"]["logged"]
        replace_seal(seal.parent, old)
    monkeypatch.setattr(_loop, "finish", lambda *arguments: {})
    training.train(tiny, unfinished)
    assert "of an older release, which did not note" in capsys.readouterr().out


def test_a_config_that_is_lost_is_that_of_the_checkpoint(tiny, unfinished, capsys):
    (unfinished / "config.json").unlink()
    other = dataclasses.replace(tiny, seed=5)
    with pytest.raises(ValueError, match=r"config\.seed is 0 there and 5 now"):
        training.train(other, unfinished)
    assert "config.json is missing: the config in its" in capsys.readouterr().out
    assert training.load(unfinished).config == resolve(tiny, examples=48)
    (unfinished / "config.json").write_text("null")
    with pytest.raises(ValueError, match=r"config\.seed is 0 there and 5 now"):
        training.train(other, unfinished)


@pytest.mark.slow
def test_an_empty_result_is_made_again(tiny, unfinished, capsys):
    (unfinished / "result.json").write_text("")
    before = json.loads((unfinished / "metrics.jsonl").read_text().splitlines()[-1])
    assert training.train(tiny, unfinished)["test_loss"] == before["loss"]
    assert "result.json cannot be read" in capsys.readouterr().out


def test_what_a_newer_release_has_noted_is_told_and_left_out(capsys):
    meta = {"began": 1.0, "rewinds": 2, "hours": 3}
    progress = _saver._progress(meta, _logging.make_console())
    assert (progress.began, progress.rewinds) == (1.0, 2)
    assert "hours is not known here: a newer release" in capsys.readouterr().out


def test_a_hole_in_the_log_is_told(tiny, unfinished, monkeypatch, capsys):
    file = unfinished / "metrics.jsonl"
    lines = file.read_text().splitlines(keepends=True)
    file.write_text(lines[0][:9] + "\n" + lines[1] + '{"step": 3, "spl')
    monkeypatch.setattr(_loop, "finish", lambda *arguments: {})
    training.train(tiny, unfinished)
    told = capsys.readouterr().out
    assert "1 lines cannot be read" in told
    assert "has a hole: nothing of training from step" in told and "to 6" in told


def test_damaged_checkpoints_are_not_passed_over_without_being_told_to(
    tiny, unfinished, monkeypatch, capsys
):
    for seal in unfinished.glob("checkpoints/*/seal.json"):
        seal.write_text("damaged")
    before = (unfinished / "metrics.jsonl").read_text()
    for message in ("No checkpoint in .* can be read", "but damaged ones: 3.damaged"):
        with pytest.raises(OSError, match=message + ".*--despite_damage"):
            training.train(tiny, unfinished)
    assert (unfinished / "metrics.jsonl").read_text() == before
    monkeypatch.setattr(_loop, "finish", lambda *arguments: {})
    training.train(tiny, unfinished, despite_damage=True)
    assert "has no whole checkpoint: it begins at step 0" in capsys.readouterr().out


def test_an_old_run_keeps_what_frozen_meant_when_it_was_begun(tiny, finished, capsys):
    tiny.optim.frozen = ("stages.0.*",)
    fields = json.loads(training.to_json(tiny))
    del fields["optim"]["freeze_averages"]
    folder = finished[1].parent / "old"
    folder.mkdir()
    (folder / "config.json").write_text(json.dumps(fields))
    shutil.copy(finished[1] / "result.json", folder)
    told = "freeze_averages=False, as this run was begun"
    for _ in range(2):  # the second time, the file has what the first one has written
        training.train(tiny, folder)  # which is finished
        assert told in capsys.readouterr().out
        assert tiny.optim.freeze_averages
        tiny.optim.freeze_averages = False
        (folder / "config.json").write_text(training.to_json(resolve(tiny, 48)))
        tiny.optim.freeze_averages = True


def test_a_picture_that_cannot_be_drawn_does_not_lose_the_result(
    finished, tiny, unfinished, monkeypatch
):
    def broken(folder):
        raise ValueError("no ink")

    monkeypatch.setattr(viz, "draw", broken)
    accuracy = finished[0]["test_accuracy"]
    assert training.train(tiny, unfinished)["test_accuracy"] == accuracy
    assert json.loads((unfinished / "result.json").read_text())["steps"] == 6


def test_harmless_fields_and_lists_do_not_stop_a_resume(finished, tiny):
    result, folder = finished
    same = dataclasses.replace(tiny, keep=5, log_every=1)
    same.optim.boundaries = []
    assert training.train(same, folder) == result


def test_a_run_without_its_data_leaves_the_folder_free(tiny, tmp_path):
    tiny.data.source = "idx:/no/such"
    with pytest.raises(FileNotFoundError):
        training.train(tiny, tmp_path)
    assert not list(tmp_path.iterdir())


@pytest.mark.slow
def test_a_longer_run_is_not_finished_where_the_shorter_one_was(
    finished, tiny, tmp_path, monkeypatch
):
    monkeypatch.setattr(viz, "draw", lambda folder: [])
    folder = shutil.copytree(finished[1], tmp_path / "longer")
    longer = dataclasses.replace(tiny, steps=9)
    with pytest.raises(ValueError, match=r"config\.steps is 6 there and 9 now.*allow"):
        training.train(longer, folder)
    assert training.train(longer, folder, allow_changes=True)["steps"] == 9
    assert json.loads((folder / "result.json").read_text())["steps"] == 9


def test_a_folder_is_for_one_run_at_a_time(tiny, tmp_path):
    with _workdir.alone_in(tmp_path):
        with pytest.raises(
            OSError, match=r"Another process is training in .*--workdir"
        ):
            training.train(tiny, tmp_path)
    assert not (tmp_path / "config.json").exists()


@pytest.mark.slow
def test_a_rewind_lets_the_old_state_go_before_it_restores_the_new_one(
    tmp_path, monkeypatch
):
    monkeypatch.setattr(_loop, "finish", lambda *arguments: {})
    steppers, alive = [], []

    class Watched(_stepper.Stepper):
        def __init__(self, *arguments, **given):
            alive.append([stepper() is not None for stepper in steppers])
            super().__init__(*arguments, **given)
            steppers.append(weakref.ref(self))

    def check(guard, first, metrics):
        if first > 3 and len(steppers) == 1:
            raise SpikeError(first, 9.0, 1.0, 0.1)

    monkeypatch.setattr(_run, "Stepper", Watched)
    monkeypatch.setattr(_run.Guard, "check", check)
    training.train(config_of(), tmp_path)
    assert alive == [[], [False]]


@pytest.mark.slow
def test_the_best_checkpoint_is_kept_whatever_the_cadence(tmp_path, monkeypatch):
    monkeypatch.setattr(_loop, "finish", lambda *arguments: {})
    accuracies = iter([0.1, 0.9, 0.3, 0.2])
    judged = lambda *_, **__: {"loss": 1.0, "accuracy": next(accuracies)}  # noqa: E731
    monkeypatch.setattr(_judge.Judge, "evaluate", judged)
    config = config_of(steps=8, eval_every=2, checkpoint_every=7, keep=1)
    training.train(config, tmp_path)
    checkpoints = Checkpoints(tmp_path, read_only=True)
    assert checkpoints.steps() == [4, 8] and checkpoints.best_step() == 4
    best, _ = training.load(tmp_path, best=True)
    last, _ = training.load(tmp_path)
    assert not np.array_equal(best.head.kernel[...], last.head.kernel[...])
