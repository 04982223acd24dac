"""The look that all pictures share: colors, figure, axes, the PNG file."""

import os
from collections.abc import Sequence
from math import ceil, sqrt
from pathlib import Path

import numpy as np
from matplotlib.axes import Axes
from matplotlib.backends.backend_agg import FigureCanvasAgg
from matplotlib.figure import Figure

INK, QUIET, RULE, PAPER = "#22262b", "#6f7782", "#d5d9df", "#ffffff"
DPI = 150
_MOST_PANELS = 12

# Ten colors told apart by people with any of the common color-vision deficiencies:
# Petroff, Accessible Color Sequences for Data Visualization. arXiv 2107.02270.
PALETTE = (
    "#3f90da",
    "#ffa90e",
    "#bd1f01",
    "#94a4a2",
    "#832db6",
    "#a96b59",
    "#e76300",
    "#b9ac70",
    "#717581",
    "#92dadd",
)


def new_figure(
    width: float, height: float, *, title: str = "", caption: str = ""
) -> Figure:
    """An empty white figure, `width` by `height` inches, unknown to pyplot."""
    figure = Figure(
        figsize=(width, height), dpi=DPI, layout="constrained", facecolor=PAPER
    )
    FigureCanvasAgg(figure)
    if title:
        figure.suptitle(title, color=INK, fontsize=12, fontweight="bold")
    if caption:
        figure.supxlabel(caption, color=QUIET, fontsize=8)
    return figure


def layer_panels(
    names: Sequence[str], *, title: str, caption: str
) -> tuple[Figure, dict[str, Axes]]:
    """A figure with a panel a layer; of more than 12, 12 evenly chosen ones."""
    chosen = np.linspace(0, len(names) - 1, min(len(names), _MOST_PANELS)).round()
    names = [names[int(index)] for index in chosen]
    columns = len(names) if len(names) <= 3 else ceil(sqrt(len(names)))
    rows = ceil(len(names) / columns)
    width, height = max(2.6 * columns, 4.2), 1.9 * rows + 0.9
    figure = new_figure(width, height, title=title, caption=caption)
    grid = figure.subplots(rows, columns, squeeze=False).ravel()
    for axes in grid[len(names) :]:
        axes.set_axis_off()
    return figure, dict(zip(names, grid, strict=False))


def plain_axes(axes: Axes) -> None:
    """Two thin axis lines, small gray numbers, no box."""
    axes.set_facecolor(PAPER)
    axes.grid(visible=False)
    axes.spines[["top", "right"]].set_visible(False)
    axes.spines[["left", "bottom"]].set_visible(True)
    axes.spines[["left", "bottom"]].set_color(RULE)
    axes.tick_params(
        which="both", color=RULE, labelcolor=QUIET, labelsize=8, direction="out"
    )


def bare_axes(axes: Axes) -> None:
    """No axis lines at all, and one unit as long to the right as upwards."""
    axes.set_axis_off()
    axes.set_aspect("equal")


def panel_title(axes: Axes, text: str, *, pad: float = 6.0) -> None:
    """A small heading, `pad` points over one panel."""
    axes.set_title(text, color=INK, fontsize=10, pad=pad)


def save(figure: Figure, path: Path) -> Path:
    """Write `figure` as a PNG that is either complete or not there."""
    path.parent.mkdir(parents=True, exist_ok=True)
    partial = path.with_name(f".{path.name}.{os.getpid()}.part")
    try:
        figure.savefig(
            partial, format="png", dpi=DPI, facecolor=PAPER, bbox_inches=None
        )
        os.replace(partial, path)
    finally:
        partial.unlink(missing_ok=True)
    return path
