"""Images for a trained model: sets by their source, image files, folders of them."""

import copy
import dataclasses
import hashlib
import itertools
from collections.abc import Callable, Iterator, Sequence
from pathlib import Path
from typing import Any, NamedTuple

import numpy as np

from hypersphere import data, training
from hypersphere.training import Answers, Trained
from hypersphere.training.compute._moments import CALIBRATED
from hypersphere.training.run._feed import held_back, read_set
from hypersphere.training.run._spacing import Spaced

PARTS = ("train", "test", "validation")


class Batch(NamedTuple):
    """Some examples.

    Attributes:
        images: As the model takes them.
        labels: int32 of shape (n,), by the model's classes; -1 for none.
        names: What each is called.
    """

    images: np.ndarray
    labels: np.ndarray
    names: list[str]


class Examples(NamedTuple):
    """A set to ask a model about.

    Attributes:
        name: What it is.
        size: How many there are.
        class_names: What labels mean.
        batches: (the first example, batch size) -> batches from there on; what is
            broken is missing in them.
        broken: Lines on what could not be read, which grow as batches are taken.
        digest: () -> what tells them from others, of their contents.
    """

    name: str
    size: int
    class_names: tuple[str, ...]
    batches: Callable[[int, int], Iterator[Batch]]
    broken: list[str]
    digest: Callable[[], str]


def labelled(
    trained: Trained,
    source: str = "",
    part: str = "test",
    *,
    data_dir: str = "",
    config_file: str = "",
    by_name: bool = True,
) -> tuple[Examples, str]:
    """A part of the run's own set, or of another one.

    Args:
        trained: The model, whose config says how images are read.
        source: As `config.data.source`; empty for the run's own.
        part: `train`, `test` or `validation`.
        data_dir: As `config.data.data_dir`; empty for the run's own.
        config_file: The config file of a run, which may bring a `get_dataset`.
        by_name: Whether labels are to mean the model's classes, all of which must be
            among them; else they are as the source has them.

    Returns:
        The examples, and a line on what was not done by the names of classes.

    Raises:
        ValueError: If there is no such part, or there are other classes.
    """
    config = _config(trained, data_dir)
    if source:
        found, told = read_set(config, source), ""
        if by_name:
            found, told = data.with_classes(found, trained.class_names)
    else:
        found, told = _own_set(trained, config, config_file)
    chosen = getattr(found, part, None) if part in PARTS else None
    if chosen is None:
        there = [name for name in PARTS if getattr(found, name, None) is not None]
        raise ValueError(f"{found.name} has {', '.join(there)}, and no part {part!r}.")
    name = f"{found.name}, {part}"
    classes = tuple(trained.class_names)
    if isinstance(found, data.RecordSet):
        return _streamed(name, found, part, classes, config), told
    names = _names_of(source or config.data.source, part, len(chosen.images), config)

    def batches(start: int, size: int) -> Iterator[Batch]:
        for first in range(start, len(chosen.images), size):
            rows = slice(first, first + size)
            yield Batch(chosen.images[rows], chosen.labels[rows], names(rows))

    digest = lambda: data.contents(found)[part]  # noqa: E731
    return Examples(name, len(chosen.images), classes, batches, [], digest), told


def recalibration_images(
    trained: Trained, *, data_dir: str = "", config_file: str = ""
) -> Iterator[np.ndarray]:
    """What a run's `@recalibrated` takes: batches of training images, each of all.

    Args:
        trained: The model, whose config says how many are a batch.
        data_dir: As `config.data.data_dir`; empty for the run's own.
        config_file: The config file of a run, which may bring a `get_dataset`.
    """
    config = _config(trained, data_dir)
    found, _ = _own_set(trained, config, config_file)
    is_streamed = isinstance(found, data.RecordSet)
    parts: Any = found.train if is_streamed else found.train.images
    most = min(CALIBRATED, len(parts))
    size = min(config.eval_batch_size, most)
    some = Spaced(parts, most // size * size, size)
    if is_streamed:
        found = dataclasses.replace(found, train=some)
        examples = _streamed(found.name, found, "train", (), config)
        return (batch.images for batch in examples.batches(0, size))
    rows = some.index(np.arange(len(some)))
    return (parts[each] for each in rows.reshape(-1, size))


def _config(trained: Trained, data_dir: str) -> training.TrainConfig:
    """The run's, with images in a folder of this machine."""
    config = copy.deepcopy(trained.config)
    config.data.data_dir = data_dir or config.data.data_dir
    return config


def _own_set(
    trained: Trained, config: training.TrainConfig, config_file: str
) -> tuple[Any, str]:
    """What a run was trained on, and a line on what its classes lack."""
    own = training.own_of(config_file) if config_file else {}
    if (dataset := own.get("dataset")) is not None:
        found = dataset(config) if callable(dataset) else dataset
        return held_back(found, config), ""
    found = held_back(read_set(config, config.data.source), config)
    return data.with_classes(found, trained.class_names)


class _Rest:
    """Records from one on."""

    def __init__(self, records: Any, start: int):
        self._records, self._start = records, start

    def __len__(self) -> int:
        return len(self._records) - self._start

    def __getitem__(self, index: int) -> Any:
        return self._records[self._start + index]

    def name(self, index: int) -> str:
        return data.name_of(self._records, self._start + index)


def _short(name: str, source: str) -> str:
    """The name of a file, relative to the folder that is the source."""
    root = Path(source.partition(":")[2]).expanduser()
    is_inside = source.startswith("folder:") and Path(name).is_relative_to(root)
    return Path(name).relative_to(root).as_posix() if is_inside else name


def _streamed(
    name: str,
    found: data.RecordSet,
    part: str,
    classes: tuple[str, ...],
    config: training.TrainConfig,
) -> Examples:
    broken: list[str] = []
    records, root = getattr(found, part), found.name

    def batches(start: int, size: int) -> Iterator[Batch]:
        if start >= len(records):
            return
        stream = data.eval_stream(
            _Rest(records, start),
            batch_size=size,
            image_size=config.data.image_size,
            crop_fraction=config.data.crop_fraction,
            threads=config.data.threads,
            orient=config.data.orient,
            max_pixels=config.data.max_pixels,
            decode=found.decode,
        )
        with stream:
            for number, batch in enumerate(stream):
                first = start + number * size
                for position in batch.skipped[batch.skipped >= 0]:
                    broken.append(data.name_of(records, start + int(position)))
                kept = batch.weights > 0
                places = first + np.flatnonzero(kept)
                names = [_short(data.name_of(records, int(i)), root) for i in places]
                yield Batch(batch.images[kept], batch.labels[kept], names)

    digest = lambda: data.contents(found)[part]  # noqa: E731
    return Examples(name, len(records), classes, batches, broken, digest)


def _names_of(
    source: str, part: str, size: int, config: training.TrainConfig
) -> Callable[[slice], list[str]]:
    """The files' names where the source tells them, else numbers."""
    records: Any = None
    if source.startswith(("folder:", "tar:")) and part in ("train", "test"):
        opened = data.open_records(
            source,
            test_fraction=config.data.test_fraction,
            seed=config.seed,
            empty_classes=config.data.empty_classes,
        )
        records = getattr(opened, part)
    is_known = records is not None and len(records) == size

    def names(rows: slice) -> list[str]:
        numbers = range(size)[rows]
        if is_known:
            return [_short(data.name_of(records, i), source) for i in numbers]
        return [f"{part}/{i}" for i in numbers]

    return names


def of_files(trained: Trained, files: Sequence[tuple[str, Path]]) -> Examples:
    """Image files as the model takes them; the classes are the folders they are in.

    Args:
        trained: The model.
        files: Names and places, as `data.image_files` finds them.
    """
    shape = trained.images.image_shape
    if trained.images.dtype != "uint8" or len(shape) != 3 or shape[2] not in (1, 3):
        raise ValueError(
            f"{trained.name} takes {trained.images.dtype} of shape {shape}, no image "
            "files."
        )
    folders = [name.rpartition("/")[0].rpartition("/")[2] for name, _ in files]
    classes = tuple(sorted(set(filter(None, folders))))
    number = {folder: label for label, folder in enumerate(classes)}
    broken: list[str] = []

    def batches(start: int, size: int) -> Iterator[Batch]:
        for first in range(start, len(files), size):
            found: list[tuple[np.ndarray, int, str]] = []
            for place in range(first, min(first + size, len(files))):
                name, file = files[place]
                try:
                    image = _read(file, trained)
                except (ValueError, OSError) as error:
                    broken.append(f"{name} ({error.__cause__ or error})")
                    continue
                found.append((image, number.get(folders[place], -1), name))
            if found:
                images, labels, names = zip(*found, strict=True)
                yield Batch(np.stack(images), np.array(labels, np.int32), list(names))

    name = f"{len(files)} image files"
    return Examples(name, len(files), classes, batches, broken, lambda: _digest(files))


def _digest(files: Sequence[tuple[str, Any]]) -> str:
    """Of names, places, sizes and times of files."""
    found = hashlib.sha256()
    for name, file in files:
        found.update(f"{name}\0{file}\0".encode())
        if isinstance(file, Path):
            status = file.stat()
            found.update(f"{status.st_size} {status.st_mtime_ns}\n".encode())
    return found.hexdigest()[:16]


def _read(file: Path, trained: Trained) -> np.ndarray:
    """As the run read its test images."""
    config = trained.config.data
    return data.read_image(
        file,
        trained.images.image_shape,
        crop_fraction=config.crop_fraction if config.stream else None,
        orient=config.orient,
        max_pixels=config.max_pixels,
    )


def asked(
    trained: Trained,
    examples: Examples,
    size: int,
    *,
    start: int = 0,
    change: Callable[[np.ndarray, int], np.ndarray] | None = None,
) -> Iterator[tuple[Batch, Answers]]:
    """Batches with what the model says of them.

    Args:
        trained: The model.
        examples: The set.
        size: Of a batch, at least one.
        start: The first example.
        change: (images, how many came before) -> what the model gets in their place.

    Raises:
        ValueError: If the size is below one.
    """
    if size < 1:
        raise ValueError(f"A batch needs at least one example, got {size!r}.")
    ours, theirs = itertools.tee(examples.batches(start, size))

    def images() -> Iterator[np.ndarray]:
        first = start
        for batch in theirs:
            yield change(batch.images, first) if change else batch.images
            first += len(batch.images)

    yield from zip(ours, trained.of_batches(images(), size), strict=True)
