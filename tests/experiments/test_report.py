import dataclasses

import numpy as np
import pytest

from hypersphere import experiments
from hypersphere.experiments._record import write_record
from hypersphere.experiments._report import bundle, curves
from tests.experiments.records import record


def test_runs_are_aligned_by_their_steps():
    runs = [
        (np.array([1, 3, 4]), np.array([0.1, 0.3, 0.4])),
        (np.array([1, 2, 3, 4]), np.array([0.5, 0.6, 0.7, 0.8])),  # stopped at 2
        (np.array([1, 3]), np.array([0.9, 1.0])),  # diverged
    ]
    found = bundle(runs)
    np.testing.assert_array_equal(found.steps, [1, 3, 4])
    np.testing.assert_array_equal(
        found.values, [[0.1, 0.3, 0.4], [0.5, 0.7, 0.8], [0.9, 1.0, np.nan]]
    )


def test_operators_are_lines_and_other_parameters_rows():
    records = [
        record(operator=operator, depth=depth, scale="small")
        for operator in ("linear", "plain")
        for depth in (45, 9)
    ]
    grid = curves(records, ["operator", "depth"])
    assert sorted(grid) == ["depth=45", "depth=9"]
    columns = ["training batches", "test, running averages", "test, batch statistics"]
    assert list(grid["depth=9"]) == columns
    assert list(grid["depth=9"]["training batches"]) == ["plain", "linear"]


def test_a_report_is_made_of_all_records_below_a_folder(tmp_path):
    for seed in (0, 1):
        path = tmp_path / "operator=plain" / f"seed{seed}.json"
        write_record(path, record(seed))
    files = experiments.report(tmp_path)
    assert [file.name for file in files] == ["table.md", "table.csv", "curves.png"]
    assert all(file.stat().st_size for file in files)
    assert "| plain | 2 |" in files[0].read_text()


@pytest.mark.parametrize(
    "other",
    [
        record(1, operator="plain", depth=9, scale="small"),
        dataclasses.replace(record(1), config={"model": {"dtype": "bfloat16"}}),
        dataclasses.replace(record(1), config={"data": {"source": "mnist5k"}}),
        dataclasses.replace(record(1), config={"batch_size": 4}),
    ],
    ids=["parameters", "precision", "data", "batch"],
)
def test_runs_that_are_not_alike_make_no_table(tmp_path, other):
    write_record(tmp_path / "a" / "seed0.json", record(0))
    write_record(tmp_path / "b" / "seed1.json", other)
    with pytest.raises(ValueError, match="do not belong into one table: seed 1 of"):
        experiments.report(tmp_path)
    assert not (tmp_path / "table.md").exists()


def test_a_folder_without_records_has_no_report(tmp_path):
    assert experiments.report(tmp_path) == []
    assert list(tmp_path.iterdir()) == []


def test_runs_that_diverge_at_once_have_a_table_and_no_figure(tmp_path):
    lost = experiments.Record(
        family="f", choices={}, seed=0, config={}, result={}, diverged="x", curves={}
    )
    write_record(tmp_path / "run" / "seed0.json", lost)
    assert [f.name for f in experiments.report(tmp_path)] == ["table.md", "table.csv"]
