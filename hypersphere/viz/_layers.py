"""What a training step does to each layer, against step."""

from collections.abc import Mapping

import numpy as np
from matplotlib import colormaps
from matplotlib.axes import Axes
from matplotlib.figure import Figure
from matplotlib.ticker import FuncFormatter, LogLocator, MaxNLocator, NullFormatter

from hypersphere.viz._curves import moving_average
from hypersphere.viz._style import QUIET, new_figure, panel_title, plain_axes

_PANELS = {
    "turn": "angle a step turns filters by (radians)",
    "gradient": "norm of the gradient",
    "energy": "energy of the filters",
}
_LOGARITHMIC = ("turn", "gradient")
_MOST_NAMES = 16


def layer_curves(
    metrics: Mapping[str, Mapping[str, np.ndarray]], *, title: str = ""
) -> Figure:
    """What a step does to the filters of each layer, and their energy, against step.

    From dark to bright as layers are named and numbered, the head last. A line of more
    than 50 points is a moving average. Angles and gradients have a logarithmic axis, on
    which those of zero are missing.

    Args:
        metrics: What `read_metrics` returns; of "train" the columns `turn/PATH`, in
            radians, `gradient/PATH` and `energy/PATH` are drawn.
        title: Heading of the figure.

    Returns:
        The figure, one panel a quantity.

    Raises:
        ValueError: If there is no such column with a finite number in it.
    """
    panels = {
        quantity: lines for quantity in _PANELS if (lines := _lines(metrics, quantity))
    }
    if not panels:
        columns = {split: sorted(table) for split, table in metrics.items()}
        raise ValueError(
            "layer_curves needs columns such as `turn/conv.kernel` in the split "
            f"'train', got metrics with columns {columns}. A run writes them with "
            "config.log_geometry=True."
        )
    paths = list(dict.fromkeys(path for lines in panels.values() for path in lines))
    shades = colormaps["viridis"](np.linspace(0.0, 0.88, len(paths)))
    colors = dict(zip(paths, shades, strict=True))
    names = 0.0 if len(paths) > _MOST_NAMES else 2.2
    figure = new_figure(4.4 * len(panels) + names, 3.4, title=title)
    grid = figure.subplots(1, len(panels), squeeze=False)[0]
    for axes, (quantity, lines) in zip(grid, panels.items(), strict=True):
        _draw_panel(axes, quantity, lines, colors)
    if names:
        handles = [grid[0].plot([], [], color=colors[p], label=p)[0] for p in paths]
        figure.legend(
            handles=handles,
            loc="outside right center",
            fontsize=7,
            frameon=False,
            labelcolor=QUIET,
        )
    return figure


def has_layers(metrics: Mapping[str, Mapping[str, np.ndarray]]) -> bool:
    """Whether there is something for `layer_curves` to draw."""
    return any(_lines(metrics, quantity) for quantity in _PANELS)


def _lines(
    metrics: Mapping[str, Mapping[str, np.ndarray]], quantity: str
) -> dict[str, tuple[np.ndarray, np.ndarray]]:
    """Path -> steps and values, in the order in which layers are numbered."""
    train, lines = metrics.get("train", {}), {}
    for column in sorted(train, key=_by_number):
        kind, _, path = column.partition("/")
        values = np.asarray(train[column])
        shown = np.isfinite(values) & ((values > 0) | (quantity not in _LOGARITHMIC))
        if kind == quantity and shown.any():
            lines[path] = (train["step"][shown], values[shown])
    return lines


def _by_number(column: str) -> tuple[bool, list[tuple[bool, int, str]]]:
    """The head last, `layers.2` before `layers.10`."""
    parts = column.split("/")[-1].split(".")
    keys = [(p.isdigit(), int(p) if p.isdigit() else 0, p) for p in parts]
    return parts[0] == "head", keys


def _draw_panel(
    axes: Axes,
    quantity: str,
    lines: dict[str, tuple[np.ndarray, np.ndarray]],
    colors: Mapping[str, np.ndarray],
) -> None:
    plain_axes(axes)
    panel_title(axes, _PANELS[quantity])
    axes.set_xlabel("step", color=QUIET, fontsize=8)
    axes.xaxis.set_major_locator(MaxNLocator(5, steps=[1, 2, 5, 10], integer=True))
    axes.xaxis.set_major_formatter(FuncFormatter(lambda step, _: f"{step:,.0f}"))
    for path, (steps, values) in lines.items():
        width = 2 * (len(values) // 50) + 1
        axes.plot(steps, moving_average(values, width), color=colors[path], lw=1.4)
    if quantity in _LOGARITHMIC:
        axes.set_yscale("log")
        low, high = axes.get_ylim()
        axes.yaxis.set_major_locator(
            LogLocator(subs=(1, 2, 5) if high < 100 * low else (1,))
        )
        axes.yaxis.set_major_formatter(FuncFormatter(lambda y, _: f"{y:g}"))
        axes.yaxis.set_minor_formatter(NullFormatter())
