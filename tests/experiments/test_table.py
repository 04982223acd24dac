import csv
import io
import math

import pytest

from hypersphere.experiments._table import rows_of, to_csv, to_markdown
from tests.experiments.records import record


def some():
    """Two seeds of a spherical network, three of a plain one of which one diverged."""
    return [
        record(0, last=0.7, operator="linear", scale="small"),
        record(1, last=0.5, operator="linear", scale="small"),
        record(0, last=0.4, operator="plain", scale="small"),
        record(1, last=0.6, operator="plain", scale="small"),
        record(2, diverged="at step 7", operator="plain", scale="small"),
    ]


def test_a_row_has_mean_and_sample_deviation_of_the_runs_that_ended():
    plain, linear = rows_of(some())
    assert (plain["operator"], linear["operator"]) == ("plain", "linear")
    assert (plain["n"], plain["diverged"]) == (3, 1)
    assert plain["test_running_mean"] == pytest.approx(0.51)
    assert plain["test_running_std"] == pytest.approx(0.02**0.5)
    assert linear["test_batch_mean"] == 0.5 and linear["test_batch_std"] == 0
    assert "test_debiased_mean" not in plain and "scale" not in plain


def test_steps_are_medians_and_infinite_if_most_runs_do_not_get_there():
    (row,) = rows_of([record(s, last=x) for s, x in enumerate((0.4, 0.5, 0.8))])
    assert row["steps_to_0.4_running"] == 400
    assert row["steps_to_0.5_running"] == 400
    assert row["steps_to_0.55_running"] == math.inf


def test_one_run_has_no_deviation():
    (row,) = rows_of([record()])
    assert math.isnan(row["test_running_std"])


def test_numbers_are_in_order_of_size():
    sizes = (128, 4, 16)
    rows = rows_of([record(batch_size=size, scale="small") for size in sizes])
    assert [row["batch_size"] for row in rows] == [4, 16, 128]


def test_the_markdown_tells_percentages_steps_and_what_diverged():
    lines = to_markdown(rows_of(some()), ["operator"]).splitlines()
    assert lines[0].startswith("| operator | n | test %, running | test %, batch | tr")
    assert "steps to 50 %, running" in lines[0] and "55 %" not in lines[0]
    assert lines[2].startswith("| plain | 3 | 51.0 ± 14.1 | 50.0 ± 0.0 |")
    assert lines[2].endswith("| 1 |") and lines[3].endswith("| 0 |")
    assert all(line.count("|") == lines[0].count("|") for line in lines)


def test_what_one_network_was_not_asked_is_a_dash_and_no_number():
    other = record(operator="plain", scale="small")
    other.curves["validation@batch of 20"] = other.curves["test of 20"]
    asked, not_asked = rows_of([other, record(operator="linear", scale="small")])
    assert list(asked) == list(not_asked)
    assert math.isnan(not_asked["validation_batch_mean"])
    assert asked["validation_batch_mean"] == pytest.approx(0.6)
    lines = to_markdown([asked, not_asked], ["operator"]).splitlines()
    assert "validation %, batch" in lines[0]
    assert lines[2].startswith("| plain | 1 | 60.0") and "| – |" in lines[3]


def test_the_csv_reads_back_with_every_column():
    rows = rows_of(some())
    read = list(csv.DictReader(io.StringIO(to_csv(rows))))
    assert list(read[0]) == list(rows[0])
    assert float(read[1]["test_running_mean"]) == pytest.approx(0.61)
