"""A trained model, from a run's folder or from an exported one."""

import functools
import json
import os
import zlib
from collections.abc import Iterable, Iterator
from pathlib import Path
from typing import Any, NamedTuple

import jax
import numpy as np
from flax import nnx

from hypersphere import data, nn
from hypersphere._extras import need
from hypersphere._select import dotted
from hypersphere.training.checkpoints._checkpoint import Checkpoints
from hypersphere.training.compute import _build, _moments
from hypersphere.training.compute._loss import KEPT
from hypersphere.training.compute._parts import (
    Images,
    call_model,
    has_features,
    made,
    own_of,
    refuse_missing,
)
from hypersphere.training.run._load import load
from hypersphere.training.run._workdir import stored
from hypersphere.training.settings._config import TrainConfig
from hypersphere.training.settings._text import from_json


class Answers(NamedTuple):
    """What a model says of images.

    Attributes:
        logits: float32 of shape (n, classes), without a margin; None of a model that
            gives no scores of classes.
        features: float32 of shape (n, features), what the head sees; None of a model
            without the method `features`.
    """

    logits: np.ndarray | None
    features: np.ndarray | None


class Trained:
    """A model in evaluation mode, with all that is known of what it was trained on.

    Args:
        name: Where it comes from.
        model: The network.
        config: The run's.
        images: What it was trained on.

    Attributes:
        name: The same.
        config: The same.
        images: The same.
        class_names: Of each class; its number where the names are not known.
    """

    def __init__(self, name: str, model: Any, config: TrainConfig, images: Images):
        self.name, self.config, self.images = name, config, images
        numbers = tuple(map(str, range(images.num_classes)))
        self.class_names = images.class_names or numbers
        model.set_attributes(nn.AngularHead, chunk=0, raise_if_not_found=False)
        self._graph, self._state = nnx.split(model)
        self._call = jax.jit(functools.partial(self._answers, self._graph))
        self._call_moments = jax.jit(functools.partial(self._moments_of, self._graph))
        self._put_moments = jax.jit(functools.partial(_with_moments, self._graph))

    @functools.cached_property
    def fingerprint(self) -> str:
        """Of the weights, hexadecimal."""
        found = 0
        for leaf in jax.tree.leaves(nnx.filter_state(self._state, nnx.Param)):
            found = zlib.crc32(np.ascontiguousarray(leaf).view(np.uint8), found)
        return f"{found:08x}"

    def answers(self, images: np.ndarray) -> Answers:
        """Of one batch; of batches of one shape one program is compiled.

        Args:
            images: uint8 of shape (n, height, width, channels), or other examples.

        Raises:
            ValueError: If they are not of the shape that the model was trained on.
        """
        if images.shape[1:] != self.images.image_shape:
            raise ValueError(
                f"{self.name} was trained on examples of shape "
                f"{self.images.image_shape}, got {images.shape[1:]}."
            )
        return Answers(*jax.device_get(self._call(self._state, images)))

    def of_batches(self, batches: Iterable[np.ndarray], size: int) -> Iterator[Answers]:
        """Of batches of at most a size; smaller ones are filled up."""
        for batch in batches:
            missing = size - len(batch)
            widths = ((0, missing), *[(0, 0)] * (batch.ndim - 1))
            found = self.answers(np.pad(batch, widths))
            yield Answers(*(x if x is None else x[: len(batch)] for x in found))

    def recalibrate(self, batches: Iterable[np.ndarray]) -> int:
        """Takes the statistics of batch normalization anew, as means over batches.

        What an evaluation `@recalibrated` of a run does: they are then those of the
        weights as they are, however slowly running averages follow these.

        Args:
            batches: Training images, uint8 of shape (n, height, width, channels), or
                other examples. Batches weigh alike and their own statistics count, so
                each should be large and have of all classes.

        Returns:
            How many there were.

        Raises:
            ValueError: If the model has no batch normalization, or there is no batch.
        """
        model = nnx.merge(self._graph, self._state)
        if not _moments.batch_norms(model):
            raise ValueError(
                "To recalibrate takes batch normalization (`nnx.BatchNorm`), and "
                f"{self.name} has none: evaluate it as it is."
            )

        found, count = [], 0
        for images in batches:
            found.append(jax.device_get(self._call_moments(self._state, images)))
            count += len(images)
        if not found:
            raise ValueError(
                f"To recalibrate {self.name} takes at least one batch of training "
                "images, got none."
            )
        self._state = self._put_moments(self._state, _moments.mean_of(found))
        return count

    def _moments_of(self, graph: Any, state: Any, images: Any) -> list[jax.Array]:
        model = nnx.merge(graph, state)
        return _moments.moments(model, self._normalized(images))

    def _normalized(self, images: Any) -> Any:
        if images.dtype != np.uint8:
            return images
        config = self.config.data
        return data.normalize(images, mean=config.mean, std=config.std)

    def _answers(self, graph: Any, state: Any, images: jax.Array) -> Any:
        model = nnx.merge(graph, state)
        images = self._normalized(images)
        features = model.features(images) if has_features(model) else None
        outputs = call_model(model, images)
        scores = self.config.loss.scores(outputs)
        shape = (len(images), self.images.num_classes)
        if not shape[1] or getattr(scores, "shape", ()) != shape:
            return None, features
        return self.config.loss.logits(outputs), features


def open_trained(
    folder: str | os.PathLike[str], *, best: bool = False, config_file: str = ""
) -> Trained:
    """Opens the folder of a run, or one that `export` has written.

    Nothing is ever downloaded: a path is a path.

    Args:
        folder: The folder.
        best: Whether to take the checkpoint of the best test accuracy, of a run.
        config_file: The config file of a run that has parts of its own.

    Returns:
        The model.

    Raises:
        FileNotFoundError: If there is no such folder, or nothing trained in it.
        ValueError: If the model is one's own and no config file is given, or weights do
            not fit.

    Example:
        >>> from hypersphere import training
        >>> trained = training.open_trained("runs/quickstart")  # doctest: +SKIP
    """
    path = Path(folder).expanduser()
    parts = own_of(config_file).get("parts") if config_file else None
    if (path / "model.json").is_file():
        if best:
            raise ValueError(
                f"{path} is an exported model, which has one state: no best."
            )
        return _exported(path, parts)
    if not path.is_dir() or stored(path).config is None:
        kind = "has neither config.json nor model.json" if path.is_dir() else "is none"
        raise FileNotFoundError(
            f"A trained model needs the folder of a run, or of an export, got "
            f"{str(folder)!r}, which {kind}."
        )
    model, config = load(path, best=best, parts=parts)
    checkpoints = Checkpoints(path, read_only=True)
    meta = checkpoints.meta()
    checkpoints.close()
    return Trained(str(path), model, config, Images.of(meta["dataset"]))


def _exported(path: Path, parts: Any) -> Trained:
    need("export", ("safetensors",), who="An exported folder")
    from safetensors import SafetensorError
    from safetensors.numpy import load_file

    try:
        told = json.loads((path / "model.json").read_text(encoding="utf-8"))
        config = from_json(json.dumps(told["config"]))
        shape, dtype = tuple(told["image_shape"]), told["dtype"]
    except (ValueError, KeyError, TypeError) as error:
        raise ValueError(f"{path / 'model.json'} cannot be read ({error}).") from error
    try:
        weights = load_file(path / "weights.safetensors")
    except (OSError, SafetensorError) as error:
        raise ValueError(
            f"{path / 'weights.safetensors'} cannot be read ({error}). Export it again."
        ) from error
    refuse_missing({"given": told.get("own", []), "file": ""}, ["dataset", *_is(parts)])
    names = tuple(told["class_names"] or ())
    count = told.get(
        "num_classes", _classes(names, weights)
    )  # earlier ones do not tell
    images = Images("", shape, count, 0, 0, dtype, names)
    own = made(parts, config, images)
    model = nnx.eval_shape(_build.complete(own, config, images).make_model)
    return Trained(str(path), _filled(path, model, weights), config, images)


def _is(parts: Any) -> list[str]:
    return [] if parts is None else ["parts"]


def _classes(names: tuple[str, ...], weights: dict[str, Any]) -> int:
    head = weights.get("head.kernel")
    return len(names) or (0 if head is None else head.shape[-1])


def _filled(path: Path, model: Any, weights: dict[str, np.ndarray]) -> Any:
    """An abstract model with weights by their paths."""
    if isinstance(head := getattr(model, "head", None), nn.AngularHead):
        head.shards = 1
    graph, state, rest = nnx.split(model, nnx.Any(nnx.Param, KEPT), ...)
    flat = dict(nnx.to_flat_state(state))
    needed = {dotted(key): leaf for key, leaf in flat.items()}
    apart = sorted(set(needed) ^ set(weights)) + [
        f"{name} of shape {weights[name].shape}"
        for name in sorted(set(needed) & set(weights))
        if weights[name].shape != needed[name].shape and name != "head.kernel"
    ]
    if apart:
        raise ValueError(
            f"The weights of {path} are not those of the network in its config: "
            f"{', '.join(apart[:3])} differ. A network of one's own needs --config."
        )
    for key, leaf in flat.items():
        flat[key] = leaf.replace(jax.device_put(weights[dotted(key)]))
    streams = jax.tree.map(_begun, rest)
    model = nnx.merge(graph, nnx.from_flat_state(flat), streams)
    model.eval()
    return model


def _begun(leaf: Any) -> Any:
    if jax.dtypes.issubdtype(leaf.dtype, jax.dtypes.prng_key):
        return jax.random.key(0)
    return np.zeros(leaf.shape, leaf.dtype)


def _with_moments(graph: Any, state: Any, means: Any) -> Any:
    """The state with these statistics of batch normalization."""
    model = nnx.merge(graph, state)
    _moments.put_moments(model, means)
    return nnx.state(model)
