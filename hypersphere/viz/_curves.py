"""Loss and accuracy against step."""

from collections.abc import Mapping

import numpy as np
from matplotlib.axes import Axes
from matplotlib.figure import Figure
from matplotlib.ticker import FuncFormatter, MaxNLocator, NullFormatter

from hypersphere.viz._style import (
    INK,
    PALETTE,
    QUIET,
    new_figure,
    panel_title,
    plain_axes,
)

_PERCENTAGES = ("accuracy", "error")
_COLORS = {"train": QUIET, "test": PALETTE[2], "validation": PALETTE[0]}


def learning_curve(
    metrics: Mapping[str, Mapping[str, np.ndarray]], *, title: str = ""
) -> Figure:
    """Loss, and accuracy or error, against step: one line a split.

    A training line of more than 50 points is drawn twice, pale as measured and strong
    as a moving average. Every line ends in its name and last value, the last test
    accuracy in bold. The loss axis is logarithmic once the loss spans a factor of ten;
    the accuracy axis leaves out what only the first tenth of the steps reaches.

    Args:
        metrics: What `read_metrics` returns: split -> column -> array of shape
            (steps,). Columns `loss`, `accuracy` and `error` (fractions in `[0, 1]`) are
            drawn.
        title: Heading of the figure.

    Returns:
        The figure, one panel a quantity.

    Raises:
        ValueError: If no split has a finite number in any of the columns drawn.
    """
    panels = {
        quantity: lines
        for quantity in ("loss", *_PERCENTAGES)
        if (lines := _lines(metrics, quantity))
    }
    if not panels:
        columns = {split: sorted(table) for split, table in metrics.items()}
        raise ValueError(
            "learning_curve needs a finite `loss`, `accuracy` or `error` in some "
            f"split, got metrics with columns {columns}."
        )
    figure = new_figure(4.6 * len(panels), 3.4, title=title)
    grid = figure.subplots(1, len(panels), squeeze=False)
    for axes, (quantity, lines) in zip(grid[0], panels.items(), strict=True):
        _draw_panel(axes, quantity, lines)
    return figure


def moving_average(values: np.ndarray, width: int) -> np.ndarray:
    """The mean over up to `width` (odd) neighbors, of fewer of them at the ends.

    Args:
        values: Shape (n,), finite.
        width: How many values a mean takes.

    Returns:
        float64 of shape (n,).

    Example:
        >>> print(moving_average(np.array([0.0, 3.0, 6.0, 0.0]), 3))
        [1.5 3.  3.  3. ]
    """
    total = np.concatenate([[0.0], np.cumsum(values)])
    index = np.arange(len(values))
    start = np.maximum(index - width // 2, 0)
    stop = np.minimum(index + width // 2 + 1, len(values))
    return (total[stop] - total[start]) / (stop - start)


def spread(positions: np.ndarray, gap: float) -> np.ndarray:
    """Positions on a line, moved as a whole so that neighbors are `gap` apart.

    Args:
        positions: Shape (n,), in any unit and order.
        gap: The least distance wanted, in the same unit.

    Returns:
        float64 of shape (n,), in the order given, with the same mean.

    Example:
        >>> print(spread(np.array([0.5, 0.5, 2.0]), 1.0))
        [0. 1. 2.]
    """
    order = np.argsort(positions, kind="stable")
    ladder = gap * np.arange(len(order))
    moved = np.maximum.accumulate(np.asarray(positions)[order] - ladder) + ladder
    result = np.empty(len(order))
    result[order] = moved - np.mean(moved) + np.mean(positions)
    return result


def _lines(
    metrics: Mapping[str, Mapping[str, np.ndarray]], quantity: str
) -> dict[str, tuple[np.ndarray, np.ndarray]]:
    """Split -> (steps, finite values), train first; percentages as such."""
    lines = {}
    for split in sorted(metrics, key=lambda name: (name != "train", name)):
        values = np.asarray(metrics[split].get(quantity, []), np.float64)
        finite = np.isfinite(values)
        if finite.any():
            unit = 100.0 if quantity in _PERCENTAGES else 1.0
            lines[split] = (metrics[split]["step"][finite], unit * values[finite])
    return lines


def _draw_panel(
    axes: Axes, quantity: str, lines: dict[str, tuple[np.ndarray, np.ndarray]]
) -> None:
    plain_axes(axes)
    panel_title(axes, quantity if quantity == "loss" else f"{quantity} (%)")
    axes.set_xlabel("step", color=QUIET, fontsize=8)
    axes.xaxis.set_major_locator(MaxNLocator(5, steps=[1, 2, 5, 10], integer=True))
    axes.xaxis.set_major_formatter(FuncFormatter(lambda step, _: f"{step:,.0f}"))
    ends = {}
    for split, (steps, values) in lines.items():
        color = _COLORS.get(split, INK)
        if split == "train" and len(values) > 50:
            axes.plot(steps, values, color=color, linewidth=0.6, alpha=0.3)
            values = moving_average(values, 2 * (len(values) // 50) + 1)
        axes.plot(steps, values, color=color, linewidth=1.6)
        ends[split] = (float(steps[-1]), float(values[-1]))
        axes.plot(*ends[split], "o", color=color, markersize=4, clip_on=False)
    _set_limits(axes, quantity, lines)
    _label_ends(axes, quantity, ends)


def _set_limits(
    axes: Axes, quantity: str, lines: dict[str, tuple[np.ndarray, np.ndarray]]
) -> None:
    steps, values = (
        np.concatenate(column) for column in zip(*lines.values(), strict=True)
    )
    axes.set_xlim(0, max(1, np.max(steps)))
    if quantity == "loss":
        if np.min(values) > 0 and np.max(values) > 10 * np.min(values):
            axes.set_yscale("log")
            axes.yaxis.set_major_formatter(FuncFormatter(lambda y, _: f"{y:g}"))
            axes.yaxis.set_minor_formatter(NullFormatter())
        return
    late = values[steps >= 0.1 * np.max(steps)]
    pad = max(0.06 * np.ptp(late), 0.1)
    axes.set_ylim(max(np.min(late) - pad, -1), min(np.max(late) + pad, 100.5))


def _label_ends(
    axes: Axes, quantity: str, ends: dict[str, tuple[float, float]]
) -> None:
    """Name and last value to the right of each line, pushed apart where they touch."""
    to_height = axes.transScale + axes.transLimits
    heights = [to_height.transform(end)[1] for end in ends.values()]
    for (split, (_, value)), height in zip(
        ends.items(), spread(np.array(heights), 0.08), strict=True
    ):
        axes.text(
            1.03,
            height,
            f"{split} {value:.3g}" if quantity == "loss" else f"{split} {value:.2f} %",
            transform=axes.transAxes,
            verticalalignment="center",
            color=_COLORS.get(split, INK),
            fontsize=9,
            fontweight="bold" if split == "test" and quantity != "loss" else "normal",
        )
