"""What a run leaves at its end: arrays, pictures, and its result."""

import io
import json
import platform
from collections.abc import Callable, Mapping
from pathlib import Path
from typing import Any

import flax
import jax
import numpy as np
from flax import nnx

from hypersphere import __version__, nn
from hypersphere._files import write_atomically
from hypersphere.training.compute._program import Program
from hypersphere.training.compute._step import TrainState
from hypersphere.training.machine._distributed import is_first
from hypersphere.training.run._feed import Feed, Split
from hypersphere.training.run._logging import (
    finite,
    make_console,
    show_summary,
)
from hypersphere.training.run._run import Run
from hypersphere.training.settings._config import TrainConfig

Result = dict[str, Any]

_DRAWN = 5_000  # examples whose features are kept


def finish(
    config: TrainConfig, folder: Path, run: Run, feed: Feed, program: Program
) -> Result:
    """Writes the arrays, pictures and result of a trained model."""
    parts = ["test"] + ["validation"] * bool(feed.images.validation)
    values = {
        part: run.last.get(part) or run.evaluate(feed.split(part)) for part in parts
    }
    state = run.state
    whole = program.everywhere(state._replace(optimizer=()))
    model = program.task.model(whole)
    result = {
        **{
            f"{part}_{name}": finite(value)
            for part, found in values.items()
            for name, value in found.items()
        },
        "steps": run.step,
        **run.timing(),
        "parameters": sum(leaf.size for leaf in jax.tree.leaves(state.params)),
        "seed": config.seed,
        "device": jax.devices()[0].device_kind,
        "devices": jax.device_count(),
        "versions": {
            "hypersphere": __version__,
            "jax": jax.__version__,
            "flax": flax.__version__,
            "python": platform.python_version(),
        },
    }
    arrays: dict[str, Any] = {}
    if program.task.has_features and feed.class_names:
        drawn = feed.split("test", most=_DRAWN)
        arrays["features"], arrays["labels"] = _features(program, state, drawn)
    if is_first():
        if arrays:
            arrays["class_names"] = np.array(feed.class_names)
            centres = _centres(getattr(model, "head", None))
            if centres is not None and len(feed.class_names) <= _MOST_CENTRES:
                arrays["centres"] = np.asarray(centres)
            _write_arrays(folder / "features.npz", arrays)
        if kernels := _kernels(model):
            _write_arrays(folder / "kernels.npz", kernels)
        if softness := _softness(model):
            _write_arrays(folder / "softness.npz", softness)
        why = (
            "model has no `features(images)`"
            if feed.class_names
            else "set has no classes"
        )
        missing = [] if arrays else [f"features: the {why}"]
        missing += [] if kernels else ["filter angles: it has no convolutions"]
        for what in missing:
            make_console().print(f"No picture of {what}.", markup=False)
        text = json.dumps(result, indent=2) + "\n"
        write_atomically(folder / "result.json", text.encode())
        _show(folder, result)
    return result


def _show(folder: Path, result: Result) -> None:
    from hypersphere import viz  # matplotlib takes a while to import

    console = make_console()
    try:
        pictures = viz.draw(folder)
    except (ValueError, OSError) as error:
        pictures = []
        console.print(f"No pictures: {error} Once it is mended, they are drawn by")
        console.print(f"python -m hypersphere.viz {folder}")
    show_summary(console, result, folder, pictures)


_MOST_CENTRES = 10_000  # more than a picture can show


def _centres(head: Any) -> Any:
    """One centre for each class, where the head has such."""
    if isinstance(head, nn.AngularHead):
        return head.class_centres if head.centres == 1 else None
    return getattr(head, "kernel", None)


def _features(
    program: Program, state: TrainState, split: Split
) -> tuple[np.ndarray, np.ndarray]:
    """What the head sees of images, and their labels."""
    features, labels = [], []
    for pool, order, weights in split:
        found, which, given = jax.device_get(
            (
                program.features(state, pool, order),
                program.everywhere(pool[1] if order is None else pool[1][order]),
                program.everywhere(weights),
            )
        )
        features.append(found[given > 0])
        labels.append(which[given > 0])
    return np.concatenate(features), np.concatenate(labels)


def _write_arrays(path: Path, arrays: Mapping[str, np.ndarray]) -> None:
    buffer = io.BytesIO()
    savez: Any = np.savez  # its annotation takes an array for a flag
    savez(buffer, **arrays)
    write_atomically(path, buffer.getvalue())


def _kernels(model: nnx.Module) -> dict[str, np.ndarray]:
    """The kernels of all convolutions, in the order in which they are applied."""
    return _by_layer(model, nnx.Conv, lambda conv: conv.kernel[...])


def _softness(model: nnx.Module) -> dict[str, np.ndarray]:
    """What the sigmoids that learn their softness have come to, layer by layer."""
    found = _by_layer(model, nn.LearnableSigmoid, lambda sigmoid: sigmoid.k)
    return {name.removesuffix(".similarity"): k for name, k in found.items()}


def _by_layer(
    model: nnx.Module, kind: type, ask: Callable[[Any], Any]
) -> dict[str, np.ndarray]:
    """What each layer of a kind answers, in the order in which they are applied."""
    found = {
        path: np.asarray(ask(module))
        for path, module in nnx.iter_modules(model)
        if isinstance(module, kind)
    }
    first = (("stem",), ("root",))  # then come stages, which lie deepest
    in_order = sorted(found, key=lambda path: (path[:1] not in first, -len(path), path))
    return {".".join(map(str, path)): found[path] for path in in_order}
