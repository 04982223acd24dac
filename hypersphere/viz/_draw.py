"""From a run's folder to its pictures."""

import json
from collections.abc import Mapping
from os import PathLike
from pathlib import Path

import numpy as np
from matplotlib.figure import Figure

from hypersphere.viz._curves import learning_curve
from hypersphere.viz._feature_set import FeatureSet
from hypersphere.viz._features import features, side_by_side
from hypersphere.viz._filters import filter_angles
from hypersphere.viz._layers import has_layers, layer_curves
from hypersphere.viz._metrics import read_metrics
from hypersphere.viz._softness import softness
from hypersphere.viz._style import save


def draw(workdir: str | PathLike[str]) -> list[Path]:
    """Draw what a finished or running run has written so far.

    `metrics.jsonl` becomes `plots/learning_curve.png`, and `plots/geometry.png` where
    the run has logged it; `kernels.npz` becomes `plots/filter_angles.png`,
    `softness.npz` `plots/softness.png` and `features.npz` `plots/features.png`,
    whichever are there. An older picture is replaced only once the new one is complete.

    Args:
        workdir: The run's folder.

    Returns:
        The pictures written.

    Raises:
        FileNotFoundError: If there is no such folder, or none of these files in it.
        ValueError: If a file's content cannot be drawn.
    """
    workdir = _existing("draw", workdir)
    sources = {
        "learning_curve": (workdir / "metrics.jsonl", _draw_metrics),
        "filter_angles": (workdir / "kernels.npz", _draw_kernels),
        "softness": (workdir / "softness.npz", _draw_softness),
        "features": (workdir / "features.npz", _draw_features),
    }
    if not any(path.is_file() for path, _ in sources.values()):
        raise FileNotFoundError(
            "draw needs metrics.jsonl, kernels.npz or features.npz in `workdir`, got "
            f"workdir='{workdir}' without any. Is it the folder of one run?"
        )
    if (metrics := workdir / "metrics.jsonl").is_file() and _has_layers(metrics):
        sources["geometry"] = (metrics, _draw_layers)
    return [
        save(picture(path, workdir.resolve().name), workdir / "plots" / f"{name}.png")
        for name, (path, picture) in sources.items()
        if path.is_file()
    ]


def draw_comparison(
    workdirs: Mapping[str, str | PathLike[str]],
    path: str | PathLike[str],
    *,
    title: str = "",
) -> Path:
    """Draw the two-dimensional features of several runs next to each other.

    Args:
        workdirs: Name of the run in the picture -> its folder, which holds
            `features.npz` and, once finished, `result.json` with the test accuracy.
        path: The PNG file to write. Its folder is made if need be.
        title: Heading of the figure.

    Returns:
        The file written.

    Raises:
        FileNotFoundError: If a folder or its `features.npz` is missing.
        ValueError: If features are not two-dimensional, or `workdirs` is empty.
    """
    runs = {name: _read_features(workdir) for name, workdir in workdirs.items()}
    return save(side_by_side(runs, title=title), Path(path).expanduser())


def _draw_metrics(path: Path, title: str) -> Figure:
    return learning_curve(read_metrics(path), title=title)


def _has_layers(path: Path) -> bool:
    return has_layers(read_metrics(path))


def _draw_layers(path: Path, title: str) -> Figure:
    return layer_curves(read_metrics(path), title=title)


def _draw_kernels(path: Path, title: str) -> Figure:
    return filter_angles(_load(path), title=title)


def _draw_softness(path: Path, title: str) -> Figure:
    return softness(_load(path), title=title)


def _draw_features(path: Path, title: str) -> Figure:
    data = _feature_set(path)
    return features(*data[:3], centres=data.centres, title=title)


def _load(path: Path) -> dict[str, np.ndarray]:
    with np.load(path, allow_pickle=False) as arrays:
        return dict(arrays)


def _feature_set(path: Path) -> FeatureSet:
    arrays = _load(path)
    names = [str(name) for name in arrays["class_names"]]
    return FeatureSet(
        arrays["features"], arrays["labels"], names, arrays.get("centres")
    )


def _read_features(workdir: str | PathLike[str]) -> FeatureSet:
    workdir = _existing("draw_comparison", workdir)
    path, result = workdir / "features.npz", workdir / "result.json"
    if not path.is_file():
        raise FileNotFoundError(
            "draw_comparison needs features.npz in each of `workdirs`, got "
            f"'{workdir}' without. A run writes it when it ends."
        )
    accuracy = None
    if result.is_file():
        accuracy = json.loads(result.read_text(encoding="utf-8")).get("test_accuracy")
    return _feature_set(path)._replace(accuracy=accuracy)


def _existing(who: str, workdir: str | PathLike[str]) -> Path:
    workdir = Path(workdir).expanduser()
    if not workdir.is_dir():
        raise FileNotFoundError(
            f"{who} needs the folder of a run, got workdir='{workdir}', which is no "
            "folder. It is what the run was given as --workdir."
        )
    return workdir
