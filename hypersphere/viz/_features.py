"""Where the examples of each class lie, in the plane, on the sphere or beyond."""

from collections.abc import Mapping, Sequence

import numpy as np
from matplotlib.figure import Figure

from hypersphere.viz._feature_set import FeatureSet, checked
from hypersphere.viz._geometry import principal_plane, unit
from hypersphere.viz._panels import (
    MAX_LABELS,
    draw_circle,
    draw_disk,
    draw_hemisphere,
    draw_plane,
)
from hypersphere.viz._style import new_figure, panel_title

_PANEL = 4.0  # inches


def features(
    features: np.ndarray,
    labels: np.ndarray,
    class_names: Sequence[str] | np.ndarray,
    *,
    centres: np.ndarray | None = None,
    title: str = "",
) -> Figure:
    """Features of labeled examples, as a picture that fits their dimension.

    - d = 2: the features in their plane, and the density of each class's directions
      around the unit circle, every bump scaled to its own peak;
    - d = 3: their directions on the sphere, seen from the front and from behind;
    - d > 3: their directions projected on the two axes along which they vary most,
      inside the unit circle, with the share of the variance that this shows.

    Classes are named in the picture up to 20 of them; colors repeat after ten.

    Args:
        features: float array of shape (n, d), finite, d >= 2, in any unit.
        labels: Integer array of shape (n,), in `[0, classes)`.
        class_names: One name a class.
        centres: float array of shape (d, classes), the head's class centres, of which
            the directions are drawn for up to 20 classes: rays in two dimensions and in
            the projection, diamonds on the sphere.
        title: Heading of the figure.

    Returns:
        The figure.

    Raises:
        TypeError: If the labels are no integers.
        ValueError: If the arrays do not fit together or a feature is not finite.
    """
    data = checked("features", FeatureSet(features, labels, class_names, centres))
    dimension = data.features.shape[1]
    if dimension == 2:
        return _in_the_plane(data, title)
    return _on_the_sphere(data, title) if dimension == 3 else _projected(data, title)


def side_by_side(runs: Mapping[str, FeatureSet], *, title: str = "") -> Figure:
    """Two-dimensional features of several runs, to compare what their losses do.

    Args:
        runs: Name -> features, drawn from left to right: above as they are, below as
            directions on the unit circle. An accuracy is written beside the name.
        title: Heading of the figure.

    Returns:
        The figure, one column a run.

    Raises:
        TypeError: If labels are no integers.
        ValueError: If there is no run, the arrays of one do not fit together, or its
            features are not two-dimensional.
    """
    if not runs:
        raise ValueError("side_by_side needs at least one run, got runs={}.")
    runs = {name: checked("side_by_side", data) for name, data in runs.items()}
    for name, data in runs.items():
        if data.features.shape[1] != 2:
            raise ValueError(
                "side_by_side needs `features.shape[1] == 2`, got "
                f"features.shape={data.features.shape} for run '{name}'. "
                "Draw features of other dimensions with `viz.features`."
            )
    size = _PANEL * len(runs), 2 * _PANEL + 0.8
    note = _note(next(iter(runs.values())), "rays")
    figure = new_figure(*size, title=title, caption=_PLANE_CAPTION + note)
    grid = figure.subplots(2, len(runs), squeeze=False)
    for (name, data), (above, below) in zip(runs.items(), grid.T, strict=True):
        draw_plane(above, data)
        draw_circle(below, data)
        share = "" if data.accuracy is None else f"   {100 * data.accuracy:.2f} %"
        panel_title(above, name + share)
    return figure


_PLANE_CAPTION = (
    "circle: density of each class's directions, every bump scaled to its own peak"
)


def _in_the_plane(data: FeatureSet, title: str) -> Figure:
    caption = _PLANE_CAPTION + _note(data, "rays")
    figure = new_figure(2 * _PANEL, _PANEL + 0.8, title=title, caption=caption)
    left, right = figure.subplots(1, 2)
    draw_plane(left, data)
    panel_title(left, "features")
    draw_circle(right, data)
    panel_title(right, "directions")
    return figure


def _on_the_sphere(data: FeatureSet, title: str) -> Figure:
    caption = "unit features" + _note(data, "diamonds")
    figure = new_figure(2 * _PANEL, _PANEL + 0.8, title=title, caption=caption)
    front = _camera(azimuth=np.radians(30), elevation=np.radians(20))
    behind = front * [[-1], [1], [-1]]
    for axes, name, camera in zip(
        figure.subplots(1, 2), ("front", "behind"), (front, behind), strict=True
    ):
        draw_hemisphere(axes, data, camera)
        panel_title(axes, name)
    return figure


def _projected(data: FeatureSet, title: str) -> Figure:
    plane, share = principal_plane(unit(data.features))
    caption = (
        f"unit features in {data.features.shape[1]} dimensions, projected on two\n"
        f"principal axes that hold {share:.0%} of the variance" + _note(data, "rays")
    )
    figure = new_figure(_PANEL + 1.5, _PANEL + 2.3, title=title, caption=caption)
    draw_disk(figure.subplots(), data, plane)
    return figure


def _note(data: FeatureSet, mark: str) -> str:
    """What the caption says of the classes."""
    if len(data.class_names) > MAX_LABELS:
        return f"; {len(data.class_names)} classes, too many to name"
    return "" if data.centres is None else f"; {mark}: class centres"


def _camera(*, azimuth: float, elevation: float) -> np.ndarray:
    """Orthonormal rows, shape (3, 3): right, up, toward an eye at these angles."""
    a, e = azimuth, elevation
    return np.array(
        [
            [-np.sin(a), np.cos(a), 0],
            [-np.sin(e) * np.cos(a), -np.sin(e) * np.sin(a), np.cos(e)],
            [np.cos(e) * np.cos(a), np.cos(e) * np.sin(a), np.sin(e)],
        ]
    )
