"""One row per combination: what its runs reached, in Markdown and CSV."""

import csv
import io
import json
import math
from collections.abc import Mapping, Sequence
from typing import Any

import numpy as np

from hypersphere.experiments._record import Record

STATISTICS = ("running", "debiased", "batch", "recalibrated")

REACH = {"paper": (0.8, 0.85, 0.9), "small": (0.4, 0.5, 0.55)}
"""Test accuracies to which the steps are counted, by scale."""

_BASELINES = ("plain", "softmax", "batch")

Row = dict[str, Any]


def by_variant(records: Sequence[Record]) -> dict[str, list[Record]]:
    """Records with the same parameters, by these as text; baselines come first."""
    groups: dict[str, list[Record]] = {}
    for record in records:
        groups.setdefault(json.dumps(record.choices), []).append(record)
    return dict(sorted(groups.items(), key=lambda pair: _place(pair[1][0])))


def _place(record: Record) -> list[tuple[bool, float, str]]:
    """Where a combination comes: what others are measured by first, then in order."""
    return [
        (value not in _BASELINES, float(value), "")
        if isinstance(value, int | float)
        else (value not in _BASELINES, 0.0, str(value))
        for value in record.choices.values()
    ]


def rows_of(records: Sequence[Record]) -> list[Row]:
    """One row per combination of parameters.

    Args:
        records: Of one family and scale.

    Returns:
        Rows of the same columns: the parameters but the scale; `n` runs, of which
        `diverged`; for each part, and each statistics of batch normalization, that was
        evaluated the mean and the sample deviation of the last accuracies, in [0, 1],
        of runs that did not diverge (NaN without any, or for the deviation of one); the
        accuracy on training batches in training mode at the end; the median number of
        steps to fixed test accuracies, infinite where most runs did not get there;
        parameters; examples per second.
    """
    used = [name for name in STATISTICS if any(len(r.curve(name)[0]) for r in records)]
    judged = [
        (part, name)
        for part in ("validation", "test")
        for name in used
        if part == "test" or any(math.isfinite(r.accuracy(name, part)) for r in records)
    ]
    return [_row(group, used, judged) for group in by_variant(records).values()]


def _row(
    group: Sequence[Record], used: Sequence[str], judged: Sequence[tuple[str, str]]
) -> Row:
    choices = dict(group[0].choices)
    row: Row = {name: value for name, value in choices.items() if name != "scale"}
    row |= {"n": len(group), "diverged": sum(bool(r.diverged) for r in group)}
    for part, name in judged:
        found = [r.accuracy(name, part) for r in group]
        row |= _spread(f"{part}_{name}", found)
    row |= _spread("train", [_last(r) for r in group])
    for accuracy in REACH.get(choices.get("scale", "paper"), ()):
        for name in used:
            steps = [r.steps_to(accuracy, name) for r in group]
            row[f"steps_to_{accuracy:g}_{name}"] = float(np.median(steps))
    finished = [r.result for r in group if not r.diverged]
    row["parameters"] = finished[0]["parameters"] if finished else math.nan
    speeds = [result["examples_per_second"] for result in finished]
    row["examples_per_second"] = (
        round(float(np.mean(speeds)), 1) if speeds else math.nan
    )
    return row


def _last(record: Record) -> float:
    _, values = record.train_curve()
    return math.nan if record.diverged or not len(values) else float(values[-1])


def _spread(name: str, values: Sequence[float]) -> Row:
    """Mean and sample deviation of the numbers among them."""
    known = [value for value in values if math.isfinite(value)]
    return {
        f"{name}_mean": float(np.mean(known)) if known else math.nan,
        f"{name}_std": float(np.std(known, ddof=1)) if len(known) > 1 else math.nan,
    }


def to_csv(rows: Sequence[Row]) -> str:
    """All columns, numbers as they are."""
    text = io.StringIO()
    writer = csv.DictWriter(text, list(rows[0]), lineterminator="\n")
    writer.writeheader()
    for row in rows:
        rounded = {
            k: round(v, 6) if isinstance(v, float) else v for k, v in row.items()
        }
        writer.writerow(rounded)
    return text.getvalue()


def to_markdown(rows: Sequence[Row], choices: Sequence[str]) -> str:
    """For people: percentages with deviations, steps to one accuracy, what diverged.

    Args:
        rows: From `rows_of`.
        choices: The columns that are parameters.
    """
    columns = [name for name in rows[0] if name.endswith("_mean")]
    reach = [name for name in rows[0] if name.startswith("steps_to_")]
    used = len([name for name in columns if name.startswith("test_")])
    reach = reach[used : 2 * used]  # of the accuracies, the second
    if not any(math.isfinite(row[name]) for row in rows for name in reach):
        reach = []
    head = [
        *choices,
        "n",
        *(_title(name) for name in columns),
        *(_title(name) for name in reach),
    ]
    has_diverged = any(row["diverged"] for row in rows)
    head += ["diverged"] if has_diverged else []
    lines = ["| " + " | ".join(head) + " |", "|" + "---|" * len(head)]
    for row in rows:
        cells = [str(row[name]) for name in (*choices, "n")]
        cells += [_percent(row, name.removesuffix("_mean")) for name in columns]
        cells += [_steps(row[name]) for name in reach]
        cells += [str(row["diverged"])] if has_diverged else []
        lines.append("| " + " | ".join(cells) + " |")
    return "\n".join(lines) + "\n"


def _title(column: str) -> str:
    if column == "train_mean":
        return "train %"
    if column.startswith(("test_", "validation_")):
        part, _, statistics = column.removesuffix("_mean").partition("_")
        return f"{part} %, {statistics}"
    accuracy, _, statistics = column.removeprefix("steps_to_").partition("_")
    return f"steps to {100 * float(accuracy):g} %, {statistics}"


def _percent(row: Mapping[str, Any], name: str) -> str:
    mean, std = 100 * row[f"{name}_mean"], 100 * row[f"{name}_std"]
    if math.isnan(mean):
        return "–"
    return f"{mean:.1f}" if math.isnan(std) else f"{mean:.1f} ± {std:.1f}"


def _steps(value: float) -> str:
    return f"{value:,.0f}" if math.isfinite(value) else "–"
