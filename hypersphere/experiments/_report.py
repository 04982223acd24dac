"""From the records of a family to its table and its figure."""

import json
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import numpy as np

from hypersphere import viz
from hypersphere._files import write_atomically
from hypersphere.experiments._record import Record, read_records
from hypersphere.experiments._table import (
    STATISTICS,
    by_variant,
    rows_of,
    to_csv,
    to_markdown,
)
from hypersphere.training import FREE_TO_CHANGE, differences, from_json

_COLUMNS = {
    "running": "test, running averages",
    "debiased": "test, debiased averages",
    "batch": "test, batch statistics",
    "recalibrated": "test, recalibrated statistics",
}


def report(folder: Path | str) -> list[Path]:
    """Writes `table.md`, `table.csv` and `curves.png` from the records in a folder.

    Args:
        folder: Of one family and scale, such as `results/small/ablation_loss`.

    Returns:
        The files written; none if there is no record.

    Raises:
        ValueError: If a file is no record, or records do not belong into one table:
            their parameters, data or precision are not the same, or runs that differ in
            the seed differ in more.
    """
    folder = Path(folder).expanduser()
    records = read_records(folder)
    if not records:
        return []
    _check_comparable(folder, records)
    rows = rows_of(records)
    choices = [name for name in records[0].choices if name != "scale"]
    write_atomically(folder / "table.csv", to_csv(rows).encode())
    write_atomically(folder / "table.md", to_markdown(rows, choices).encode())
    files = [folder / "table.md", folder / "table.csv"]
    grid = curves(records, choices)
    if any(grid.values()):
        figure = viz.curve_grid(
            grid,
            title=records[0].family,
            caption="Means over seeds, and all between their extremes.",
        )
        files.append(viz.save(figure, folder / "curves.png"))
    return files


def _check_comparable(folder: Path, records: Sequence[Record]) -> None:
    """Raises where one table would compare what is not alike."""
    for record in records:
        _refuse(folder, record, _kind(record), _kind(records[0]))
    for group in by_variant(records).values():
        first = from_json(json.dumps(group[0].config))
        for record in group:
            here = from_json(json.dumps(record.config))
            found = differences(first, here, FREE_TO_CHANGE | {"seed"})
            _refuse(folder, record, found, [])


def _kind(record: Record) -> dict[str, Any]:
    """What all runs of a table have in common."""
    return {
        "parameters": sorted(record.choices),
        "data": record.config.get("data", {}).get("source"),
        "dtype": record.config.get("model", {}).get("dtype"),
    }


def _refuse(folder: Path, record: Record, told: Any, expected: Any) -> None:
    if told != expected:
        raise ValueError(
            f"{folder} has runs that do not belong into one table: seed {record.seed} "
            f"of {dict(record.choices)} has {told}, where others have {expected}. Keep "
            "them in folders of their own (--out)."
        )


def curves(
    records: Sequence[Record], choices: Sequence[str]
) -> dict[str, dict[str, dict[str, viz.Bundle]]]:
    """Panels: a row for each value of the other parameters, a line for each operator.

    Args:
        records: Of one family and scale.
        choices: The names of its parameters.
    """
    along = "operator" if "operator" in choices else next(iter(choices), "")
    others = [name for name in choices if name != along]
    grid: dict[str, dict[str, dict[str, viz.Bundle]]] = {}
    for group in by_variant(records).values():
        values = group[0].choices
        row = ", ".join(f"{name}={values[name]}" for name in others)
        line = str(values[along]) if along else group[0].family
        bundles = {"training batches": bundle([r.train_curve() for r in group])}
        for name in STATISTICS:
            bundles[_COLUMNS[name]] = bundle([r.curve(name) for r in group])
        for column, found in bundles.items():
            if len(found.steps) > 1:  # one evaluation is no curve
                grid.setdefault(row, {}).setdefault(column, {})[line] = found
    return grid


def bundle(runs: Sequence[tuple[np.ndarray, np.ndarray]]) -> viz.Bundle:
    """Runs as one array, at the steps that most of them have.

    A run that was interrupted has a line of its own where it stopped.

    Args:
        runs: Steps and values of each, both of shape (points,).

    Returns:
        What `viz.curve_grid` draws: values that a run lacks are NaN.

    Example:
        >>> import numpy as np
        >>> from hypersphere import experiments
        >>> one, two = (np.array([1, 2]), np.ones(2)), (np.array([1, 3]), np.zeros(2))
        >>> experiments.bundle([one, two]).steps
        array([1])
    """
    steps, counts = np.unique(
        np.concatenate([at for at, _ in runs]), return_counts=True
    )
    steps = steps[2 * counts > len(runs)]
    values = np.full((len(runs), len(steps)), np.nan)
    for row, (at, accuracy) in zip(values, runs, strict=True):
        is_common = np.isin(at, steps)
        row[np.searchsorted(steps, at[is_common])] = accuracy[is_common]
    return viz.Bundle(steps, values)
