"""One panel each: features in their plane, on the circle, on the sphere, projected."""

import numpy as np
from matplotlib.axes import Axes
from matplotlib.colors import to_rgb
from matplotlib.patches import Circle
from matplotlib.patheffects import withStroke

from hypersphere.viz._feature_set import FeatureSet
from hypersphere.viz._geometry import direction_density, place_on_rays, unit
from hypersphere.viz._style import INK, PALETTE, PAPER, QUIET, RULE, bare_axes

MAX_LABELS = 20

Color = tuple[float, float, float]
_MARKERS = "o^sDvP"
_FONT_SIZE = 9


def draw_plane(axes: Axes, data: FeatureSet) -> None:
    """Two-dimensional features as they are, with the origin and the centres' rays."""
    bare_axes(axes)
    points = data.features
    ends = {label: _far_end(points[data.labels == label]) for label in _present(data)}
    _scatter(axes, points, data.labels)
    for label, ray in _centres(data).items():
        if label in ends:
            _draw_ray(axes, label, np.linalg.norm(ends[label]) * ray)
    axes.plot(0, 0, "+", color=INK, markersize=9, markeredgewidth=1.2, zorder=4)
    frame = [points.min(axis=0), points.max(axis=0), np.zeros(2)]
    _finish(axes, data, ends, frame=np.array(frame))


def draw_circle(axes: Axes, data: FeatureSet) -> None:
    """The directions alone: per class, their density as a bump on the unit circle."""
    bare_axes(axes)
    for label, ray in _centres(data).items():
        _draw_ray(axes, label, ray)
    peaks = {}
    for label in _present(data):
        theta, density = direction_density(data.features[data.labels == label])
        if not density.any():  # every point at the origin
            continue
        theta, density = np.append(theta, theta[0]), np.append(density, density[0])
        height = 0.3 * density / density.max()
        ring = np.stack([np.cos(theta), np.sin(theta)], axis=1)
        outside = np.vstack([ring * (1 + height)[:, None], ring[::-1]])
        axes.fill(*outside.T, color=_color(label), alpha=0.6, linewidth=0)
        peaks[label] = 1.3 * ring[np.argmax(density)]
    axes.add_patch(Circle((0, 0), 1, fill=False, edgecolor=INK, linewidth=0.8))
    axes.plot(0, 0, "+", color=INK, markersize=9, markeredgewidth=1.2)
    frame = np.array([[-1.35, -1.35], [1.35, 1.35]])
    _finish(axes, data, peaks, frame=frame)


def draw_disk(axes: Axes, data: FeatureSet, plane: np.ndarray) -> None:
    """Unit features projected on `plane`, of shape (d, 2), inside the unit circle."""
    bare_axes(axes)
    points = unit(data.features) @ plane
    axes.add_patch(Circle((0, 0), 1, fill=False, edgecolor=QUIET, linewidth=0.8))
    axes.plot(0, 0, "+", color=QUIET, markersize=9, markeredgewidth=1.0)
    _scatter(axes, points, data.labels)
    for label, ray in _centres(data).items():
        _draw_ray(axes, label, ray @ plane)
    means = {k: points[data.labels == k].mean(axis=0) for k in _present(data)}
    frame = np.array([[-1.03, -1.03], [1.03, 1.03]])
    _finish(axes, data, means, frame=frame, beside=False)


def draw_hemisphere(axes: Axes, data: FeatureSet, camera: np.ndarray) -> None:
    """Directions in space seen from afar, those that face us.

    The rows of `camera`, of shape (3, 3), point to the right, up and at the eye.
    """
    bare_axes(axes)
    axes.add_patch(Circle((0, 0), 1, facecolor="#f4f5f7", edgecolor=QUIET, zorder=0))
    for line in _graticule() @ camera.T:
        shown = np.where(line[:, 2:] > 0, line[:, :2], np.nan)
        axes.plot(*shown.T, color=RULE, linewidth=0.6, zorder=0.5)
    points = unit(data.features) @ camera.T
    faces = points[:, 2] > 0
    _scatter(axes, points[faces, :2], data.labels[faces])
    for label, ray in _centres(data).items():
        x, y, depth = camera @ ray
        if depth > 0:
            axes.plot(x, y, "D", markersize=5, markeredgecolor=INK, color=_color(label))
    ends = {}
    for label in _present(data):
        chosen = data.labels == label
        if points[chosen, 2].mean() > 0:
            ends[label] = _far_end(points[chosen & faces, :2])
    frame = np.array([[-1.25, -1.25], [1.25, 1.25]])  # one size for both globes
    _finish(axes, data, ends, frame=frame)


def _present(data: FeatureSet) -> list[int]:
    return np.unique(data.labels).tolist()


def _color(label: int) -> str:
    return PALETTE[label % len(PALETTE)]


def _dark(label: int) -> Color:
    """The color of a class, dark enough for text on white."""
    red, green, blue = to_rgb(_color(label))
    return 0.6 * red, 0.6 * green, 0.6 * blue


def _scatter(axes: Axes, points: np.ndarray, labels: np.ndarray) -> None:
    """Dots colored by class, in mixed order so that no class covers another."""
    order = np.random.default_rng(0).permutation(len(points))
    points, labels = points[order], labels[order]
    alpha = float(np.clip(40 / np.sqrt(len(points) + 1), 0.25, 0.8))
    for turn in np.unique(labels // len(PALETTE)):
        chosen = labels // len(PALETTE) == turn
        axes.scatter(
            points[chosen, 0],
            points[chosen, 1],
            s=6,
            c=[_color(label) for label in labels[chosen].tolist()],
            marker=_MARKERS[turn % len(_MARKERS)],
            alpha=alpha,
            linewidths=0,
        )


def _centres(data: FeatureSet) -> dict[int, np.ndarray]:
    """The unit class centres by label, none if there are too many to tell apart."""
    if data.centres is None or len(data.class_names) > MAX_LABELS:
        return {}
    return dict(enumerate(unit(np.transpose(data.centres))))


def _draw_ray(axes: Axes, label: int, end: np.ndarray) -> None:
    x, y = end
    axes.plot([0, x], [0, y], color=_color(label), linewidth=0.9, zorder=3)


def _far_end(points: np.ndarray) -> np.ndarray:
    """Where a ray from the origin through the points' mean leaves nearly all behind."""
    ray = unit(points.mean(axis=0))
    return ray * np.quantile(points @ ray, 0.98)


def _graticule() -> np.ndarray:
    """Circles of latitude and longitude every 30 degrees, shape (lines, points, 3)."""
    turn = np.radians(np.linspace(0, 360, 181))
    steps = np.radians(np.arange(0, 180, 30))
    meridians = [
        (np.cos(a) * np.cos(turn), np.sin(a) * np.cos(turn), np.sin(turn))
        for a in steps
    ]
    parallels = [
        (np.cos(b) * np.cos(turn), np.cos(b) * np.sin(turn), np.full(181, np.sin(b)))
        for b in steps - np.pi / 2
    ]
    return np.array(meridians + parallels).transpose(0, 2, 1)


def _finish(
    axes: Axes,
    data: FeatureSet,
    anchors: dict[int, np.ndarray],
    *,
    frame: np.ndarray,
    beside: bool = True,
) -> None:
    """Label the classes beside (or at) their `anchors`, and show all of `frame`."""
    middle, side = _square(frame)
    if anchors and len(data.class_names) <= MAX_LABELS:
        names = [str(data.class_names[label]) for label in anchors]
        shares = np.array([(0.012 + 0.02 * len(name), 0.05) for name in names])
        starts = places = np.array(list(anchors.values()))
        # Text keeps its size on paper: the more a panel shows, the more room it takes.
        for _ in range(3):
            boxes = side * shares
            offset = 0.6 * boxes * unit(starts) if beside else 0.0
            places = place_on_rays(starts + offset, boxes)
            corners = [frame, places - boxes / 2, places + boxes / 2]
            middle, side = _square(np.vstack(corners))
        for label, name, place in zip(anchors, names, places, strict=True):
            _write(axes, name, place, _dark(label))
    axes.set_xlim(middle[0] - side / 2, middle[0] + side / 2)
    axes.set_ylim(middle[1] - side / 2, middle[1] + side / 2)


def _square(points: np.ndarray) -> tuple[np.ndarray, float]:
    """Middle and side of a square that holds all `points`, and a little more."""
    low, high = points.min(axis=0), points.max(axis=0)
    return (low + high) / 2, 1.04 * float(np.max(high - low) or 1.0)


def _write(axes: Axes, name: str, place: np.ndarray, color: Color) -> None:
    axes.text(
        place[0],
        place[1],
        name,
        color=color,
        fontsize=_FONT_SIZE,
        fontweight="bold",
        ha="center",
        va="center",
        zorder=5,
        path_effects=[withStroke(linewidth=2.5, foreground=PAPER)],
    )
