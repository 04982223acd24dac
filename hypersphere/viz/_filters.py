"""How the filters of each layer lie to each other."""

from collections.abc import Mapping
from math import exp, lgamma, log, pi, sqrt

import numpy as np
from matplotlib.axes import Axes
from matplotlib.figure import Figure
from matplotlib.ticker import FuncFormatter

from hypersphere.viz._style import (
    INK,
    PALETTE,
    QUIET,
    layer_panels,
    panel_title,
    plain_axes,
)


def filter_angles(kernels: Mapping[str, np.ndarray], *, title: str = "") -> Figure:
    """Histogram, layer by layer, of the angles between pairs of filters.

    Filters at right angles share nothing. The thin line is what random directions of
    the same dimension would give, the dashed one marks 90 degrees. Each panel has its
    own range of angles, symmetric about 90 degrees. Of more than 12 layers, 12 are
    drawn, evenly chosen, the first and last among them.

    Args:
        kernels: Layer name -> float array of shape (*window, in, filters), drawn in
            the order given. A layer with fewer than two filters that have a direction
            has no angle and is left out.
        title: Heading of the figure.

    Returns:
        The figure, one panel a layer.

    Raises:
        ValueError: If a kernel has fewer than two axes, or no layer has two filters.
    """
    angles = {name: pairwise_angles(kernel) for name, kernel in kernels.items()}
    names = [name for name in angles if angles[name].size]
    if not names:
        shapes = {name: np.shape(kernel) for name, kernel in kernels.items()}
        raise ValueError(
            "filter_angles needs a layer with at least two filters that are not zero, "
            f"got kernels of shapes {shapes}."
        )
    figure, panels = layer_panels(names, title=title, caption=_CAPTION)
    for name, axes in panels.items():
        _draw_layer(axes, name, angles[name], kernels[name])
    return figure


_CAPTION = (
    "angle between two filters, each panel in its own range; line: random directions"
)


def pairwise_angles(kernel: np.ndarray, *, max_filters: int = 512) -> np.ndarray:
    """Angles between all pairs of filters of one layer.

    Filters that are zero or not finite have no direction and are left out. Of more than
    `max_filters`, that many are taken, evenly spaced and so always the same.

    Args:
        kernel: float array of shape (*window, in, filters).
        max_filters: How many filters to compare.

    Returns:
        Degrees in `[0, 180]`, float64 of shape (pairs,), pairs i < j row by row.

    Raises:
        ValueError: If `kernel` has fewer than two axes.

    Example:
        >>> import numpy as np
        >>> kernel = np.array([[1.0, 0.0, 1.0], [0.0, 2.0, 1.0]])
        >>> print(pairwise_angles(kernel).round(3))
        [90. 45. 45.]
    """
    if np.ndim(kernel) < 2:
        raise ValueError(
            "pairwise_angles needs `kernel.ndim >= 2`, (*window, in, filters), got "
            f"kernel.shape={np.shape(kernel)}."
        )
    filters = np.reshape(kernel, (-1, np.shape(kernel)[-1])).astype(np.float64).T
    largest = np.max(np.abs(filters), axis=1, initial=0.0)
    has_direction = (largest > 0) & np.isfinite(largest)
    filters = filters[has_direction] / largest[has_direction, None]
    count = min(len(filters), max_filters)
    filters = filters[np.linspace(0, max(len(filters) - 1, 0), count).astype(int)]
    filters /= np.linalg.norm(filters, axis=1, keepdims=True)
    cos = filters @ filters.T
    return np.degrees(np.arccos(np.clip(cos[np.triu_indices(count, k=1)], -1, 1)))


def random_angle_density(theta: np.ndarray, dimension: int) -> np.ndarray:
    """Density of the angle between two random directions.

    It is proportional to `sin(theta) ** (dimension - 2)`, and integrates to one over
    the degrees from 0 to 180.

    Args:
        theta: Degrees in `[0, 180]`, any shape.
        dimension: Of the space, at least 2.

    Returns:
        Density per degree, float64, the shape of `theta`.

    Raises:
        ValueError: If `dimension < 2`.

    Example:
        >>> import numpy as np
        >>> print(random_angle_density(np.array([0.0, 90.0]), 3).round(5))
        [0.      0.00873]
    """
    if dimension < 2:
        raise ValueError(
            f"random_angle_density needs `dimension >= 2`, got dimension={dimension}. "
            "On a line there are two directions and no angles between."
        )
    log_scale = lgamma(dimension / 2) - lgamma((dimension - 1) / 2) - log(pi) / 2
    power = np.sin(np.radians(theta)) ** (dimension - 2)
    return exp(log_scale) * power * pi / 180


def _draw_layer(axes: Axes, name: str, angles: np.ndarray, kernel: np.ndarray) -> None:
    plain_axes(axes)
    dimension, filters = int(np.prod(kernel.shape[:-1])), kernel.shape[-1]
    reach = _reach(angles, dimension)
    bins = np.linspace(90 - reach, 90 + reach, 41)
    axes.hist(angles, bins=bins.tolist(), density=True, color=PALETTE[0], alpha=0.75)
    if dimension >= 2:
        theta = np.linspace(90 - reach, 90 + reach, 201)
        density = random_angle_density(theta, dimension)
        axes.plot(theta, density, color=INK, linewidth=0.9)
    axes.axvline(90, color=QUIET, linewidth=0.8, linestyle=(0, (4, 3)), zorder=0.5)
    axes.set_xlim(90 - reach, 90 + reach)
    axes.set_xticks([90 - reach, 90, 90 + reach])
    axes.xaxis.set_major_formatter(FuncFormatter(lambda x, _: f"{x:g}°"))
    axes.set_yticks([])
    axes.spines["left"].set_visible(False)
    panel_title(axes, name.removesuffix(".kernel"), pad=24.0)
    axes.text(
        0.5,
        1.04,
        f"{filters} filters in {dimension}-d\nclosest pair {np.min(angles):.0f}°",
        transform=axes.transAxes,
        ha="center",
        va="bottom",
        color=QUIET,
        fontsize=7,
    )


def _reach(angles: np.ndarray, dimension: int) -> float:
    """Half the range of a panel, in degrees: a multiple of 5 that holds everything."""
    random = 4 * np.degrees(1 / sqrt(dimension))
    needed = max(np.max(np.abs(angles - 90)), random)
    return float(min(5 * np.ceil(needed / 5), 90))
