"""How soft the learned sigmoids of each layer have become."""

from collections.abc import Mapping

import numpy as np
from matplotlib.figure import Figure

from hypersphere.viz._style import (
    INK,
    PALETTE,
    QUIET,
    layer_panels,
    panel_title,
    plain_axes,
)


def softness(
    softness: Mapping[str, np.ndarray], *, start: float = 0.75, title: str = ""
) -> Figure:
    """Histogram, layer by layer, of the softness k that filters have learned.

    All panels share their range. The dashed line marks where filters begin unless a
    layer is told otherwise. Of more than 12 layers, 12 are drawn, evenly chosen, the
    first and last among them.

    Args:
        softness: Layer name -> the k of its filters, positive, dimensionless, any
            shape, drawn in the order given.
        start: The k of the dashed line.
        title: Heading of the figure.

    Returns:
        The figure, one panel a layer.

    Raises:
        ValueError: If there is no layer, or a k is not finite.
    """
    values = {name: np.ravel(k).astype(np.float64) for name, k in softness.items()}
    if not values or not all(k.size and np.isfinite(k).all() for k in values.values()):
        raise ValueError(
            "softness needs layers with finite numbers, got "
            f"{ {name: np.shape(k) for name, k in softness.items()} }."
        )
    most = max(start, *(k.max() for k in values.values()))
    bins = np.linspace(0, 1.05 * most, 31)
    caption = f"softness k of each filter; line: median; dashed: {start:g}, the default"
    figure, panels = layer_panels(list(values), title=title, caption=caption)
    for name, axes in panels.items():
        k = values[name]
        plain_axes(axes)
        axes.hist(k, bins=bins.tolist(), color=PALETTE[0], alpha=0.75)
        axes.axvline(start, color=QUIET, linewidth=0.8, linestyle=(0, (4, 3)))
        axes.axvline(float(np.median(k)), color=INK, linewidth=0.9)
        axes.set_xlim(0, bins[-1])
        axes.set_yticks([])
        axes.spines["left"].set_visible(False)
        panel_title(axes, name)
        axes.text(
            0.02,
            0.92,
            f"{k.size} filters\nmedian {np.median(k):.2f}",
            transform=axes.transAxes,
            ha="left",
            va="top",
            color=QUIET,
            fontsize=7,
        )
    return figure
