"""Where batches come from: a set on the device, or a stream of decoded images."""

import collections
from collections.abc import Callable, Iterator
from typing import Any, NamedTuple, Protocol, runtime_checkable

import jax
import numpy as np
from jax.sharding import Mesh

from hypersphere import data
from hypersphere.training.compute._parts import Images
from hypersphere.training.compute._program import Pool
from hypersphere.training.machine import _mesh
from hypersphere.training.run._spacing import Spaced, check_mixed, mixed, spaced
from hypersphere.training.settings._config import DataConfig, TrainConfig

Say = Callable[[str], None]
OwnData = (
    data.Dataset
    | data.RecordSet
    | Callable[[TrainConfig], data.Dataset | data.RecordSet]
)
"""A set that no source names, or (config) -> one."""
_AHEAD = 2  # batches that are sent to the devices before they are needed
_ENDLESS = 2**31  # batches of a stream, as many as a position can count


class Judged(NamedTuple):
    """A batch of an evaluation.

    Attributes:
        pool: Images and labels.
        order: Which of them, or None for all.
        weights: float32 (batch,), 0 for what only fills the batch.
    """

    pool: Pool
    order: np.ndarray | None
    weights: Any


@runtime_checkable
class Split(Protocol):
    """Images to evaluate on, each exactly once."""

    def __iter__(self) -> Iterator[Judged]:
        """The batches, all of one shape."""
        ...


@runtime_checkable
class Feed(Protocol):
    """The data of a run."""

    images: Images
    """Name, sizes, image shape and classes: what must not change on a resume."""
    class_names: tuple[str, ...]
    """Name of each class, by label."""
    labels: Any
    """What is said of an example, in shapes."""

    def take(self, position: int, count: int) -> tuple[Pool, np.ndarray | None]:
        """The batches from a position on: a pool, and which of it, (count, batch)."""
        ...

    def split(
        self, name: str, most: int | None = None, *, mixed: bool = False
    ) -> Split:
        """The images of a part as they are, or some, evenly spaced.

        If `mixed`, every batch has of all the set, and is full.
        """
        ...

    def close(self) -> None:
        """Ends threads and processes."""
        ...


def make_feed(
    config: TrainConfig,
    mesh: Mesh,
    say: Say,
    source: str = "",
    *,
    dataset: OwnData | None = None,
    class_names: tuple[str, ...] = (),
) -> Feed:
    """The data that a config names, one's own, or those of another source to judge.

    The labels of another source mean what they mean in `class_names`.
    """
    if source:
        opened, told = data.with_classes(read_set(config, source), class_names)
        if told:
            say(told)
        return _feed_of(opened, config, mesh, say)
    if dataset is None:
        opened = held_back(read_set(config, config.data.source), config)
        feed = _feed_of(opened, config, mesh, say)
    else:
        feed = _opened(dataset, config, mesh, say)
    data.check_batch_size(config.batch_size, feed.images.train)
    return feed


def read_set(config: TrainConfig, source: str) -> data.Dataset | data.RecordSet:
    """A source, read as the config says, in memory or streamed."""
    c = config.data
    arguments: dict[str, Any] = {
        "data_dir": c.data_dir,
        "test_fraction": c.test_fraction,
        "seed": config.seed,
        "empty_classes": c.empty_classes,
    }
    if c.stream and data.is_streamed(source):
        return data.open_records(source, **arguments)
    return data.load(
        source,
        image_size=c.image_size,
        max_bad=c.max_bad,
        orient=c.orient,
        max_pixels=c.max_pixels,
        **arguments,
    )


def held_back(found: Any, config: TrainConfig) -> Any:
    """The set with the validation and the training part that a config asks for."""
    if fraction := config.data.validation_fraction:
        found = data.with_validation(found, fraction, seed=config.seed)
    if count := config.data.train_examples:
        found = data.with_fewer(found, count, seed=config.seed)
    return found


def _feed_of(
    found: data.Dataset | data.RecordSet, config: TrainConfig, mesh: Mesh, say: Say
) -> Feed:
    if isinstance(found, data.Dataset):
        return Resident(found, config, mesh)
    return Streamed(found, config, mesh, say)


def _opened(dataset: OwnData, config: TrainConfig, mesh: Mesh, say: Say) -> Feed:
    found = dataset(config) if callable(dataset) else dataset
    if isinstance(found, data.RecordSet | data.Dataset):
        found = held_back(found, config)
    if isinstance(found, data.RecordSet):
        if not config.data.stream or not (found.decode or config.data.image_size):
            raise ValueError(
                "A `RecordSet` is streamed: it needs `config.data.stream=True` and, "
                "without a `decode` of its own, `config.data.image_size`, the side of "
                "a crop in pixels."
            )
        feed = Streamed(found, config, mesh, say)
        if found.decode is not None:
            _refuse_ignored(config.data, feed.images)
        return feed
    if not isinstance(found, data.Dataset):
        raise ValueError(
            "`dataset` needs a `data.Dataset` or a `data.RecordSet`, or a function "
            f"(config) -> one, got {type(found).__name__}."
        )
    if config.data.stream:
        raise ValueError(
            "`config.data.stream` needs a `data.RecordSet`, got a `data.Dataset`, "
            "which is in memory. Leave it at False."
        )
    feed = Resident(found, config, mesh)
    _refuse_ignored(config.data, feed.images)
    return feed


def _refuse_ignored(c: DataConfig, images: Images) -> None:
    """Raises where a field would change images, and there are none."""
    of_images = ("flip", "pad", "rand_layers", "erase", "mixup", "cutmix", "image_size")
    ignored = [name for name in of_images if getattr(c, name)]
    if images.dtype == "uint8":  # which has its size
        ignored = [name for name in ignored if name == "image_size"]
    if ignored:
        raise ValueError(
            f"`config.data.{ignored[0]}={getattr(c, ignored[0])!r}` has no effect on "
            f"the examples of {images.name}, {images.dtype}{list(images.image_shape)}. "
            "Leave it at its default."
        )


def _check_example(records: data.RecordSet, example: tuple[Any, Any]) -> None:
    """Raises unless a set of such examples could be a `Dataset`."""
    image, labels = jax.tree.map(lambda x: np.asarray(x)[None], example)
    part = data.ImageSet(image, labels)
    data.Dataset(f"{records.name}, one example", part, part, records.class_names)


class Resident:
    """A set that lies, as uint8, whole on every device."""

    def __init__(self, dataset: data.Dataset, config: TrainConfig, mesh: Mesh):
        self._dataset, self._config, self._mesh = dataset, config, mesh
        self._size = len(dataset.train.images)
        self._pools: dict[str, Pool] = {}
        self.class_names = dataset.class_names
        self.labels = jax.tree.map(
            lambda x: jax.ShapeDtypeStruct(x.shape[1:], x.dtype), dataset.train.labels
        )
        self.images = Images(
            dataset.name,
            dataset.image_shape,
            dataset.num_classes,
            train=self._size,
            test=len(dataset.test.images),
            validation=len(dataset.validation.images) if dataset.validation else 0,
            dtype=dataset.train.images.dtype.name,
            class_names=dataset.class_names,
            contents=data.contents(dataset),
        )

    def take(self, position: int, count: int) -> tuple[Pool, np.ndarray]:
        """The training images, and the order of the batches from a position on."""
        indices = [
            data.batch_indices(
                position + i,
                size=self._size,
                batch_size=self._config.batch_size,
                seed=self._config.seed,
            )
            for i in range(count)
        ]
        return self._pool("train"), np.stack(indices)

    def split(
        self, name: str, most: int | None = None, *, mixed: bool = False
    ) -> "_ResidentSplit":
        """The images of a part as they are, or some of them, evenly spaced."""
        total = getattr(self.images, name)
        size = min(most or total, total)
        batch_size = eval_size(self, size)
        check_mixed(name, size, batch_size, mixed=mixed)
        return _ResidentSplit(self._pool(name), total, size, batch_size, mixed)

    def close(self) -> None:
        """Nothing runs."""

    def _pool(self, name: str) -> Pool:
        if name not in self._pools:
            part = getattr(self._dataset, name)
            self._pools[name] = tuple(_mesh.everywhere(self._mesh, tuple(part)))
        return self._pools[name]


class _ResidentSplit(NamedTuple):
    pool: Pool
    total: int
    size: int
    batch_size: int
    is_mixed: bool = False

    def __iter__(self) -> Iterator[Judged]:
        for indices, weights in data.eval_batches(self.size, self.batch_size):
            if self.is_mixed:
                indices = mixed(indices, size=self.size, batch_size=self.batch_size)
            order = spaced(indices, size=self.size, total=self.total)
            yield Judged(self.pool, order.astype(np.int32), weights)


class Streamed:
    """A set whose images are decoded while the device computes."""

    def __init__(
        self, records: data.RecordSet, config: TrainConfig, mesh: Mesh, say: Say
    ):
        self._records, self._config, self._mesh = records, config, mesh
        self._say = say
        self._stream: Any = None
        self._ahead: collections.deque[Pool] = collections.deque()
        self._next = -1
        self._bad: dict[str, set[int]] = collections.defaultdict(set)
        self.class_names = records.class_names
        size = config.data.image_size
        example = np.zeros((size, size, 3), np.uint8), np.int32(0)
        if records.decode is not None:
            example = data.first_example(records.train, records.decode)
            _check_example(records, example)
        image, labels = example
        self.labels = jax.tree.map(
            lambda x: jax.ShapeDtypeStruct(x.shape, x.dtype), labels
        )
        self.images = Images(
            records.name,
            image.shape,
            records.num_classes,
            train=len(records.train),
            test=len(records.test),
            validation=0 if records.validation is None else len(records.validation),
            dtype=image.dtype.name,
            class_names=records.class_names,
            contents=data.contents(records),
        )

    def take(self, position: int, count: int) -> tuple[Pool, None]:
        """The batch of a position; the next ones are sent ahead."""
        if count != 1:
            raise ValueError(f"A stream gives one batch at a time, not {count}.")
        if position != self._next:
            self._start(position)
        self._next = position + 1
        while len(self._ahead) <= _AHEAD:
            batch = next(self._stream, None)
            if batch is None:
                break
            self._ahead.append(self._sent(batch, "train"))
        return self._ahead.popleft(), None

    def split(
        self, name: str, most: int | None = None, *, mixed: bool = False
    ) -> "_StreamedSplit":
        """The images of a part as they are, or some of them, evenly spaced."""
        total = getattr(self.images, name)
        size = min(most or total, total)
        check_mixed(name, size, eval_size(self, size), mixed=mixed)
        return _StreamedSplit(self, name, size, mixed)

    def judged(self, name: str, size: int, *, mixed: bool) -> Iterator[Judged]:
        """The batches of an evaluation."""
        batch_size = eval_size(self, size)
        records = getattr(self._records, name)
        some = Spaced(records, size, batch_size if mixed else 0)
        stream = data.eval_stream(
            some,
            batch_size=batch_size,
            image_size=self._config.data.image_size,
            crop_fraction=self._config.data.crop_fraction,
            share=_mesh.local_rows(self._mesh, batch_size),
            threads=self._config.data.threads,
            orient=self._config.data.orient,
            max_pixels=self._config.data.max_pixels,
            decode=self._records.decode,
        )
        with stream:
            for batch in stream:
                weights = _mesh.to_batch(self._mesh, batch.weights, batch_size)
                is_bad = batch.skipped >= 0
                bad = np.where(is_bad, some.index(batch.skipped), -1)
                batch = batch._replace(skipped=bad.astype(np.int32))
                yield Judged(self._sent(batch, name, batch_size), None, weights)

    def close(self) -> None:
        """Ends the threads and processes that decode."""
        if self._stream is not None:
            self._stream.close()
            self._stream = None

    def _start(self, position: int) -> None:
        self.close()
        self._ahead.clear()
        c = self._config
        self._stream = data.train_batches(
            self._records.train,
            batch_size=c.batch_size,
            seed=c.seed,
            image_size=c.data.image_size,
            scale=(c.data.min_crop, 1.0),
            start=position,
            stop=_ENDLESS,
            share=_mesh.local_rows(self._mesh, c.batch_size),
            workers=c.data.workers,
            threads=c.data.threads,
            orient=c.data.orient,
            max_pixels=c.data.max_pixels,
            decode=self._records.decode,
        )

    def _sent(self, batch: data.Batch, name: str, size: int = 0) -> Pool:
        self._count_bad(name, batch.skipped[batch.skipped >= 0])
        if self.class_names:
            self._check_labels(name, batch)
        size = size or self._config.batch_size
        place = lambda array: _mesh.to_batch(self._mesh, array, size)  # noqa: E731
        return place(batch.images), jax.tree.map(place, batch.labels)

    def _check_labels(self, name: str, batch: data.Batch) -> None:
        count = self.images.num_classes
        bad = (batch.labels < 0) | (batch.labels >= count)
        if bad.any():
            raise ValueError(
                f"{self._records.name}, {name}, has the label "
                f"{int(batch.labels[bad][0])}, but only {count} classes: labels are to "
                f"be in [0, {count}). Mend the set."
            )

    def _count_bad(self, name: str, skipped: np.ndarray) -> None:
        records, bad = getattr(self._records, name), self._bad[name]
        for index in sorted(set(skipped.tolist()) - bad):
            bad.add(index)
            told = data.name_of(records, index)
            self._say(f"Left out, cannot be decoded: {told}")
        most = self._config.data.max_bad * len(records)
        if len(bad) > most:
            raise ValueError(
                f"{len(bad)} of the {len(records):,} images of {self._records.name}, "
                f"{name}, cannot be decoded, more than `config.data.max_bad="
                f"{self._config.data.max_bad}` of them. Mend the set, or allow more."
            )


class _StreamedSplit(NamedTuple):
    feed: Streamed
    name: str
    size: int
    is_mixed: bool = False

    def __iter__(self) -> Iterator[Judged]:
        return self.feed.judged(self.name, self.size, mixed=self.is_mixed)


def eval_size(feed: Any, size: int) -> int:
    """Images per batch of an evaluation, as many on every device."""
    devices = _mesh.batch_devices(feed._mesh)
    wanted = min(feed._config.eval_batch_size, size)
    return -(-wanted // devices) * devices
