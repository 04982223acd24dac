import json

import jax
import numpy as np
import pytest

from hypersphere import training
from hypersphere.training import _loop, _run
from hypersphere.training._checkpoint import Checkpoints
from tests.training.small import SOURCE, config_of, set_up

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


def test_every_evaluation_is_at_its_steps_and_the_last_one(finished):
    found = {key for key in rows(finished[1]) if "_raw" not in key[0]}
    evaluations = {
        *(("test", step) for step in (3, 6)),
        *((OTHER, step) for step in (3, 6)),
        *(("train_eval", step) for step in (2, 4, 6)),
    }
    assert found == evaluations | {("train", step) for step in (2, 3, 4, 6)}


def test_the_weights_as_they_are_are_judged_beside_the_average(finished):
    found = rows(finished[1])
    for step in (3, 6):
        raw, averaged = found[("test_raw", step)], found[("test", step)]
        assert raw["loss"] != averaged["loss"]


def test_a_loaded_model_has_the_averaged_weights(finished):
    run, folder = finished
    model, _ = training.load(folder)
    average = run.state.average["params"]
    assert not np.array_equal(
        average["head"]["kernel"], run.state.params["head"]["kernel"]
    )
    np.testing.assert_array_equal(model.head.kernel[...], average["head"]["kernel"])
    kernel = model.stages[0][0].conv.kernel[...]
    np.testing.assert_array_equal(kernel, average["stages"][0][0]["conv"]["kernel"])


def test_a_set_of_more_classes_than_trained_on_is_refused():
    other = SOURCE.replace("classes=3", "classes=4")
    config = config_of(evaluators=(f"{other} every 3",))
    with pytest.raises(
        ValueError, match=r"trained on, \[8, 8, 1\] and 3, got \[8, 8, 1\] and 4 in"
    ):
        set_up(config)


def test_a_set_smaller_than_a_batch_can_be_evaluated_on():
    config = config_of(evaluators=(f"{OTHER} every 3",))
    split = set_up(config).evaluators[OTHER].split
    assert sum(float(np.sum(batch.weights)) for batch in split) == split.size > 0


def scripted(monkeypatch, accuracies):
    """Runs whose evaluations have these accuracies, one after the other."""
    script = iter(accuracies)
    monkeypatch.setattr(
        _run.Run, "evaluate", lambda *_, **__: {"loss": 1.0, "accuracy": next(script)}
    )
    monkeypatch.setattr(_loop, "finish", lambda c, f, run, *_: {"steps": run.step})


def test_patience_ends_a_run_early_and_says_so(monkeypatch, tmp_path, capsys):
    scripted(monkeypatch, [0.2, 0.5, 0.5, 0.4, 0.9])
    config = config_of(patience=2, eval_every=1)
    assert training.train(config, tmp_path) == {"steps": 4}
    said = " ".join(capsys.readouterr().out.split())
    assert "not risen above 0.5000 for 2 evaluations: training ends here" in said
    assert Checkpoints(tmp_path, read_only=True).steps()[-1] == 4


def test_the_result_tells_the_step_that_was_reached(tmp_path):
    config = config_of({"patience": 1, "eval_every": 1, "optim.learning_rate": 1e-30})
    result = training.train(config, tmp_path)
    assert result["steps"] == 2
    assert json.loads((tmp_path / "result.json").read_text())["steps"] == 2


def test_the_best_checkpoint_is_kept_beside_the_newest(monkeypatch, tmp_path):
    scripted(monkeypatch, [0.2, 0.9, 0.5, 0.4, 0.3, 0.6])
    config = config_of(eval_every=1, checkpoint_every=1, keep=1, keep_best=1)
    training.train(config, tmp_path)
    assert Checkpoints(tmp_path, read_only=True).steps() == [2, 6]
    state = Checkpoints(tmp_path, read_only=True).restore(
        set_up(config).program.template
    )
    assert int(jax.device_get(state.state.step)) == 6
