"""What `results/depth.py` makes of the records of a study."""

import dataclasses

import numpy as np
import pytest

from hypersphere import experiments
from results import depth
from tests.test_results import DOCS, ROOT

STUDY = ROOT / "results" / "small" / "study_depth"


@pytest.fixture(scope="module")
def records():
    return experiments.read_records(STUDY)


def test_the_table_is_made_of_the_records_and_quoted_as_it_is(records):
    assert depth.table(records) in DOCS
    assert (STUDY / "gradients.png").is_file()


def test_layers_are_in_the_order_of_the_network_and_not_of_their_names(records):
    record = next(each for each in records if each.choices["depth"] == 27)
    (row,) = depth.by_layer([record], "turn", -1)
    assert row.shape == (27,)
    last = record.curves["train"]["turn/stages.2.8.conv.kernel"][-1]
    fifth = record.curves["train"]["turn/stages.0.4.conv.kernel"][-1]
    assert (row[-1], row[4]) == (last, fifth)


def test_shares_are_geometric_means_of_the_first_layer_by_the_last(records):
    record = next(each for each in records if each.choices["depth"] == 18)
    fakes = []
    for share in (2.0, 8.0):
        train = dict(record.curves["train"])
        for name, values in train.items():
            if name.startswith(("gradient/", "turn/")):
                size = share if ".0.0." in name else 1.0
                train[name] = list(np.full(len(values), size))
        curves = {**record.curves, "train": train}
        fakes.append(dataclasses.replace(record, curves=curves))
    row = depth.table(fakes).splitlines()[-1]
    assert row.count("4 (2 to 8)") == 4


def test_the_picture_has_a_panel_for_each_depth_and_kind(records):
    figure = depth.draw(records)
    titles = [axes.get_title() for axes in figure.axes]
    assert titles == ["18 layers", "27 layers"] * 2
    lines = figure.axes[0].get_lines()
    assert len(lines) == 4
    assert len(lines[0].get_xdata()) == 18


def test_runs_without_gradients_are_named():
    (other, *_) = experiments.read_records(STUDY.parent / "study_width")
    with pytest.raises(ValueError, match="log_geometry"):
        depth.by_layer([other], "gradient", 0)
