"""Curves of many runs, side by side and one below the other."""

from collections.abc import Mapping
from typing import Any, NamedTuple

import numpy as np
from matplotlib.axes import Axes
from matplotlib.figure import Figure
from matplotlib.lines import Line2D
from matplotlib.ticker import FuncFormatter, MaxNLocator

from hypersphere.viz._style import (
    INK,
    PALETTE,
    QUIET,
    new_figure,
    panel_title,
    plain_axes,
)


class Bundle(NamedTuple):
    """The accuracy of several runs over their steps.

    Attributes:
        steps: int of shape (steps,), increasing.
        values: float of shape (runs, steps), in [0, 1]; NaN where a run has no value.
        dashed: Whether the line is dashed: for what others have measured.
        color: Of the line; empty for one of the palette, by the line's name.
    """

    steps: np.ndarray
    values: np.ndarray
    dashed: bool = False
    color: str = ""


Panel = Mapping[str, Bundle]


def curve_grid(
    grid: Mapping[str, Mapping[str, Panel]],
    *,
    title: str = "",
    caption: str = "",
    log_steps: bool = False,
) -> Figure:
    """A panel for each row and column: the runs' mean, and all between their extremes.

    A line keeps its color in all panels; all panels share both axes, or those of a row
    the steps, where rows differ in how many they have.

    Args:
        grid: Row -> column -> name of the line -> its runs. A column that a row lacks
            stays empty.
        title: Heading of the figure.
        caption: A line below it.
        log_steps: Whether the steps' axis is logarithmic.

    Returns:
        The figure.

    Raises:
        ValueError: If there is no line with a value.

    Example:
        >>> import numpy as np
        >>> from hypersphere.viz import Bundle, curve_grid
        >>> runs = Bundle(np.array([10, 20]), np.array([[0.2, 0.4], [0.3, 0.5]]))
        >>> figure = curve_grid({"softmax": {"test": {"cosine": runs}}})
        >>> len(figure.axes)
        1
    """
    columns = list(dict.fromkeys(name for row in grid.values() for name in row))
    lines = {
        name: bundle
        for row in grid.values()
        for panel in row.values()
        for name, bundle in panel.items()
        if np.isfinite(bundle.values).any()
    }
    if not lines:
        raise ValueError("curve_grid needs a line with a finite value, got none.")
    names = [name for name, bundle in lines.items() if not bundle.color]
    looks = {name: _look(i) for i, name in enumerate(names)}
    height = max(1.2 + 2.2 * len(grid), 0.8 + 0.2 * len(lines))
    figure = new_figure(1.8 + 2.7 * len(columns), height, title=title, caption=caption)
    shares_steps = len({_last_step(row) for row in grid.values()}) == 1
    axes = figure.subplots(
        len(grid),
        len(columns),
        squeeze=False,
        sharex="all" if shares_steps else "row",
        sharey=True,
    )
    for i, (row, panels) in enumerate(grid.items()):
        for j, column in enumerate(columns):
            _draw_panel(axes[i, j], panels.get(column, {}), looks)
            panel_title(axes[i, j], column if i == 0 else "")
        label = f"{row}\naccuracy (%)" if row else "accuracy (%)"
        axes[i, 0].set_ylabel(label, color=QUIET, fontsize=8)
    for labelled in axes[-1] if shares_steps else axes.flat:
        _step_axis(labelled, log=log_steps)
    figure.legend(
        handles=[_handle(name, lines[name], looks) for name in lines],
        loc="outside right center",
        frameon=False,
        fontsize=8,
        labelcolor=INK,
    )
    return figure


def _last_step(row: Mapping[str, Panel]) -> int:
    bundles = [bundle for panel in row.values() for bundle in panel.values()]
    return max((int(bundle.steps.max(initial=0)) for bundle in bundles), default=0)


def _look(index: int) -> tuple[str, str]:
    """A color, and a style that tells apart what has the same one."""
    rounds, place = divmod(index, len(PALETTE))
    return PALETTE[place], ("-", ":", "-.")[rounds % 3]


def _draw_panel(axes: Axes, panel: Panel, looks: Mapping[str, tuple[str, str]]) -> None:
    plain_axes(axes)
    for name, bundle in panel.items():
        keep = np.isfinite(bundle.values).any(axis=0)
        if not keep.any():
            continue
        steps = bundle.steps[keep]
        values = 100 * bundle.values[:, keep]
        color, style = _looks_like(name, bundle, looks)
        width = 1.0 if bundle.dashed else 1.5
        mean = np.nanmean(values, axis=0)
        axes.plot(steps, mean, style, color=color, linewidth=width)
        if len(values) > 1:
            low, high = np.nanmin(values, axis=0), np.nanmax(values, axis=0)
            axes.fill_between(steps, low, high, color=color, alpha=0.15, linewidth=0)


def _step_axis(axes: Axes, *, log: bool) -> None:
    axes.set_xlabel("step", color=QUIET, fontsize=8)
    if log:
        axes.set_xscale("log")
    else:
        axes.set_xlim(left=0)
        axes.xaxis.set_major_locator(MaxNLocator(4, integer=True))
    axes.xaxis.set_major_formatter(FuncFormatter(lambda step, _: f"{step:,.0f}"))


def _handle(name: str, bundle: Bundle, looks: Mapping[str, tuple[str, str]]) -> Line2D:
    color, style = _looks_like(name, bundle, looks)
    look: dict[str, Any] = {"color": color, "linestyle": style}
    return Line2D([], [], label=name, **look)


def _looks_like(
    name: str, bundle: Bundle, looks: Mapping[str, tuple[str, str]]
) -> tuple[str, str]:
    color, style = looks.get(name, (bundle.color, "-"))
    return color, "--" if bundle.dashed else style
