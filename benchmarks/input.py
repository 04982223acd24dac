"""Images a second that the streams decode, by core and on several, as JSON.

python benchmarks/input.py --source=tfds:imagenet2012
python benchmarks/input.py --source=folder:photos --shorter_side=256   # prepared first

One core decodes with one thread, and N cores with N. `cpu` counts the processor time of
the whole process, so other work on the machine changes it less than the clock's `wall`.
"""

import argparse
import dataclasses
import io
import itertools
import json
import os
import platform
import statistics
import time
from collections.abc import Callable
from typing import Any

import numpy as np
from PIL import Image

from hypersphere.data import _decode, _examples, _stream
from hypersphere.data._open import open_records
from hypersphere.data._records import Record, Records


@dataclasses.dataclass
class Prepared:
    """Images in memory, as JPEGs of quality 90 with a given shorter side at most."""

    records: list[Record]

    @classmethod
    def of(cls, records: Records, shorter_side: int) -> "Prepared":
        """Encodes every image again."""
        return cls(
            [
                Record(_smaller(records[i].content, shorter_side), records[i].label)
                for i in range(len(records))
            ]
        )

    def __len__(self) -> int:
        """How many there are."""
        return len(self.records)

    def __getitem__(self, index: int) -> Record:
        """One of them."""
        return self.records[index]

    def name(self, index: int) -> str:
        """Which one that is."""
        return f"image {index}"


def _smaller(content: bytes, shorter_side: int) -> bytes:
    file = io.BytesIO()
    with Image.open(io.BytesIO(content)) as image:
        factor = min(1.0, shorter_side / min(image.size))
        size = (round(image.width * factor), round(image.height * factor))
        small = image.convert("RGB").resize(size, Image.Resampling.BICUBIC)
    small.save(file, "JPEG", quality=90)
    return file.getvalue()


def train_stream(records: Records, options: argparse.Namespace, threads: int):
    """Random-resized crops."""
    return _stream.train_batches(
        records,
        batch_size=options.batch_size,
        seed=0,
        image_size=options.image_size,
        stop=options.steps,
        threads=threads,
    )


def eval_stream(records: Records, options: argparse.Namespace, threads: int):
    """Central crops, the set again and again until there are enough."""
    streams = (
        _stream.eval_stream(
            records,
            batch_size=options.batch_size,
            image_size=options.image_size,
            threads=threads,
        )
        for _ in itertools.count()
    )
    batches = itertools.chain.from_iterable(streams)
    return itertools.islice(batches, options.steps)


def empty_stream(records: Records, options: argparse.Namespace, threads: int):
    """The training stream with an empty image in place of a decoded one."""
    shape = (options.image_size, options.image_size, 3)

    def decode(record: Any, rng: Any) -> tuple[np.ndarray, Any]:
        return np.empty(shape, np.uint8), np.int32(record.label)

    slots = _examples.Slots("empty_stream", options.batch_size, 0, 1)
    examples = _examples.Training(records, options.batch_size, 0, decode)
    steps = range(options.steps)
    return _stream._stream(examples, slots, steps, workers=0, threads=threads)


def plain_loop(records: Records, options: argparse.Namespace, threads: int):
    """The batches of the training stream one after the other, without any threads."""
    for step in range(options.steps):
        yield _stream.batch_at(
            records,
            step,
            batch_size=options.batch_size,
            seed=0,
            image_size=options.image_size,
        )


STREAMS: dict[str, Callable] = {
    "train": train_stream,
    "train in a plain loop": plain_loop,
    "eval": eval_stream,
    "train without decoding": empty_stream,
}


def speed(make: Callable, cores: set[int]) -> tuple[float, float]:
    """Images per second of the clock and of processor time, on these cores."""
    if hasattr(os, "sched_setaffinity"):
        os.sched_setaffinity(0, cores)
    wall, cpu = time.perf_counter(), time.process_time()
    images = sum(int(batch.weights.sum()) for batch in make())
    return images / (time.perf_counter() - wall), images / (time.process_time() - cpu)


def measure(records: Records, options: argparse.Namespace) -> list[dict]:
    """One row per stream; the rounds of all rows and core counts are interleaved."""
    cores = available_cores()[: options.threads]
    cases = list(itertools.product(STREAMS, (1, len(cores))))
    found: dict[tuple[str, int], list[tuple[float, float]]] = {c: [] for c in cases}
    for _ in range(options.rounds):
        for name, count in cases:
            found[name, count].append(
                speed(
                    lambda name=name, count=count: STREAMS[name](
                        records, options, count
                    ),
                    set(cores[:count]),
                )
            )
    return [row(name, len(cores), found) for name in STREAMS]


def row(name: str, cores: int, found: dict) -> dict:
    """Medians, and what a core of several does compared with one alone."""
    result: dict = {"stream": name}
    for index, clock in enumerate(("wall", "cpu")):
        one, many = (
            statistics.median(rates[index] for rates in found[name, count])
            for count in (1, cores)
        )
        result[f"images_per_second_on_1_core_{clock}"] = round(one)
        per_core = many / cores if clock == "wall" else many
        result[f"scaling_to_{cores}_{clock}"] = round(per_core / one, 3)
        if clock == "wall":
            result[f"images_per_second_on_{cores}_cores_{clock}"] = round(many)
            best = max(rates[index] for rates in found[name, 1])
            result["best_images_per_second_on_1_core_wall"] = round(best)
    return result


def available_cores() -> list[int]:
    """The cores that this process may use."""
    if hasattr(os, "sched_getaffinity"):
        return sorted(os.sched_getaffinity(0))
    return list(range(os.cpu_count() or 1))


def main() -> None:
    """Prints one row per stream."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--source", required=True)
    parser.add_argument("--data_dir", default="")
    parser.add_argument("--image_size", type=int, default=224)
    parser.add_argument("--shorter_side", type=int, default=0)
    parser.add_argument("--batch_size", type=int, default=64)
    parser.add_argument("--steps", type=int, default=20)
    parser.add_argument("--threads", type=int, default=2)
    parser.add_argument("--rounds", type=int, default=5)
    options = parser.parse_args()
    records = open_records(options.source, data_dir=options.data_dir).train
    if options.shorter_side:
        records = Prepared.of(records, options.shorter_side)
    setting = {
        **vars(options),
        "images": len(records),
        "machine": platform.machine(),
        "versions": {
            "opencv": getattr(_decode.cv2, "__version__", None),
            "pillow": Image.__version__,
        },
    }
    print(json.dumps({**setting, "rows": measure(records, options)}, indent=2))


if __name__ == "__main__":
    main()
