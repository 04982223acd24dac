"""What is told of results is what the records say."""

import importlib
import json
import pathlib
import re

import pytest

from hypersphere import experiments, training
from hypersphere.experiments import _table

ROOT = pathlib.Path(__file__).parents[1]
FAMILIES = sorted(path.parent for path in (ROOT / "results").glob("*/*/table.md"))
DOCS = (ROOT / "docs" / "results.md").read_text(encoding="utf-8")


# What the page says of a study, or of several, by its command.
COMPARED = {
    "study_half": (
        dict(by="operator", to="plain"),
        dict(by="operator", to="plain", training=(600, 1000)),
    ),
    "study_eighth": (dict(by="operator", to="plain"),),
    "study_depth": (dict(by="operator", to="plain", within=("depth",)),),
    "study_losses": (dict(by="loss", to="softmax"),),
    "study_momentum": (
        dict(by="operator", to="plain", within=("momentum",), statistics="running"),
        dict(by="operator", to="plain", within=("momentum",)),
    ),
    "study_norm": (
        dict(by="operator", to="plain", within=("arm",)),
        dict(by="arm", to="batch_64", within=("operator",)),
        dict(by="operator", to="plain", within=("arm",), change_from="arm=batch_16"),
    ),
    "study_operators": (
        dict(by="operator", to="plain"),
        dict(by="operator", to="plain", training=(600, 1000)),
    ),
    "study_overfit": (dict(by="operator", to="plain"),),
    "study_regularizers": (
        dict(by="operator", to="plain", within=("filters",)),
        dict(by="operator", to="plain", within=("filters",), statistics="running"),
    ),
    "study_resnet": (
        dict(by="operator", to="plain", training=(600, 1000)),
        dict(by="operator", to="plain"),
    ),
    "study_width": (dict(by="operator", to="plain", within=("width",)),),
}
for other in ("study_eighth", "study_operators"):
    change = dict(by="operator", to="plain", within=("family",))
    COMPARED[f"study_half {other}"] = (change | {"change_from": f"family={other}"},)


def test_there_are_results():
    assert len(FAMILIES) >= 3


@pytest.mark.parametrize("folder", FAMILIES, ids=lambda folder: folder.name)
def test_tables_are_made_of_the_records_and_quoted_as_they_are(folder):
    records = experiments.read_records(folder)
    rows = _table.rows_of(records)
    choices = [name for name in records[0].choices if name != "scale"]
    table = _table.to_markdown(rows, choices)
    assert (folder / "table.md").read_text(encoding="utf-8") == table
    assert (folder / "table.csv").read_text(encoding="utf-8") == _table.to_csv(rows)
    assert (folder / "curves.png").is_file()
    assert table in DOCS


@pytest.mark.parametrize(
    ("name", "options"),
    [(name, options) for name, each in COMPARED.items() for options in each],
)
def test_comparisons_are_made_of_the_records_and_quoted_as_they_are(name, options):
    records = [
        record
        for folder in name.split()
        for record in experiments.read_records(ROOT / "results" / "small" / folder)
    ]
    found = experiments.compare(records, **options)
    told = {name: options.get(name, "") for name in ("to", "change_from")}
    assert experiments.comparison_to_markdown(found, **told) in DOCS


@pytest.mark.parametrize("folder", FAMILIES, ids=lambda folder: folder.name)
def test_records_are_of_the_configs_as_they_are_now(folder):
    make = importlib.import_module(f"configs.{folder.name}").get_config
    for record in experiments.read_records(folder):
        pairs = ",".join(f"{k}={v}" for k, v in record.choices.items())
        config = make(pairs)
        told = record.config
        assert told["seed"] == record.seed
        assert told["steps"] == config.steps
        assert told["batch_size"] == config.batch_size
        kept = training.from_json(json.dumps(told))
        for part in ("model", "loss", "optim"):
            assert getattr(kept, part) == getattr(config, part)


def test_no_record_names_a_folder_of_one_machine():
    for path in (ROOT / "results").rglob("seed*.json"):
        text = path.read_text(encoding="utf-8")
        assert not re.search(r'": "/\w', text), path


def test_a_momentum_of_averages_changes_nothing_that_is_learned():
    curves = {}
    for record in experiments.read_records(ROOT / "results/small/study_momentum"):
        kept = {name: record.curves[name] for name in ("train", "test@recalibrated")}
        curves.setdefault((record.choices["operator"], record.seed), []).append(kept)
    assert len(curves) == 12
    assert all(one == other for one, other in curves.values())
