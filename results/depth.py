"""How the gradient fares from the last layer to the first, and how far layers turn.

python results/depth.py results/small/study_depth --plot

Prints, for each depth and operator, the gradient of the first convolution's filters as
a share of the last one's, and the same of the angle that a step turns them by, at the
first and at the last log line: geometric means over the seeds and their extremes. With
--plot, a picture of all layers, `gradients.png`, in the folder of the study.
"""

import argparse
import re
import sys
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

import numpy as np
from scipy import stats

from hypersphere import experiments

KINDS = {"gradient": "norm of the gradient", "turn": "turn of a step (radians)"}
WHEN = {"first": 0, "last": -1}

Group = tuple[int, str]


def groups_of(records: Sequence[Any]) -> Mapping[Group, list[Any]]:
    """The runs of each depth and operator, the plain ones first."""
    found: dict[Group, list[Any]] = {}
    for record in records:
        key = (record.choices["depth"], record.choices["operator"])
        found.setdefault(key, []).append(record)
    order = sorted(found, key=lambda key: (key[0], key[1] != "plain", key[1]))
    return {key: found[key] for key in order}


def by_layer(records: Sequence[Any], kind: str, line: int) -> np.ndarray:
    """Runs x convolutions from the first to the last, at one log line.

    Raises:
        ValueError: If a run has no such numbers.
    """
    rows = []
    for record in records:
        train = record.curves["train"]
        names = [name for name in train if re.match(rf"{kind}/stages\.", name)]
        if not names:
            raise ValueError(
                f"The figure needs runs with `log_geometry`, got seed {record.seed} of "
                f"{dict(record.choices)} without any {kind}/stages.*."
            )
        names.sort(
            key=lambda name: [int(number) for number in re.findall(r"\d+", name)]
        )
        rows.append([train[name][line] for name in names])
    return np.array(rows, float)


def table(records: Sequence[Any]) -> str:
    """The shares by depth and operator, in Markdown."""
    cells = [f"{kind}, {when} line" for kind in KINDS for when in WHEN]
    head = ["depth", "operator", "n", *cells]
    rows = ["| " + " | ".join(head) + " |", "|" + "---|" * len(head)]
    for (depth, operator), runs in groups_of(records).items():
        row = [str(depth), operator, str(len(runs))]
        for kind in KINDS:
            for line in WHEN.values():
                values = by_layer(runs, kind, line)
                share = values[:, 0] / values[:, -1]
                mean = stats.gmean(share)
                row.append(f"{mean:.2g} ({share.min():.2g} to {share.max():.2g})")
        rows.append("| " + " | ".join(row) + " |")
    return "\n".join(rows) + "\n"


def draw(records: Sequence[Any]) -> Any:
    """A panel for each depth and kind: every layer, at the first and the last line."""
    from hypersphere.viz import PALETTE
    from hypersphere.viz._style import QUIET, new_figure, panel_title, plain_axes

    groups = groups_of(records)
    depths = sorted({depth for depth, _ in groups})
    operators = list(dict.fromkeys(operator for _, operator in groups))
    steps = next(iter(groups.values()))[0].curves["train"]["step"]
    figure = new_figure(
        *(3.6 * len(depths) + 1.2, 5.4),
        title="Gradients by layer",
        caption=f"At step {steps[0]:,} (solid) and {steps[-1]:,} (dashed): geometric "
        "means over seeds, and all between their extremes.",
    )
    panels = figure.subplots(len(KINDS), len(depths), squeeze=False, sharey="row")
    for row, (kind, told) in zip(panels, KINDS.items(), strict=True):
        for axes, depth in zip(row, depths, strict=True):
            plain_axes(axes)
            axes.set_yscale("log")
            axes.xaxis.get_major_locator().set_params(integer=True)
            panel_title(axes, f"{depth} layers")
            for operator, color in zip(operators, PALETTE, strict=False):
                for line, style in zip(WHEN.values(), ("-", "--"), strict=True):
                    values = by_layer(groups[depth, operator], kind, line)
                    layers = np.arange(1, values.shape[1] + 1)
                    mean = stats.gmean(values)
                    label = operator if style == "-" else None
                    axes.plot(layers, mean, style, color=color, label=label, lw=1.2)
                    low, high = values.min(0), values.max(0)
                    axes.fill_between(layers, low, high, color=color, alpha=0.15, lw=0)
        row[0].set_ylabel(told, color=QUIET, fontsize=8)
    for axes in panels[-1]:
        axes.set_xlabel("convolution, from the image", color=QUIET, fontsize=8)
    panels[0, 0].legend(frameon=False, fontsize=8)
    return figure


def main() -> None:
    """Prints the table, and draws the picture."""
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument("study", type=Path, help="such as results/small/study_depth")
    parser.add_argument("--plot", action="store_true", help="gradients.png as well")
    options = parser.parse_args()
    records = experiments.read_records(options.study)
    sys.stdout.write(table(records))
    if options.plot:
        from hypersphere.viz import save

        save(draw(records), options.study / "gradients.png")


if __name__ == "__main__":
    main()
