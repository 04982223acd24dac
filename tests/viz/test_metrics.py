import json

import numpy as np
import pytest

from hypersphere import viz


def _write(path, *lines):
    path.write_text(
        "\n".join(x if isinstance(x, str) else json.dumps(x) for x in lines)
    )
    return path


def _row(step, split="train", **values):
    return {"step": step, "split": split, **values}


def test_splits_become_columns_ordered_by_step(tmp_path):
    path = _write(
        tmp_path / "metrics.jsonl",
        _row(20, loss=0.5, time=2.0),
        _row(10, loss=0.9, time=1.0),
        _row(20, "test", accuracy=0.75),
    )
    metrics = viz.read_metrics(path)
    assert set(metrics) == {"train", "test"}
    np.testing.assert_array_equal(metrics["train"]["step"], [10, 20])
    np.testing.assert_array_equal(metrics["train"]["loss"], [0.9, 0.5])
    np.testing.assert_array_equal(metrics["train"]["time"], [1.0, 2.0])
    np.testing.assert_array_equal(metrics["test"]["accuracy"], [0.75])
    assert metrics["train"]["step"].dtype == np.int64


def test_missing_and_null_values_are_nan(tmp_path):
    path = _write(tmp_path / "m", _row(1, loss=2), _row(2, lr=0.1), _row(3, loss=None))
    train = viz.read_metrics(str(path))["train"]
    np.testing.assert_array_equal(train["loss"], [2, np.nan, np.nan])
    np.testing.assert_array_equal(train["lr"], [np.nan, 0.1, np.nan])


def test_text_is_no_column(tmp_path):
    path = _write(tmp_path / "m", _row(1, loss=2, note="warm-up"))
    assert set(viz.read_metrics(path)["train"]) == {"step", "loss"}


@pytest.mark.parametrize("half", ['{"step": 30, "spl', '{"step": 30}', "[1]", "\ufffd"])
def test_a_half_written_line_is_passed_over(tmp_path, half):
    path = _write(tmp_path / "m", _row(10, loss=1), half, _row(20, loss=2), half)
    train = viz.read_metrics(path)["train"]
    np.testing.assert_array_equal(train["step"], [10, 20])


def test_a_line_cut_inside_a_character_is_passed_over(tmp_path):
    path = tmp_path / "m"
    path.write_bytes(json.dumps(_row(1, loss=3)).encode() + b'\n{"split": "\xc3')
    np.testing.assert_array_equal(viz.read_metrics(path)["train"]["loss"], [3])


def test_of_a_step_written_twice_the_later_line_counts(tmp_path):
    path = _write(
        tmp_path / "m",
        _row(10, loss=1, stale=1),
        _row(20, loss=2),
        _row(10, loss=3),
        _row(10, "test", loss=4),
    )
    metrics = viz.read_metrics(path)
    np.testing.assert_array_equal(metrics["train"]["loss"], [3, 2])
    assert "stale" not in metrics["train"]
    np.testing.assert_array_equal(metrics["test"]["loss"], [4])


@pytest.mark.parametrize("text", ["", "\n", '{"step": 1, "loss"'])
def test_a_file_without_a_readable_line_is_refused(tmp_path, text):
    path = _write(tmp_path / "m", text)
    with pytest.raises(ValueError, match=r"at least one line such as .* got none in"):
        viz.read_metrics(path)


def test_a_missing_file_is_named(tmp_path):
    with pytest.raises(FileNotFoundError, match=r"got path='.*/metrics.jsonl'"):
        viz.read_metrics(tmp_path / "metrics.jsonl")
