"""What is kept of a run: a small JSON file, of which tables and figures are made."""

import dataclasses
import json
import math
import re
from collections.abc import Mapping
from pathlib import Path
from typing import Any

import numpy as np

from hypersphere._files import write_atomically
from hypersphere.training import TrainConfig, to_json
from hypersphere.viz import read_metrics

Curve = dict[str, list[int | float | None]]

_DIGITS = 5


@dataclasses.dataclass(frozen=True, kw_only=True)
class Record:
    """One run.

    Args:
        family: The config file's name without its ending.
        choices: Its parameters; empty for a config without.
        seed: The run's seed.
        config: The whole config as JSON values, its durations as they were written.
        result: What `result.json` held; empty for a run that diverged.
        diverged: Why a run ended early, or empty.
        curves: Split -> column -> values, one per evaluation or log line. Accuracies
            are in [0, 1], losses in nats; with `config.log_geometry` the norm of each
            kernel's gradient is among them, `gradient/PATH`, and how far a step turned
            its filters, `turn/PATH` in radians.
    """

    family: str
    choices: Mapping[str, Any]
    seed: int
    config: Mapping[str, Any]
    result: Mapping[str, Any]
    diverged: str
    curves: Mapping[str, Curve]

    def accuracy(self, statistics: str = "running", part: str = "test") -> float:
        """The last evaluation on the most images; NaN if diverged or missing."""
        split = _split(self.curves, part, statistics, most_points=False)
        if self.diverged or split is None:
            return math.nan
        return float(_columns(self.curves[split])[1][-1])

    def curve(self, statistics: str = "running") -> tuple[np.ndarray, np.ndarray]:
        """Steps and test accuracies of the split with the most evaluations."""
        split = _split(self.curves, "test", statistics, most_points=True)
        if split is None:
            return np.zeros(0, int), np.zeros(0)
        return _columns(self.curves[split])

    def train_curve(self) -> tuple[np.ndarray, np.ndarray]:
        """Steps and accuracies on training batches, in training mode."""
        return _columns(self.curves.get("train", {"step": [], "accuracy": []}))

    def train_accuracy(self, first: int, last: int) -> float:
        """The mean of logged training batches of these steps; NaN if diverged or none.

        A logged number is itself a mean over the steps since the one before.
        """
        steps, values = self.train_curve()
        inside = values[(steps >= first) & (steps <= last)]
        return math.nan if self.diverged or not len(inside) else float(inside.mean())

    def steps_to(self, accuracy: float, statistics: str = "running") -> float:
        """The first evaluation that reaches a test accuracy; infinite if none does."""
        steps, values = self.curve(statistics)
        reached = steps[values >= accuracy]
        return float(reached[0]) if len(reached) else math.inf


def make_record(
    folder: Path,
    config: TrainConfig,
    *,
    family: str,
    choices: Mapping[str, Any],
    diverged: str = "",
) -> Record:
    """The record of a run that has ended, from the files in its folder."""
    result = {} if diverged else json.loads((folder / "result.json").read_text())
    told = dataclasses.replace(config.data, data_dir="")  # of one machine only
    config = dataclasses.replace(config, data=told)
    return Record(
        family=family,
        choices=dict(choices),
        seed=config.seed,
        config=json.loads(to_json(config)),
        result=result,
        diverged=diverged,
        curves=_curves(folder / "metrics.jsonl"),
    )


def write_record(path: Path, record: Record) -> None:
    """Writes a record, whole or not at all."""
    text = json.dumps(dataclasses.asdict(record), indent=1)
    # A list of numbers on one line, or a run would be thousands of lines long.
    text = re.sub(r"\[[^\[\]{}\"]*\]", lambda m: " ".join(m[0].split()), text)
    write_atomically(path, f"{text}\n".encode())


def read_record(path: Path) -> Record:
    """Reads a record.

    Raises:
        ValueError: If the file is no record.
    """
    try:
        return Record(**json.loads(path.read_text(encoding="utf-8")))
    except (TypeError, ValueError) as error:
        raise ValueError(
            f"{path} is not the record of a run ({error}): `run` makes it anew."
        ) from error


def read_records(folder: Path | str) -> list[Record]:
    """All records below a folder, in the order of their paths.

    Args:
        folder: Such as `results/small/ablation_loss`.

    Returns:
        The records; none if the folder is not there.

    Raises:
        ValueError: If a file is no record; it is named.
    """
    return [read_record(path) for path in sorted(Path(folder).rglob("seed*.json"))]


def _curves(path: Path) -> dict[str, Curve]:
    if not path.is_file() or not path.stat().st_size:  # lost before its first log
        return {}
    kept = ("step", "accuracy", "loss", "gradient", "turn")
    return {
        split: {
            name: [_short(value) for value in values.tolist()]
            for name, values in table.items()
            if name.partition("/")[0] in kept
        }
        for split, table in read_metrics(path).items()
    }


def _short(value: int | float) -> int | float | None:
    """Few digits; JSON has no NaN, so a number that is not finite becomes null."""
    if isinstance(value, int):
        return value
    return float(f"{value:.{_DIGITS}g}") if math.isfinite(value) else None


def _columns(curve: Curve) -> tuple[np.ndarray, np.ndarray]:
    return np.array(curve["step"], int), np.array(curve["accuracy"], float)


def _split(
    curves: Mapping[str, Curve], part: str, statistics: str, *, most_points: bool
) -> str | None:
    """The split of a part with these statistics: most points, or most images."""
    tag = "" if statistics == "running" else f"@{statistics}"
    found = {
        split: int(match[1] or 10**9)  # without a number, all images
        for split in curves
        if (match := re.fullmatch(rf"{part}{tag}(?: of (\d+))?", split))
    }
    if not found:
        return None
    points = {split: len(curves[split]["step"]) for split in found}
    key = points if most_points else found
    return max(found, key=lambda split: (key[split], found[split]))
