"""Batches of images that are decoded in the background, by the step alone."""

import gc
import multiprocessing
import os
import signal
import threading
from collections.abc import Callable, Iterator, Sequence
from typing import Any, NamedTuple

import jax
import numpy as np
from jaxtyping import Float32, Int32, Shaped

from hypersphere.data._examples import (
    Decode,
    Evaluation,
    Example,
    Slots,
    Training,
    centring,
    cropping,
    first_example,
)
from hypersphere.data._memory import MAX_PIXELS
from hypersphere.data._order import batch_indices
from hypersphere.data._records import Records

_THREADS = min(16, os.cpu_count() or 1)  # more of them wait for the interpreter
_AHEAD_PER_THREAD = 4  # decoded images that wait for their turn
_BATCHES_AHEAD = 2


class Batch(NamedTuple):
    """What one process contributes to one step.

    Attributes:
        images: uint8 of shape (n, s, s, 3): red, green and blue, in `[0, 255]`; or
            what a `decode` makes.
        labels: int32 of shape (n,), the index of each image's class; or what a `decode`
            makes.
        weights: float32 of shape (n,), 1 for what counts and 0 for what does not:
            padding, and images that could not be decoded for an evaluation.
        skipped: int32 of shape (n,), the position in the set of an image that could not
            be decoded, and was replaced (training) or counts nothing (evaluation);
            -1 elsewhere.
    """

    images: Shaped[np.ndarray, "n ..."]
    labels: Any
    weights: Float32[np.ndarray, " n"]
    skipped: Int32[np.ndarray, " n"]


class Stream:
    """Batches in their order. Threads decode the next ones while one is in use.

    Ends by itself, by `close` or by leaving its `with` block.
    """

    def __init__(self, batches: Any, *, workers: int):
        self._batches = batches
        self._workers = workers
        batches.start_prefetch()

    def __iter__(self) -> Iterator[Batch]:
        return self

    def __next__(self) -> Batch:
        if self._batches is None:
            raise StopIteration
        try:
            return next(self._batches)
        except BaseException:
            self.close()
            raise

    def close(self) -> None:
        """Stops the threads and worker processes. A closed stream has no more batches.

        May be called twice.
        """
        if self._batches is not None:
            self._batches.close()
            self._batches = None
            if self._workers:
                gc.collect()  # cycles keep memory shared with the workers alive

    def __enter__(self) -> "Stream":
        return self

    def __exit__(self, *_: object) -> None:
        self.close()


def train_batches(
    records: Records | Sequence[Any],
    *,
    batch_size: int,
    seed: int,
    image_size: int,
    start: int = 0,
    stop: int,
    share: tuple[int, int] = (0, 1),
    scale: tuple[float, float] = (0.08, 1.0),
    workers: int = 0,
    threads: int = 0,
    orient: bool = True,
    max_pixels: int = MAX_PIXELS,
    decode: Decode | None = None,
) -> Stream:
    """Random crops to train on: the batches of the steps `start <= step < stop`.

    A batch depends on the records, `seed`, the step, `batch_size`, `image_size` and
    `scale` alone: `batch_indices` says which images it holds, and the crop of each is
    drawn from the seed and its place in the sequence of all examples. So a run goes on
    where it stopped, with any number of threads, workers and processes. An image that
    cannot be read is replaced by another one, drawn from the same two numbers. Another
    decoder (OpenCV, or Pillow where that is missing) gives slightly other pixels.

    Worker processes import the main program again, which therefore needs `if __name__
    == "__main__":`. Threads are faster, and start at once.

    Args:
        records: The images.
        batch_size: Number of examples in the batch of all processes, at most
            `len(records)`.
        seed: Seed of the order and of the crops, in `[0, 2**64)`.
        image_size: Height and width of the crops in pixels, at least 1.
        start: First step, at least 0.
        stop: The step before which the stream ends, at least `start`.
        share: Which process this is, from 0, and how many there are. Process h of n
            gets rows `[h * batch_size / n, (h + 1) * batch_size / n)` of each batch.
        scale: Smallest and largest share of an image's area in a crop, in `(0, 1]`.
        workers: Number of processes that decode; 0 decodes in this one.
        threads: Number of threads that decode, in all workers together; 0 for one per
            core, at most 16.
        orient: Whether images are turned the way that their EXIF data tell.
        max_pixels: Pixels that an image may have at most, at least 1; one that promises
            more counts as broken.
        decode: As in `RecordSet`, instead of crops.

    Returns:
        An iterator over batches of `batch_size / n` images each.

    Raises:
        ValueError: If an argument is out of range; while iterating, if 100 images in a
            row cannot be read.
        ModuleNotFoundError: If grain or Pillow is not installed.

    Example:
        >>> import io
        >>> from PIL import Image
        >>> from hypersphere import data
        >>> class Gray(list):
        ...     name = "image {}".format
        >>> file = io.BytesIO()
        >>> Image.new("L", (40, 30), 9).save(file, "PNG")
        >>> records = Gray(data.Record(file.getvalue(), label) for label in range(6))
        >>> with data.train_batches(
        ...     records, batch_size=3, seed=0, image_size=8, stop=2
        ... ) as batches:
        ...     labels = [batch.labels.tolist() for batch in batches]
        >>> sorted(labels[0] + labels[1])
        [0, 1, 2, 3, 4, 5]
    """
    if not 0 <= start <= stop:
        raise ValueError(
            "`train_batches` needs `0 <= start <= stop`, got "
            f"`start={start}` and `stop={stop}`."
        )
    batch_indices(start, size=len(records), batch_size=batch_size, seed=seed)  # checks
    decode = decode or cropping(image_size, scale, orient=orient, max_pixels=max_pixels)
    examples = Training(records, batch_size, seed, decode)
    slots = Slots("train_batches", batch_size, *share)
    steps = range(start, stop)
    return _stream(examples, slots, steps, workers=workers, threads=threads)


def batch_at(
    records: Records | Sequence[Any],
    step: int,
    *,
    batch_size: int,
    seed: int,
    image_size: int,
    share: tuple[int, int] = (0, 1),
    scale: tuple[float, float] = (0.08, 1.0),
    orient: bool = True,
    max_pixels: int = MAX_PIXELS,
    decode: Decode | None = None,
) -> Batch:
    """One batch of `train_batches` alone, decoded here and now.

    Args:
        records: The images.
        step: Number of the step, from 0.
        batch_size: As in `train_batches`, like the rest.
        seed: Seed of the order and of the crops.
        image_size: Height and width of the crops in pixels.
        share: Which process this is, and how many there are.
        scale: Smallest and largest share of an image's area in a crop.
        orient: Whether images are turned the way that their EXIF data tell.
        max_pixels: Pixels that an image may have at most, at least 1; one that promises
            more counts as broken.
        decode: As in `RecordSet`, instead of crops.

    Returns:
        The batch that the stream has at this step, bit for bit.

    Raises:
        ValueError: If an argument is out of range, or 100 images in a row cannot be
            read.
        ModuleNotFoundError: If Pillow is not installed.

    Example:
        >>> import io
        >>> from PIL import Image
        >>> from hypersphere import data
        >>> class Gray(list):
        ...     name = "image {}".format
        >>> file = io.BytesIO()
        >>> Image.new("L", (40, 30), 9).save(file, "PNG")
        >>> records = Gray(data.Record(file.getvalue(), label) for label in range(6))
        >>> batch = data.batch_at(records, 7, batch_size=3, seed=0, image_size=8)
        >>> batch.images.shape, batch.weights.tolist()
        ((3, 8, 8, 3), [1.0, 1.0, 1.0])
    """
    batch_indices(step, size=len(records), batch_size=batch_size, seed=seed)  # checks
    decode = decode or cropping(image_size, scale, orient=orient, max_pixels=max_pixels)
    examples = Training(records, batch_size, seed, decode)
    slots = Slots("batch_at", batch_size, *share)
    elements = range(step * slots.rows, (step + 1) * slots.rows)
    return _batch([examples(slots.position(element)) for element in elements])


def eval_stream(
    records: Records | Sequence[Any],
    *,
    batch_size: int,
    image_size: int,
    crop_fraction: float = 0.875,
    share: tuple[int, int] = (0, 1),
    threads: int = 0,
    orient: bool = True,
    max_pixels: int = MAX_PIXELS,
    decode: Decode | None = None,
) -> Stream:
    """Central crops to evaluate on: every image exactly once over all processes.

    Every process gets `ceil(len(records) / batch_size)` batches of one shape. What is
    missing in the last one is black images of label 0 and weight 0. So is an image that
    cannot be read, whose position `skipped` reports.

    Args:
        records: The images, at least one.
        batch_size: Number of examples in the batch of all processes; may be above
            `len(records)`.
        image_size: Height and width of the crops in pixels, at least 1.
        crop_fraction: Share of the shorter side that is kept, in `(0, 1]`.
        share: Which process this is, from 0, and how many there are. Process h of n
            gets rows `[h * batch_size / n, (h + 1) * batch_size / n)` of each batch.
        threads: Number of threads that decode; 0 for one per core, at most 16.
        orient: Whether images are turned the way that their EXIF data tell.
        max_pixels: Pixels that an image may have at most, at least 1; one that promises
            more counts as broken.
        decode: As in `RecordSet`, instead of crops.

    Returns:
        An iterator over batches of `batch_size / n` images each.

    Raises:
        ValueError: If an argument is out of range.
        ModuleNotFoundError: If grain or Pillow is not installed.

    Example:
        >>> import io
        >>> from PIL import Image
        >>> from hypersphere import data
        >>> class Gray(list):
        ...     name = "image {}".format
        >>> file = io.BytesIO()
        >>> Image.new("L", (40, 30), 9).save(file, "PNG")
        >>> records = Gray(data.Record(file.getvalue(), label) for label in (4, 2, 5))
        >>> with data.eval_stream(records, batch_size=2, image_size=8) as batches:
        ...     for batch in batches:
        ...         print(batch.labels, batch.weights)
        [4 2] [1. 1.]
        [5 0] [1. 0.]
    """
    slots = Slots("eval_stream", batch_size, *share)
    if not len(records):
        raise ValueError(
            "`eval_stream` needs at least one image, got `len(records)=0`."
        )
    if decode is None:
        decode = centring(
            image_size, crop_fraction, orient=orient, max_pixels=max_pixels
        )
        nothing = np.zeros((image_size, image_size, 3), np.uint8), np.int32(0)
    else:
        nothing = jax.tree.map(np.zeros_like, first_example(records, decode))
    examples = Evaluation(records, decode, nothing)
    steps = range(-(-len(records) // batch_size))
    return _stream(examples, slots, steps, workers=0, threads=threads)


def _stream(
    examples: Callable[[int], Example],
    slots: Slots,
    steps: range,
    *,
    workers: int,
    threads: int,
) -> Stream:
    """Decodes single images in parallel, and puts batches together in one thread."""
    if workers < 0 or threads < 0:
        raise ValueError(
            f"`{slots.who}` needs `workers >= 0` and `threads >= 0`, got "
            f"`workers={workers}` and `threads={threads}`."
        )
    grain = _grain()
    threads = -(-(threads or _THREADS) // max(workers, 1))
    waiting = _AHEAD_PER_THREAD * threads
    elements = grain.MapDataset.range(steps.start * slots.rows, steps.stop * slots.rows)
    dataset = elements.map(
        lambda element: examples(slots.position(element))
    ).to_iter_dataset(
        grain.ReadOptions(num_threads=threads, prefetch_buffer_size=waiting)
    )
    if workers:
        _mark_flags_as_parsed()
        dataset = dataset.mp_prefetch(
            grain.MultiprocessingOptions(
                num_workers=workers, per_worker_buffer_size=waiting
            ),
            worker_init_fn=_follow_the_parent,
        )
    batches = dataset.batch(slots.rows, batch_fn=_batch)
    ahead = grain.experimental.ThreadPrefetchIterDataset(
        batches, prefetch_buffer_size=_BATCHES_AHEAD
    )
    return Stream(iter(ahead), workers=workers)


def _follow_the_parent(index: int, count: int) -> None:
    """Makes a worker end when its parent does, and not before.

    A signal to the whole group must not end it while its images are needed; a parent
    that is killed could not tell it to end.
    """
    del index, count
    for number in (signal.SIGINT, signal.SIGTERM, signal.SIGUSR1):
        signal.signal(number, signal.SIG_IGN)
    parent = multiprocessing.parent_process()
    if parent is not None:
        threading.Thread(target=_end_after, args=(parent,), daemon=True).start()


def _end_after(parent: Any) -> None:
    parent.join()
    os._exit(1)


def _batch(examples: Sequence[Example]) -> Batch:
    images, labels, weights, skipped = zip(*examples, strict=True)
    return Batch(
        np.stack(images),
        jax.tree.map(lambda *each: np.stack(each), *labels),
        np.array(weights, np.float32),
        np.array(skipped, np.int32),
    )


def _grain() -> Any:
    try:
        import grain
    except ModuleNotFoundError as error:
        raise ModuleNotFoundError(
            "Streams need the package `grain`, which is not installed. `pip install "
            "'hypersphere-jax[train]'` brings it.",
            name=error.name,
        ) from error
    return grain


def _mark_flags_as_parsed() -> None:
    """Grain reads absl's flags before it starts a worker, and fails without them."""
    from absl import flags

    if not flags.FLAGS.is_parsed():
        flags.FLAGS.mark_as_parsed()
