"""A trained model as files that other programs read."""

import json
import os
import warnings
from pathlib import Path
from typing import Any

import jax
import jax.export  # not imported by jax itself
import numpy as np
from flax import nnx

from hypersphere import data, nn
from hypersphere._files import write_atomically
from hypersphere._select import dotted
from hypersphere.training.checkpoints._checkpoint import Checkpoints
from hypersphere.training.compute._loss import KEPT
from hypersphere.training.compute._parts import Images, MakeParts, Parts, made
from hypersphere.training.run._load import load
from hypersphere.training.settings._config import TrainConfig
from hypersphere.training.settings._text import to_json

PLATFORMS = ("cpu", "cuda", "tpu")


def export(
    workdir: str | os.PathLike[str],
    out: str | os.PathLike[str],
    *,
    best: bool = False,
    parts: Parts | MakeParts | None = None,
) -> Path:
    """Writes the trained model of a run's folder for use without this package.

    Args:
        workdir: The folder that `train` was given.
        out: The folder to write to; made if need be. It gets

            - `model.stablehlo`: the network with its weights and the normalization of
              pixels, for any batch size on CPU, CUDA and TPU. It takes uint8 images
              (batch, height, width, channels) and gives float32 scores
              (batch, classes), the largest for the predicted class; a model of one's
              own takes the examples of its set and gives what it returns. Read by
              `jax.export.deserialize(content).call(images)`, with JAX alone.
            - `weights.safetensors`: every parameter, running average and other variable
              by its dotted path, such as `head.kernel`.
            - `model.json`: `image_shape` and `dtype` of an example, `num_classes` (0 of
              a model without classes), `class_names`,
              `platforms`, what of the run was its `own`, and the config. Names are null
              where neither the newest checkpoint nor `features.npz` has them: an older
              release did not note them.

        best: Whether to take the checkpoint of the best test accuracy, as `load` does.
        parts: What `train` was given as `parts`.

    Returns:
        The folder.

    Raises:
        FileNotFoundError: If there is no run in the folder, or no checkpoint yet.
        ModuleNotFoundError: If the extra `[export]` is not installed.
        ArithmeticError: If the exported program does not give the model's numbers.

    Example:
        >>> from hypersphere import training
        >>> training.export("runs/quickstart", "quickstart")  # doctest: +SKIP
    """
    try:
        import flatbuffers  # noqa: F401  which JAX writes programs with
        from safetensors.numpy import save
    except ModuleNotFoundError as error:
        raise ModuleNotFoundError(
            f"`export` needs the package `{error.name}`, which is not installed. "
            "`pip install 'hypersphere-jax[export]'` brings it.",
            name=error.name,
        ) from error
    model, config = load(workdir, best=best, parts=parts)
    workdir = Path(workdir).expanduser()
    checkpoints = Checkpoints(workdir, read_only=True)
    meta = checkpoints.meta()
    images = Images.of(meta["dataset"])
    checkpoints.close()
    is_own = made(parts, config, images).make_model is not None
    content = _program(model, config, images, is_own=is_own)
    arrays = {
        dotted(path): np.asarray(leaf[...])
        for path, leaf in nnx.to_flat_state(nnx.state(model, nnx.Any(nnx.Param, KEPT)))
    }
    told = {
        "image_shape": images.image_shape,
        "dtype": images.dtype,
        "num_classes": images.num_classes,
        "class_names": _class_names(workdir, images),
        "platforms": PLATFORMS,
        "own": list(meta.get("own", {}).get("given", [])),
        "config": json.loads(to_json(config)),
    }
    folder = Path(out).expanduser()
    write_atomically(folder / "model.stablehlo", content)
    write_atomically(folder / "weights.safetensors", save(arrays))
    text = json.dumps(told, indent=2) + "\n"
    write_atomically(folder / "model.json", text.encode())
    return folder


def _program(model: Any, config: TrainConfig, images: Images, *, is_own: bool) -> bytes:
    """The serialized network, after a comparison with the network itself."""
    model.set_attributes(nn.AngularHead, chunk=0, raise_if_not_found=False)
    graph, state = nnx.split(model)

    def scores(given: jax.Array) -> Any:
        if images.dtype == "uint8":
            given = data.normalize(given, mean=config.data.mean, std=config.data.std)
        fresh = jax.tree.map(lambda leaf: leaf, state)  # a call may change variables
        answer = nnx.merge(graph, fresh)(given)
        return answer if is_own else config.loss.scores(answer)

    (batch,) = jax.export.symbolic_shape("batch")
    inputs = jax.ShapeDtypeStruct((batch, *images.image_shape), images.dtype)
    exported = jax.export.export(jax.jit(scores), platforms=PLATFORMS)(inputs)
    content = bytes(exported.serialize())
    most = 256 if images.dtype == "uint8" else 2
    trial = np.random.default_rng(0).integers(0, most, (3, *images.image_shape))
    trial = trial.astype(images.dtype)
    truth = jax.jit(scores)(trial)
    again = jax.export.deserialize(bytearray(content)).call(trial)
    pairs = zip(jax.tree.leaves(truth), jax.tree.leaves(again), strict=True)
    apart = [np.abs(np.subtract(a, b)) - 1e-5 * np.abs(a) for a, b in pairs]
    worst = max(float(np.max(x)) for x in apart)
    if not worst <= 1e-5:
        raise ArithmeticError(
            f"The exported program differs from the model by up to {worst:.3g}. It was "
            "not written; this version of JAX cannot export this model."
        )
    return content


def _class_names(workdir: Path, images: Images) -> list[str] | None:
    """As the data had them; None where an older release has not noted them."""
    if images.class_names or not images.num_classes:
        return list(images.class_names)
    file = workdir / "features.npz"
    if file.is_file():
        with np.load(file) as arrays:
            return [str(name) for name in arrays["class_names"]]
    warnings.warn(
        f"The names of the {images.num_classes} classes of {workdir} are not known: an "
        "older release did not note them before a run's end. They are null in "
        "model.json.",
        stacklevel=3,
    )
    return None
