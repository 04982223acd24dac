"""What evaluations look like: pairs, confusion, angles, neighbours, a globe."""

from collections.abc import Mapping, Sequence

import numpy as np
from matplotlib.axes import Axes
from matplotlib.figure import Figure
from matplotlib.ticker import FuncFormatter

from hypersphere.viz._geometry import unit
from hypersphere.viz._style import (
    INK,
    PALETTE,
    PAPER,
    QUIET,
    RULE,
    bare_axes,
    new_figure,
    panel_title,
    plain_axes,
)

_SAME, _OTHER = PALETTE[0], PALETTE[2]
_MOST_NAMES = 30  # classes whose names can be read
_PAIRS = 200_000  # of other classes, drawn at random beyond


def roc_curves(
    curves: Mapping[str, tuple[np.ndarray, np.ndarray]], *, title: str = ""
) -> Figure:
    """True against false accept rates of pairs, on a logarithmic axis.

    Args:
        curves: Name -> rates of false accepts and of true ones, both rising, of shape
            (thresholds,), as `evaluation.roc` has them.
        title: Heading of the figure.

    Returns:
        The figure; a line is missing where it would need a false accept rate of zero.

    Raises:
        ValueError: If there is no curve.
    """
    if not curves:
        raise ValueError("roc_curves needs at least one curve, got none.")
    figure = new_figure(4.4, 3.6, title=title)
    axes = figure.subplots()
    plain_axes(axes)
    lowest = 0.5
    for number, (name, (far, tar)) in enumerate(curves.items()):
        shown = np.asarray(far) > 0
        lowest = min(lowest, float(np.asarray(far)[shown].min()))
        color = PALETTE[number % len(PALETTE)]
        axes.plot(
            np.asarray(far)[shown],
            100 * np.asarray(tar)[shown],
            color=color,
            linewidth=1.8,
            label=name,
        )
    axes.set_xscale("log")
    axes.set_xlim(lowest, 1)
    axes.set_ylim(0, 101)
    axes.set_xlabel("false accepts (share of different pairs)", color=QUIET, fontsize=8)
    panel_title(axes, "true accepts (%)")
    axes.grid(visible=True, color=RULE, linewidth=0.5)
    if len(curves) > 1:
        axes.legend(frameon=False, fontsize=8, labelcolor=INK, loc="lower right")
    return figure


def confusion(
    matrix: np.ndarray, class_names: Sequence[str], *, title: str = ""
) -> Figure:
    """How often each class is taken for each, in percent of its examples.

    What is right is left pale, so that mistakes show: colors are for them alone.

    Args:
        matrix: Counts of shape (classes, classes), a row for the truth.
        class_names: One name a class; of more than 30 none is written.
        title: Heading of the figure.

    Returns:
        The figure.

    Raises:
        ValueError: If the matrix is not square, or has another number of names.
    """
    matrix = np.asarray(matrix, np.float64)
    count = len(class_names)
    if matrix.shape != (count, count):
        raise ValueError(
            f"confusion needs a row and a column for each of {count} classes, got "
            f"shape {matrix.shape}."
        )
    share = 100 * matrix / np.maximum(matrix.sum(axis=1, keepdims=True), 1)
    wrong = share * (1 - np.eye(count))
    is_small = count <= _MOST_NAMES
    side = 0.42 * count + 2.2 if is_small else 6.5
    figure = new_figure(side + 0.6, side, title=title)
    axes = figure.subplots()
    image = axes.imshow(wrong, cmap="Reds", vmin=0, vmax=max(wrong.max(), 5.0))
    axes.spines[:].set_visible(False)
    axes.tick_params(length=0, labelsize=8, labelcolor=QUIET)
    axes.set_xlabel("taken for", color=QUIET, fontsize=9)
    axes.set_ylabel("is", color=QUIET, fontsize=9)
    if is_small:
        axes.set_xticks(range(count), class_names, rotation=90)
        axes.set_yticks(range(count), class_names)
        for row, column in zip(*np.nonzero(share >= 0.05), strict=True):
            is_dark = wrong[row, column] > 0.6 * max(wrong.max(), 5.0)
            axes.text(
                column,
                row,
                f"{share[row, column]:.3g}",
                ha="center",
                va="center",
                fontsize=6.5,
                color=QUIET if row == column else (PAPER if is_dark else INK),
            )
    bar = figure.colorbar(image, ax=axes, shrink=0.7)
    bar.outline.set_visible(False)  # pyrefly: ignore[missing-attribute]
    bar.ax.tick_params(labelsize=8, labelcolor=QUIET, length=0)
    bar.ax.set_title("% wrong", color=QUIET, fontsize=8)
    return figure


def class_angles(
    features: np.ndarray, labels: np.ndarray, *, title: str = "", seed: int = 0
) -> Figure:
    """Histograms of the angles between features of one class, and of different ones.

    Args:
        features: Float array of shape (n, d).
        labels: Of shape (n,); those of -1 are left out.
        title: Heading of the figure.
        seed: Of the pairs, of which 200,000 are drawn where there are more.

    Returns:
        The figure; the less both overlap, the better a threshold tells classes apart.

    Raises:
        ValueError: If there are no two of one class, or none of different ones.
    """
    random = np.random.default_rng(seed)
    features, labels = np.asarray(features), np.asarray(labels)
    kept = np.flatnonzero(labels >= 0) if labels.dtype.kind == "i" else None
    if kept is not None:
        features, labels = features[kept], labels[kept]
    count = len(features)
    if count * (count - 1) // 2 <= _PAIRS:
        a, b = np.triu_indices(count, 1)
    else:
        a, b = random.integers(0, count, (2, _PAIRS))
        # One class of many would hardly be met: pairs of the same are drawn beside.
        order = np.argsort(labels, kind="stable")
        step = random.integers(1, max(2, count // len(np.unique(labels))), _PAIRS)
        start = random.integers(0, count, _PAIRS)
        near = order[start], order[(start + step) % count]
        is_same = labels[near[0]] == labels[near[1]]
        a, b = np.append(a, near[0][is_same]), np.append(b, near[1][is_same])
        a, b = a[a != b], b[a != b]
    return pair_angles(
        _angles(features, a, b), labels[a] == labels[b], title=title, what="class"
    )


def pair_angles(
    degrees: np.ndarray, same: np.ndarray, *, title: str = "", what: str = "pair"
) -> Figure:
    """Histograms of angles of same and different pairs, each with an area of one.

    Args:
        degrees: Of shape (pairs,), in [0, 180].
        same: Booleans of shape (pairs,).
        title: Heading of the figure.
        what: What same ones share, for the legend.

    Returns:
        The figure.

    Raises:
        ValueError: If all pairs are of one kind.
    """
    same = np.asarray(same, bool)
    if same.all() or not same.any():
        raise ValueError("pair_angles needs same and different pairs, got one kind.")
    figure = new_figure(4.8, 3.2, title=title)
    axes = figure.subplots()
    plain_axes(axes)
    edges = np.linspace(0, max(95.0, float(np.max(degrees)) + 1), 73).tolist()
    for chosen, color, name in (
        (same, _SAME, f"same {what}"),
        (~same, _OTHER, "different"),
    ):
        values = np.asarray(degrees)[chosen]
        axes.hist(values, edges, density=True, color=color, alpha=0.45)
        axes.hist(values, edges, density=True, color=color, histtype="step", lw=1.4)
        axes.plot([], [], color=color, linewidth=6, alpha=0.6, label=name)
    axes.set_yticks([])
    axes.spines["left"].set_visible(False)
    axes.xaxis.set_major_formatter(FuncFormatter(lambda x, _: f"{x:.0f}°"))
    axes.set_xlabel("angle between two features", color=QUIET, fontsize=8)
    axes.legend(frameon=False, fontsize=8, labelcolor=INK)
    return figure


def _angles(features: np.ndarray, a: np.ndarray, b: np.ndarray) -> np.ndarray:
    parts = [slice(i, i + 4096) for i in range(0, len(a), 4096)]
    found = [
        np.sum(unit(features[a[part]]) * unit(features[b[part]]), axis=1)
        for part in parts
    ]
    return np.degrees(np.arccos(np.clip(np.concatenate(found), -1, 1)))


def gallery(
    queries: Sequence[np.ndarray],
    found: Sequence[Sequence[np.ndarray]],
    right: np.ndarray,
    names: Sequence[str],
    *,
    title: str = "",
) -> Figure:
    """Images that were looked for on the left, and what is nearest to their right.

    A frame says whether it is of the same class: blue and whole if so, red and dashed
    if not.

    Args:
        queries: uint8 images of shape (height, width, channels).
        found: For each the nearest, the nearest first, all as many.
        right: Booleans of shape (queries, found).
        names: What is written below each query.
        title: Heading of the figure.

    Returns:
        The figure.

    Raises:
        ValueError: If there is no query, or the numbers differ.
    """
    rows, columns = np.shape(right) if np.ndim(right) == 2 else (0, 0)
    if not rows or not rows == len(queries) == len(found) == len(names):
        raise ValueError(
            f"gallery needs a row of `right` and a name for each of {len(queries)} "
            f"queries, got shape {np.shape(right)} and {len(names)} names."
        )
    figure = new_figure(0.95 * (columns + 1) + 0.4, 1.1 * rows + 0.4, title=title)
    grid = figure.subplots(rows, columns + 1, squeeze=False)
    for row, query in enumerate(queries):
        _picture(grid[row][0], query, INK, "solid", 0.8)
        grid[row][0].set_xlabel(names[row][:16], fontsize=7, color=QUIET)
        for column, image in enumerate(found[row]):
            is_right = bool(right[row][column])
            color, style = (_SAME, "solid") if is_right else (_OTHER, (0, (3, 2)))
            _picture(grid[row][column + 1], image, color, style, 2.2)
    return figure


def _picture(
    axes: Axes, image: np.ndarray, color: str, style: object, width: float
) -> None:
    shown = image[..., 0] if image.shape[-1] == 1 else image
    axes.imshow(shown, cmap="gray", vmin=0, vmax=255, interpolation="nearest")
    axes.set_xticks([])
    axes.set_yticks([])
    for spine in axes.spines.values():
        spine.set(color=color, linewidth=width, linestyle=style)


def globe(
    points: np.ndarray,
    labels: np.ndarray | None = None,
    *,
    class_names: Sequence[str] = (),
    title: str = "",
    lines: np.ndarray | None = None,
) -> Figure:
    """Points on the sphere in space, seen from both sides.

    Args:
        points: Float array of shape (n, 3); each is drawn where its direction meets the
            sphere.
        labels: Of shape (n,), which colors them; None for one color.
        class_names: For the legend; of more than ten classes colors repeat.
        title: Heading of the figure.
        lines: Pairs of rows of `points` between which a line is drawn, of shape
            (lines, 2), such as the edges of a solid; None for none.

    Returns:
        The figure, one panel a hemisphere.

    Raises:
        ValueError: If points are not in space, or one of them is zero.
    """
    points = np.asarray(points, np.float64)
    if points.ndim != 2 or points.shape[1] != 3:
        raise ValueError(f"globe needs points of shape (n, 3), got {points.shape}.")
    if not points.any(axis=1).all():
        raise ValueError("globe needs points that have a direction, and some are zero.")
    points = unit(points)
    kinds = np.zeros(len(points), int) if labels is None else np.asarray(labels)
    figure = new_figure(6.4, 3.5, title=title)
    for axes, side, name in zip(
        figure.subplots(1, 2), (1, -1), ("front", "back"), strict=True
    ):
        _hemisphere(axes, points, kinds, side, lines)
        axes.set_title(name, color=QUIET, fontsize=8)
    if len(class_names):
        handles = [
            figure.axes[0].plot([], [], "o", color=_color(k), label=str(text))[0]
            for k, text in enumerate(class_names[:10])
        ]
        figure.legend(
            handles=handles, loc="outside right center", frameon=False, fontsize=8
        )
    return figure


def _color(kind: int) -> str:
    return PALETTE[kind % len(PALETTE)]


def _hemisphere(
    axes: Axes,
    points: np.ndarray,
    kinds: np.ndarray,
    side: int,
    lines: np.ndarray | None,
) -> None:
    """What faces us of one side of a globe tilted by 20 degrees, over a graticule."""
    bare_axes(axes)
    tilt = np.radians(20)
    up, away = np.cos(tilt), np.sin(tilt)
    turn = np.array([[1, 0, 0], [0, up, -away], [0, away, up]])
    turn = np.diag([side, 1, side]) @ turn  # the back: what is behind, turned around
    circle = np.linspace(0, 2 * np.pi, 181)
    axes.plot(np.cos(circle), np.sin(circle), color=QUIET, linewidth=0.8)
    for angle in np.radians(np.arange(-60, 61, 30)):
        ring = np.stack(
            [
                np.cos(angle) * np.cos(circle),
                np.full_like(circle, np.sin(angle)),
                np.cos(angle) * np.sin(circle),
            ]
        )
        _line(axes, turn @ ring)
    for angle in np.radians(np.arange(0, 180, 30)):
        meridian = np.stack(
            [
                np.sin(circle) * np.cos(angle),
                np.cos(circle),
                np.sin(circle) * np.sin(angle),
            ]
        )
        _line(axes, turn @ meridian)
    seen = points @ turn.T
    for a, b in () if lines is None else lines:
        between = np.linspace(0, 1, 40)[:, None]
        arc = (1 - between) * seen[a] + between * seen[b]
        arc /= np.linalg.norm(arc, axis=1, keepdims=True)
        _line(axes, arc.T, color=INK, width=0.9)
    for kind in np.unique(kinds):
        shown = seen[(kinds == kind) & (seen[:, 2] >= 0)]
        axes.scatter(
            *shown[:, :2].T,
            s=max(4, min(40, 3000 / max(1, len(points)))),
            color=_color(int(kind)),
            edgecolors=PAPER,
            linewidths=0.4,
            zorder=3,
        )
    axes.set_xlim(-1.05, 1.05)
    axes.set_ylim(-1.05, 1.05)


def _line(
    axes: Axes, points: np.ndarray, *, color: str = RULE, width: float = 0.5
) -> None:
    x, y, depth = points
    hidden = depth < 0
    axes.plot(
        np.where(hidden, np.nan, x),
        np.where(hidden, np.nan, y),
        color=color,
        linewidth=width,
    )
