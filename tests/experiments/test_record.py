import json
import math

import numpy as np
import pytest

from hypersphere import experiments, training
from hypersphere.experiments._record import make_record, read_record, write_record
from tests.experiments.records import record


def test_the_last_accuracy_is_that_on_the_most_images():
    assert record(last=0.6).accuracy() == pytest.approx(0.61)
    assert record().accuracy("batch") == 0.5
    assert math.isnan(record().accuracy("debiased"))
    assert math.isnan(record(diverged="at step 5").accuracy())


def test_curves_are_those_with_the_most_evaluations():
    steps, values = record(last=0.8).curve()
    np.testing.assert_array_equal(steps, [100, 200, 300, 400])
    np.testing.assert_allclose(values, [0.2, 0.4, 0.6, 0.8])
    assert len(record().curve("debiased")[0]) == 0


def test_steps_to_an_accuracy_are_those_of_the_first_evaluation_that_has_it():
    assert record(last=0.8).steps_to(0.4) == 200
    assert record(last=0.8).steps_to(0.41) == 300
    assert record(last=0.8).steps_to(0.9) == math.inf
    assert record().steps_to(0.5, "batch") == 100


def test_a_record_is_read_as_it_was_written(tmp_path):
    path = tmp_path / "family" / "seed0.json"
    write_record(path, record())
    assert read_record(path) == record()
    assert experiments.read_records(tmp_path) == [record()]
    assert '"step": [ 100, 200, 300, 400 ]' in path.read_text()


def test_a_broken_record_is_named(tmp_path):
    path = tmp_path / "seed0.json"
    path.write_text('{"family": ')
    with pytest.raises(ValueError, match=r"seed0.json is not the record of a run"):
        experiments.read_records(tmp_path)
    path.write_text('{"family": "x"}')
    with pytest.raises(ValueError, match=r"`run` makes it anew"):
        read_record(path)


def test_a_record_has_a_runs_numbers_and_no_path_of_a_machine(tmp_path):
    lines = [
        {"step": 123456, "split": "train", "accuracy": 0.25, "grad_norm": 3.0}
        | {"loss": 1.0, "gradient/conv.kernel": 1.2345678e-8},
        {"step": 4, "split": "test@batch of 5", "accuracy": 0.1234567, "loss": None},
        {"step": 6, "split": "test@batch of 5", "accuracy": 0.25, "loss": 1.5},
    ]
    text = "".join(json.dumps(line) + "\n" for line in lines)
    (tmp_path / "metrics.jsonl").write_text(text)
    (tmp_path / "result.json").write_text('{"test_accuracy": 0.5}')
    config = training.TrainConfig(seed=3, steps="2 epochs")
    config.data.data_dir = "/somewhere"
    made = make_record(tmp_path, config, family="f", choices={"k": 0.1})
    assert made.seed == 3 and made.result == {"test_accuracy": 0.5}
    assert made.config["steps"] == "2 epochs" and made.config["data"]["data_dir"] == ""
    assert made.curves["train"] == {
        **{"step": [123456], "accuracy": [0.25], "loss": [1.0]},
        "gradient/conv.kernel": [1.2346e-8],
    }
    found = made.curves["test@batch of 5"]
    assert found["accuracy"] == [0.12346, 0.25] and found["loss"] == [None, 1.5]
    assert config.data.data_dir == "/somewhere"
