"""A run's `metrics.jsonl`, read back as columns."""

import json
from os import PathLike
from pathlib import Path
from typing import Any

import numpy as np


def read_metrics(path: str | PathLike[str]) -> dict[str, dict[str, np.ndarray]]:
    r"""The numbers of a run's `metrics.jsonl`, split by split, ordered by step.

    Lines that are no JSON object with a `step` and a `split` are passed over: a killed
    run leaves a half-written line. Where a resumed run has written a step again, the
    later line counts.

    Args:
        path: The file, one JSON object a line.

    Returns:
        For each split its columns, float64 of shape (steps,), NaN where a line has no
        such number; `step` is int64, strictly increasing. `time` is in seconds.

    Raises:
        FileNotFoundError: If there is no such file.
        ValueError: If no line can be read.

    Example:
        >>> import pathlib, tempfile
        >>> path = pathlib.Path(tempfile.mkdtemp(), "metrics.jsonl")
        >>> _ = path.write_text('{"step": 5, "split": "test", "loss": 0.5}\n{"ste')
        >>> read_metrics(path)
        {'test': {'step': array([5]), 'loss': array([0.5])}}
    """
    path = Path(path)
    if not path.is_file():
        raise FileNotFoundError(
            f"read_metrics needs `path` to be a file, got path='{path}'. "
            "A run writes metrics.jsonl into its folder at its first log step."
        )
    rows: dict[str, dict[int, dict[str, float]]] = {}
    for line in path.read_text(encoding="utf-8", errors="replace").splitlines():
        record = _record(line)
        if record is not None:
            rows.setdefault(record["split"], {})[record["step"]] = _numbers(record)
    if not rows:
        raise ValueError(
            "read_metrics needs at least one line such as "
            '{"step": 50, "split": "train", "loss": 0.4}, got none in '
            f"path='{path}'. Has the run reached its first log step?"
        )
    return {split: _columns(by_step) for split, by_step in rows.items()}


def _record(line: str) -> dict[str, Any] | None:
    try:
        record = json.loads(line)
    except json.JSONDecodeError:
        return None
    is_row = isinstance(record, dict) and isinstance(record.get("step"), int)
    return record if is_row and isinstance(record.get("split"), str) else None


def _numbers(record: dict[str, Any]) -> dict[str, float]:
    return {k: float(v) for k, v in record.items() if isinstance(v, int | float)}


def _columns(by_step: dict[int, dict[str, float]]) -> dict[str, np.ndarray]:
    ordered = [by_step[step] for step in sorted(by_step)]
    names = dict.fromkeys(name for row in ordered for name in row)
    columns = {
        name: np.array([row.get(name, np.nan) for row in ordered], np.float64)
        for name in names
    }
    return columns | {"step": np.array(sorted(by_step), np.int64)}
