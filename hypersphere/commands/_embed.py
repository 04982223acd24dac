"""`embed`: what a model sees in images, as a file of features."""

import importlib.util
import io
import json
import os
import shutil
import zipfile
from collections.abc import Iterator, Sequence
from pathlib import Path
from typing import Any, NamedTuple

import numpy as np

from hypersphere import data
from hypersphere._files import write_atomically
from hypersphere.commands._report import naming, progress, say
from hypersphere.commands._sets import Examples, asked, labelled, of_files
from hypersphere.training import Trained, open_trained

_PIECE = 4096  # examples that an interruption may cost


class Embeddings(NamedTuple):
    """Features of examples, as a file of `embed` holds them.

    Attributes:
        embeddings: float32 of shape (n, features), as the head sees them, not of unit
            length.
        labels: int32 of shape (n,), by `class_names`; -1 for none.
        names: Of each example, of shape (n,).
        class_names: What labels mean.
        model: What they were made with.
    """

    embeddings: np.ndarray
    labels: np.ndarray
    names: np.ndarray
    class_names: tuple[str, ...] = ()
    model: str = ""

    def labels_of_names(self) -> np.ndarray:
        """The name of each example's class."""
        return np.array([*self.class_names, "?"])[self.labels]


def embed(
    folder: str | os.PathLike[str],
    out: str | os.PathLike[str] = "",
    *,
    images: Sequence[str | os.PathLike[str]] = (),
    source: str = "",
    part: str = "test",
    data_dir: str = "",
    flip: bool = False,
    batch_size: int = 256,
    best: bool = False,
    config_file: str = "",
) -> Embeddings:
    """Features of a set or of image files, to memory and to a file.

    A file is written in pieces of about 4,096 examples beside it, `OUT.parts`, which
    become `OUT` at the end; the same call goes on where one was interrupted.

    Args:
        folder: Of a run, or an export.
        out: `.npz`, or `.parquet` with pyarrow; empty for none.
        images: Image files and folders, in place of a set; the class of an image is the
            folder that it is in.
        source: As `config.data.source`; empty for the set that it was trained on.
        part: `train`, `test` or `validation`.
        data_dir: As `config.data.data_dir`; empty for the run's.
        flip: Whether the features of the mirrored image are added.
        batch_size: Images at a time.
        best: Whether to take the checkpoint of the best test accuracy.
        config_file: The config file of a run that has parts of its own.

    Returns:
        The features.

    Raises:
        FileNotFoundError: If a folder or a file is not there.
        ValueError: If the model has no features, or an interrupted file is of others.
        OSError: If the disk is full; what was there stays.

    Example:
        >>> from hypersphere import commands
        >>> commands.embed("runs/quickstart", "digits.npz")  # doctest: +SKIP
    """
    path = _checked(out, batch_size)
    trained = open_trained(folder, best=best, config_file=config_file)
    if images:
        examples = of_files(trained, data.image_files([str(i) for i in images]))
    else:
        examples, told = labelled(
            trained, source, part, data_dir=data_dir, config_file=config_file
        )
        if told:
            say(told)
    length = max(1, _PIECE // batch_size) * batch_size
    pieces = _Pieces(path, trained, examples, {"flip": flip, "length": length})
    for start in range(0, examples.size, length):
        if not pieces.has(start):
            stop = min(start + length, examples.size)
            pieces.keep(start, _piece(trained, examples, start, stop, batch_size, flip))
    for line in sorted(set(examples.broken)):
        say(f"Left out: {line}")
    try:
        x, labels, names = pieces.joined()
    except ValueError:  # there is nothing
        pieces.remove()
        raise
    whole = Embeddings(x, labels, names, examples.class_names, trained.name)
    if path is not None:
        with naming(path):
            write_atomically(path, _encoded(whole, path.suffix))
        pieces.remove()
    return whole


def _checked(out: str | os.PathLike[str], batch_size: int) -> Path | None:
    """Where the file will be; None for nowhere."""
    if batch_size < 1:
        raise ValueError(f"A batch needs at least one example, got {batch_size!r}.")
    if not str(out):
        return None
    path = Path(out).expanduser()
    if path.suffix not in (".npz", ".parquet"):
        raise ValueError(f"`embed` writes .npz or .parquet, got {str(out)!r}.")
    if path.suffix == ".parquet" and importlib.util.find_spec("pyarrow") is None:
        raise ModuleNotFoundError(
            "A .parquet file needs the package `pyarrow`: `pip install pyarrow`.",
            name="pyarrow",
        )
    return path


def _piece(
    trained: Trained,
    examples: Examples,
    start: int,
    stop: int,
    batch_size: int,
    flip: bool,  # noqa: FBT001
) -> list[np.ndarray]:
    found = []
    some = examples._replace(batches=lambda a, size: _until(examples, a, stop, size))
    batches = asked(trained, some, batch_size, start=start)
    mirrored: Any = iter(())
    if flip:
        if len(trained.images.image_shape) != 3:
            raise ValueError(f"{trained.name} takes no images: they have no mirror.")
        mirrored = asked(
            trained, some, batch_size, start=start, change=lambda x, _: x[:, :, ::-1]
        )
    for batch, answers in progress(batches, stop - start, f"{start:,} to {stop:,}"):
        if answers.features is None:
            raise ValueError(
                f"{trained.name} has no features: give its network a method "
                "`features(images)`, which returns what the head sees."
            )
        features = answers.features.reshape(len(batch.names), -1)
        if flip:
            other = next(mirrored)[1].features
            features = features + other.reshape(features.shape)
        found.append((features, batch.labels, np.array(batch.names)))
    if not found:
        return [np.zeros((0, 0), np.float32), np.zeros(0, np.int32), np.zeros(0, "U1")]
    return [np.concatenate(x) for x in zip(*found, strict=True)]


def _until(examples: Examples, start: int, stop: int, size: int) -> Iterator[Any]:
    """Batches of a range, of which the stream ends by itself or is closed."""
    batches = examples.batches(start, size)
    for _ in range(start, stop, size):
        batch = next(batches, None)
        if batch is None:
            break
        yield batch
    close = getattr(batches, "close", None)
    if close:
        close()


class _Pieces:
    """What is done, on the disk if there is a file to make, else in memory."""

    def __init__(
        self,
        path: Path | None,
        trained: Trained,
        examples: Examples,
        options: dict[str, Any],
    ):
        self._folder = path and path.with_name(f"{path.name}.parts")
        self._memory: dict[int, list[np.ndarray]] = {}
        if self._folder is None:
            return
        facts = {
            "model": trained.name,
            "weights": trained.fingerprint,
            "set": examples.name,
            "contents": examples.digest(),
            "size": examples.size,
        }
        file, text = self._folder / "facts.json", json.dumps(facts | options)
        if file.is_file() and file.read_text(encoding="utf-8") != text:
            raise ValueError(
                f"{self._folder} holds a part of other features, "
                f"{file.read_text(encoding='utf-8')}. Delete it, or write elsewhere."
            )
        with naming(file):
            write_atomically(file, text.encode())

    def has(self, start: int) -> bool:
        return self._folder is not None and _piece_file(self._folder, start).is_file()

    def keep(self, start: int, arrays: list[np.ndarray]) -> None:
        if self._folder is None:
            self._memory[start] = arrays
            return
        content = io.BytesIO()
        np.savez(content, *arrays)
        file = _piece_file(self._folder, start)
        with naming(file):
            write_atomically(file, content.getvalue())

    def joined(self) -> list[np.ndarray]:
        kept = list(self._memory.values())
        if self._folder is not None:
            for file in sorted(self._folder.glob("*.npz")):
                with np.load(file) as arrays:
                    kept.append([arrays[name] for name in arrays.files])
        kept = [arrays for arrays in kept if len(arrays[0])]
        if not kept:
            raise ValueError("There is no example that could be read.")
        return [np.concatenate(x) for x in zip(*kept, strict=True)]

    def remove(self) -> None:
        if self._folder is not None:
            shutil.rmtree(self._folder)


def _piece_file(folder: Path, start: int) -> Path:
    return folder / f"{start:012}.npz"


def _encoded(found: Embeddings, suffix: str) -> bytes:
    content = io.BytesIO()
    if suffix == ".npz":
        np.savez(
            content,
            embeddings=found.embeddings,
            labels=found.labels,
            names=found.names,
            class_names=np.array(found.class_names),
            model=np.array(found.model),
        )
        return content.getvalue()
    import pyarrow as pa
    from pyarrow import parquet

    width = found.embeddings.shape[1]
    table = pa.table(
        {
            "name": pa.array(found.names.tolist()),
            "label": pa.array(found.labels_of_names().tolist()),
            "embedding": pa.FixedSizeListArray.from_arrays(
                pa.array(found.embeddings.ravel()), width
            ),
        }
    )
    parquet.write_table(table, content)
    return content.getvalue()


def as_embeddings(given: str | os.PathLike[str] | Embeddings) -> Embeddings:
    """Embeddings, or those of a file."""
    return given if isinstance(given, Embeddings) else read_embeddings(given)


def read_embeddings(file: str | os.PathLike[str]) -> Embeddings:
    """What `embed` has written as `.npz`, or arrays of the same names.

    Args:
        file: With `embeddings`, and `labels`, `names`, `class_names` where they are
            known.

    Returns:
        The features.

    Raises:
        FileNotFoundError: If there is no such file.
        ValueError: If it holds something else.

    Example:
        >>> from hypersphere import commands
        >>> digits = commands.read_embeddings("digits.npz")  # doctest: +SKIP
    """
    path = Path(file).expanduser()
    if not path.is_file():
        raise FileNotFoundError(f"There is no file of embeddings {path}.")
    found = read_arrays(path, "file of embeddings as `embed` writes it")
    x = found.get("embeddings")
    if x is None or x.ndim != 2 or not np.issubdtype(x.dtype, np.floating):
        raise ValueError(
            f"{path} needs `embeddings` of shape (n, features), got "
            f"{', '.join(found) or 'nothing'}."
        )
    names = found.get("names", np.arange(len(x)).astype(str))
    labels, classes = _labels(path, found, len(x))
    if not len(labels) == len(names) == len(x):
        raise ValueError(
            f"{path} has {len(x)} embeddings, {len(labels)} labels and {len(names)} "
            "names: there is one missing."
        )
    return Embeddings(x, labels, names, classes, str(found.get("model", "")))


def _labels(
    path: Path, found: dict[str, np.ndarray], count: int
) -> tuple[np.ndarray, tuple[str, ...]]:
    """Labels as numbers, -1 for none, and the names of classes."""
    labels = found.get("labels")
    names = found.get("class_names")
    if labels is None:
        return np.full(count, -1, np.int32), ()
    is_number = np.issubdtype(labels.dtype, np.integer)
    if names is None:
        names = np.unique(labels[labels >= 0] if is_number else labels)
    classes = tuple(map(str, names))
    if is_number and "class_names" in found:
        numbers = labels
    else:
        place = {name: number for number, name in enumerate(classes)}
        numbers = np.array([place.get(str(label), -1) for label in labels], int)
        unknown = [x for x in labels[numbers < 0].tolist() if not is_number or x >= 0]
        if unknown:
            raise ValueError(f"{path} has a label {unknown[0]!r} that is no class.")
    if len(numbers) and not -1 <= numbers.min() <= numbers.max() < len(classes):
        raise ValueError(
            f"{path} has labels from {numbers.min()} to {numbers.max()} and "
            f"{len(classes)} classes."
        )
    return numbers.astype(np.int32), classes


def read_arrays(path: Path, what: str) -> dict[str, np.ndarray]:
    """The arrays of an `.npz` file.

    Args:
        path: The file.
        what: It is to be, for messages.

    Raises:
        ValueError: If it is none, or damaged.
    """
    try:
        with path.open("rb") as file, np.load(file, allow_pickle=False) as arrays:
            return {name: arrays[name] for name in arrays.files}
    except (ValueError, OSError, EOFError, TypeError, AttributeError) as error:
        raise ValueError(f"{path} is no {what} ({error}).") from error
    except zipfile.BadZipFile as error:
        raise ValueError(f"{path} is damaged ({error}).") from error
