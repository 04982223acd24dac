"""Any set as a TensorFlow Datasets set in array_record format, without TensorFlow."""

import collections
import dataclasses
import functools
import os
import re
from collections.abc import Callable, Iterator
from concurrent.futures import Future, ThreadPoolExecutor
from pathlib import Path
from typing import NamedTuple

import numpy as np

from hypersphere.data._encode import Encoded, Options, Shape, encode, open_source
from hypersphere.data._order import permutation
from hypersphere.data._records import Records, RecordSet
from hypersphere.data._shards import Facts, Unfinished

VERSION = "1.0.0"

_IMAGES_PER_SHARD = 10_000
_STREAM = 2**64 - 1  # of the seed; training takes its epochs' orders from 0 on

Progress = Callable[[int, str], None]


class Prepared(NamedTuple):
    """What `prepare` has made.

    Attributes:
        folder: The set's folder.
        source: The string that loads it, given its `data_dir`.
        images: How many images it has.
        written: How many of them this call has written, not an earlier one.
        size: Bytes on the disk.
        skipped: Names of unreadable images that were left out.
    """

    folder: Path
    source: str
    images: int
    written: int
    size: int
    skipped: list[str]


def prepare(
    source: str,
    *,
    out: str,
    name: str,
    options: Options,
    max_bad: float = 0.01,
    threads: int = 0,
    progress: Progress = lambda total, shard: None,
) -> Prepared:
    """Writes a set as array_record files that `tfds:NAME` reads.

    The files appear in `OUT/NAME/1.0.0.incomplete`, which is renamed when all of them
    are on the disk. The same call goes on where an earlier one was stopped, and the
    files are the same as if it had not been, provided that the source has not changed:
    only its numbers of images and classes are compared. Training images are in a random
    order, test images in that of the source.

    Args:
        source: `cifar:PATH`, `idx:PATH`, `folder:PATH` or `tar:PATH`.
        out: The `data_dir` the set is put into.
        name: What the set is called: lower-case letters, digits and underscores.
        options: What decides on the content.
        max_bad: Share of images that may turn out unreadable, in `[0, 1]`. Only images
            that may have to be made smaller are looked at.
        threads: Threads that read and encode; 0 for one per core.
        progress: Called after every image with the number of all images and the file it
            belongs to.

    Returns:
        The set's folder, how to load it, and what is in it.

    Raises:
        ValueError: If an argument is out of range, the source is broken, another
            command began the folder, or too many images are unreadable.
        FileExistsError: If the set is there already.
        OSError: If the source is not there, or the set cannot be written.

    Example:
        >>> prepare("idx:/nowhere", out="/tmp", name="Digits", options=Options())
        Traceback (most recent call last):
        ValueError: `prepare` needs a `--name` of lower-case letters, digits and \
underscores that begins with a letter, got `--name=Digits`.
    """
    _check_arguments(name, max_bad, threads)
    with Unfinished(Path(out).expanduser() / name / VERSION) as unfinished:
        opened, shape = open_source(source, options)
        unfinished.resume(_command(source, options, opened))
        written_before = _count(unfinished)
        shards = _plan(opened, name, options)
        total = len(opened.train) + len(opened.test)
        encode_one = functools.partial(encode, options=options, gray=shape[-1] == 1)
        with ThreadPoolExecutor(threads or os.cpu_count()) as pool:
            for shard in shards:
                report = functools.partial(progress, total, shard.file)
                _add(unfinished, shard, pool, encode_one, report, int(max_bad * total))
        _write_metadata(unfinished, opened, shards, shape, source)
        unfinished.finish()
    return Prepared(
        folder=unfinished.final,
        source=_loads(name),
        images=_count(unfinished),
        written=_count(unfinished) - written_before,
        size=sum(facts["bytes"] for facts in unfinished.files.values()),
        skipped=_skipped(unfinished),
    )


class _Shard(NamedTuple):
    """A file to write: which images, in which order."""

    file: str
    split: str
    records: Records
    positions: np.ndarray


def _check_arguments(name: str, max_bad: float, threads: int) -> None:
    if not re.fullmatch("[a-z][a-z0-9_]*", name):
        raise ValueError(
            "`prepare` needs a `--name` of lower-case letters, digits and underscores "
            f"that begins with a letter, got `--name={name}`."
        )
    if not 0 <= max_bad <= 1 or threads < 0:
        raise ValueError(
            "`prepare` needs `0 <= max_bad <= 1` and `0 <= threads`, got "
            f"`max_bad={max_bad}` and `threads={threads}`."
        )


def _command(source: str, options: Options, opened: RecordSet) -> Facts:
    """What the manifest of an unfinished set must say for it to be resumed."""
    kind, _, path = source.partition(":")
    return {
        "source": f"{kind}:{os.path.abspath(os.path.expanduser(path))}",
        **dataclasses.asdict(options),
        "train_images": len(opened.train),
        "test_images": len(opened.test),
        "classes": len(opened.class_names),
    }


def _plan(opened: RecordSet, name: str, options: Options) -> list[_Shard]:
    """Divides both parts into files; the training part in a random order."""
    size = len(opened.train)
    order = permutation(size, seed=options.seed, stream=_STREAM)
    count = min(size, options.shards or -(-size // _IMAGES_PER_SHARD))
    test_count = -(-len(opened.test) * count // size)
    parts = (
        ("train", opened.train, order, count),
        ("test", opened.test, np.arange(len(opened.test)), test_count),
    )
    return [
        _Shard(
            f"{name}-{split}.array_record-{index:05d}-of-{count:05d}",
            split,
            records,
            positions,
        )
        for split, records, order, count in parts
        for index, positions in enumerate(np.array_split(order, count))
    ]


def _add(
    unfinished: Unfinished,
    shard: _Shard,
    pool: ThreadPoolExecutor,
    encode: Callable[[Records, int], Encoded],
    report: Callable[[], None],
    limit: int,
) -> None:
    """Writes a file, or counts its images if an earlier start has written it."""
    if shard.file in unfinished.files:
        for _ in shard.positions:
            report()
        return
    before, skipped = len(_skipped(unfinished)), []

    def examples() -> Iterator[bytes]:
        for name, example in _ahead(pool, encode, shard):
            report()
            if example is not None:
                yield example
                continue
            skipped.append(name)
            if before + len(skipped) > limit:
                raise ValueError(
                    f"`prepare` needs at most {limit:,} unreadable images "
                    f"(`--max_bad`), got {before + len(skipped)}, the last {name}. "
                    "Allow more and it goes on, or mend them, delete "
                    f"{unfinished.folder} and start again."
                )

    facts = unfinished.write_shard(shard.file, examples())
    unfinished.note(shard.file, facts | {"skipped": skipped})


def _ahead(
    pool: ThreadPoolExecutor, encode: Callable[[Records, int], Encoded], shard: _Shard
) -> Iterator[Encoded]:
    """Encodes on all threads, in order, and never far ahead of who takes the result."""
    pending: collections.deque[Future[Encoded]] = collections.deque()
    for position in shard.positions.tolist():
        pending.append(pool.submit(encode, shard.records, position))
        if len(pending) > 256:
            yield pending.popleft().result()
    while pending:
        yield pending.popleft().result()


def _write_metadata(
    unfinished: Unfinished,
    opened: RecordSet,
    shards: list[_Shard],
    shape: Shape,
    source: str,
) -> None:
    """Writes what makes a folder of shards a set that TensorFlow Datasets knows."""
    import tensorflow_datasets as tfds

    splits = []
    for split in ("train", "test"):
        facts = [unfinished.files[s.file] for s in shards if s.split == split]
        splits.append(
            tfds.core.SplitInfo(
                name=split,
                shard_lengths=[fact["records"] for fact in facts],
                num_bytes=sum(fact["content_bytes"] for fact in facts),
            )
        )
    features = {
        "image": tfds.features.Image(shape=shape),
        "label": tfds.features.ClassLabel(names=list(opened.class_names)),
        "file_name": tfds.features.Text(),
    }
    tfds.folder_dataset.write_metadata(
        data_dir=unfinished.folder,
        features=tfds.features.FeaturesDict(features),
        split_infos=splits,
        version=VERSION,
        check_data=False,  # which would import TensorFlow
        supervised_keys=("image", "label"),
        description=f"Prepared from {source} by `python -m hypersphere.data prepare`.",
    )


def _loads(name: str) -> str:
    """The source that loads the set; a name that TFDS knows means its own version."""
    import tensorflow_datasets as tfds

    known = name in tfds.list_builders(with_community_datasets=False)
    return f"tfds:{name}:{VERSION}" if known else f"tfds:{name}"


def _count(unfinished: Unfinished) -> int:
    return sum(facts.get("records", 0) for facts in unfinished.files.values())


def _skipped(unfinished: Unfinished) -> list[str]:
    return [
        name for facts in unfinished.files.values() for name in facts.get("skipped", ())
    ]
