"""Draws our curves over the published ones: what converges, and by which statistics.

python results/convergence.py results/small/ablation_loss
python results/convergence.py --training=600-1000 --training=2100-4000
"""

import argparse
import json
import sys
from collections.abc import Mapping, Sequence
from pathlib import Path

import numpy as np
from matplotlib.figure import Figure

from hypersphere import experiments, viz

HERE = Path(__file__).parent

_SMOOTH = 9  # logged batches that a published training curve is averaged over

_COLORS = {
    "plain": viz.PALETTE[2],
    "cosine": viz.PALETTE[0],
    "linear": viz.PALETTE[1],
    "sigmoid": viz.PALETTE[4],
    "learnable_sigmoid": viz.PALETTE[3],
}

Curves = dict[str, dict[str, tuple[np.ndarray, np.ndarray]]]


def published_curves(path: Path | str) -> Curves:
    """The accuracies of published logs.

    Args:
        path: A JSON file as `results/published/curves.json`.

    Returns:
        Network -> `train` and `test` -> steps and accuracies in [0, 1].

    Raises:
        ValueError: If the file holds no such curves.
    """
    try:
        stored = json.loads(Path(path).read_text(encoding="utf-8"))["curves"]
        return {
            network: {split: _columns(curve) for split, curve in splits.items()}
            for network, splits in stored.items()
        }
    except (KeyError, TypeError, AttributeError, json.JSONDecodeError) as error:
        raise ValueError(f"{path} holds no published curves ({error}).") from error


def draw_convergence(
    records: Sequence[experiments.Record], published: Curves, *, caption: str = ""
) -> Figure:
    """Draws each operator's runs, and dashed the published one, over log steps.

    Four panels: training batches, and test images by running averages that start at
    zero, by the same divided by how full they are, and by batch statistics. The
    networks of the last three are the same; only their normalization differs. A
    published training curve, of one batch per 100 steps, is drawn as means of nine.

    Args:
        records: Of one scale; of `ablation_loss` those with `loss=softmax` are taken.
        published: From `published_curves`.
        caption: A line below the figure.

    Returns:
        The figure.
    """
    panels: dict[str, dict[str, viz.Bundle]] = {}
    for operator, color in _COLORS.items():
        runs = [
            record
            for record in records
            if record.choices.get("operator") == operator
            and record.choices.get("loss", "softmax") == "softmax"
        ]
        ours = {
            "training batches": [r.train_curve() for r in runs],
            "test, averages from zero": [r.curve("running") for r in runs],
            "test, averages debiased": [r.curve("debiased") for r in runs],
            "test, batch statistics": [r.curve("batch") for r in runs],
        }
        for column, found in ours.items():
            panel = panels.setdefault(column, {})
            if any(len(steps) for steps, _ in found):
                panel[operator] = experiments.bundle(found)._replace(color=color)
        theirs = published.get(operator, {})
        for column, split in zip(ours, ("train", "test"), strict=False):
            if split in theirs:
                steps, values = theirs[split]
                if split == "train":
                    steps, values = _smooth(steps, values)
                panels[column][f"{operator}, published"] = viz.Bundle(
                    steps, values[None], dashed=True, color=color
                )
    return viz.curve_grid({"": panels}, caption=caption, log_steps=True)


def training_batches(published: Curves, first: int, last: int) -> list[str]:
    """Of each published network the mean over logged training batches.

    Args:
        published: From `published_curves`.
        first: Step of the first batch.
        last: Step of the last one.

    Returns:
        A line a network: accuracy in training mode, and its standard error over these
        batches, which is that of one run.

    Raises:
        ValueError: If there are fewer than two logged batches.
    """
    lines = []
    for network, splits in published.items():
        steps, values = splits["train"]
        inside = 100 * values[(steps >= first) & (steps <= last)]
        if len(inside) < 2:
            raise ValueError(
                f"{network} has {len(inside)} batches at {first} to {last}."
            )
        error = inside.std(ddof=1) / np.sqrt(len(inside))
        lines.append(
            f"{network}, steps {first} to {last}: {inside.mean():.1f} ± {error:.1f} % "
            f"(n = {len(inside)} batches)"
        )
    return lines


def _columns(curve: Mapping) -> tuple[np.ndarray, np.ndarray]:
    accuracies = np.array(curve["accuracy"], float)
    return curve["every"] * np.arange(1, len(accuracies) + 1), accuracies


def _smooth(steps: np.ndarray, values: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
    """Means of so many, each at the middle one's step: none where there are fewer."""
    half = _SMOOTH // 2
    if len(values) < _SMOOTH:
        return steps, values
    inside = slice(half, len(values) - half)
    return steps[inside], viz.moving_average(values, _SMOOTH)[inside]


def main() -> None:
    """Writes the figure, or tells of the published logs."""
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument(
        "records", nargs="?", help="such as results/small/ablation_loss"
    )
    parser.add_argument(
        "--training",
        action="append",
        default=[],
        metavar="FIRST-LAST",
        help="of the published logs, what training batches between two steps have",
    )
    parser.add_argument("--out", default=str(HERE / "convergence.png"))
    parser.add_argument("--caption", default="", help="a line below the figure")
    options = parser.parse_args()
    published = published_curves(HERE / "published" / "curves.json")
    if not options.records and not options.training:
        parser.error("it takes a folder of records, or --training; --help explains.")
    for steps in options.training:
        try:
            lines = training_batches(published, *map(int, steps.split("-")))
        except (TypeError, ValueError) as error:
            parser.error(
                f"--training needs steps such as 600-1000, got {steps}: {error}"
            )
        sys.stdout.write("\n".join(lines) + "\n")
    if not options.records:
        return
    records = experiments.read_records(options.records)
    figure = draw_convergence(records, published, caption=options.caption)
    viz.save(figure, Path(options.out))


if __name__ == "__main__":
    main()
