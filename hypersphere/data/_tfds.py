"""TensorFlow Datasets sets, read without TensorFlow."""

import contextlib
import dataclasses
import json
import os
import re
from collections.abc import Iterator, Sequence
from pathlib import Path
from typing import Any

import numpy as np
import tensorflow_datasets as tfds
from google.protobuf.message import DecodeError
from tensorflow_datasets.proto import tf_example_pb2

from hypersphere.data._dataset import Dataset
from hypersphere.data._records import Record, RecordSet
from hypersphere.data._whole import load_records

# Of TensorFlow Datasets itself; a set may name any other module.
_FEATURE = re.compile(r"tensorflow_datasets\.core\.features\.\w+\.\w+")

# Protobuf makes this class at import.
_Example: Any = tf_example_pb2.Example  # pyrefly: ignore[missing-attribute]


@dataclasses.dataclass(frozen=True)
class TfdsRecords:
    """One split, its images still encoded."""

    source: Any
    split: str
    folder: str

    def __len__(self) -> int:
        """How many there are."""
        return len(self.source)

    def __getitem__(self, index: int) -> Record:
        """The image and the label of one record."""
        with self._naming_damage():
            return _record(self.source[index])

    def __getitems__(self, indices: Sequence[int]) -> list[Record]:
        """The same of many, several times faster for small images."""
        with self._naming_damage():
            return [_record(example) for example in self.source.__getitems__(indices)]

    @contextlib.contextmanager
    def _naming_damage(self) -> Iterator[None]:
        """Tells which files those are that the reader finds damaged."""
        try:
            yield
        except (RuntimeError, ValueError, IndexError, DecodeError) as error:
            raise ValueError(_damaged(self.folder, self.split, error)) from error

    def name(self, index: int) -> str:
        """Its position in the split."""
        return f"record {index} of split {self.split!r}"


def _record(example: bytes) -> Record:
    """Parses an example itself, because TFDS takes several times as long."""
    fields = _Example.FromString(example).features.feature
    return Record(
        fields["image"].bytes_list.value[0], fields["label"].int64_list.value[0]
    )


def load_tfds(name: str, *, data_dir: str, **decoding: Any) -> Dataset:
    """Decodes the images of both parts; gray if the set says so."""
    opened, gray = _open(name, data_dir)
    return load_records(opened, gray=gray, **decoding)


def open_tfds(name: str, *, data_dir: str) -> RecordSet:
    """Opens the training split and the first labelled test or validation split."""
    return _open(name, data_dir)[0]


def _open(name: str, data_dir: str) -> tuple[RecordSet, bool]:
    """Both parts, and whether the images are gray."""
    who = f"tfds:{name}"
    root = data_dir or os.environ.get("TFDS_DATA_DIR", "~/tensorflow_datasets")
    _check_features(Path(root).expanduser(), name, who)
    builder = _prepared_builder(name, os.path.expanduser(root), who)
    gray, class_names = _image_and_label(builder, who)
    train, test = (_records(builder, split) for split in _splits(builder, who))
    return RecordSet(who, train, test, class_names), gray


def _prepared_builder(name: str, root: str, who: str) -> tfds.core.DatasetBuilder:
    """Opens a set that lies under `root` in array_record format."""
    try:
        builder = tfds.builder(name, data_dir=root)
    except (ValueError, ImportError) as error:
        raise FileNotFoundError(_missing(name, root, who)) from error
    if not builder.info.splits:
        raise FileNotFoundError(_missing(name, root, who))
    formats = {format.value for format in builder.info.available_file_formats()}
    if "array_record" not in formats:
        raise ValueError(
            f"`{who}` needs the set in array_record format, got {sorted(formats)} in "
            f"{builder.data_dir}. In an environment with tensorflow, run `tfds "
            f"convert_format --dataset_version_dir={builder.data_dir} "
            "--out_file_format=array_record`."
        )
    return builder


def _missing(name: str, root: str, who: str) -> str:
    patterns = ("*/*/dataset_info.json", "*/*/*/dataset_info.json")
    files = (file for pattern in patterns for file in Path(root).glob(pattern))
    found = sorted(_source_name(file.parent.relative_to(root)) for file in files)
    return (
        f"`{who}` needs a prepared set {name!r} under {root} (`data.data_dir`), got "
        f"{', '.join(found) or 'no set at all'} there. In an environment with "
        f"tensorflow, run `tfds build {name} --file_format=array_record "
        f"--data_dir={root}`."
    )


def _source_name(folder: Path) -> str:
    """`NAME/CONFIG:VERSION`, as it can be written after `tfds:`."""
    return f"{folder.parent.as_posix()}:{folder.name}"


def _image_and_label(
    builder: tfds.core.DatasetBuilder, who: str
) -> tuple[bool, tuple[str, ...]]:
    """Whether the images are gray, and the names of the classes."""
    features: Any = builder.info.features or {}
    image = features["image"] if "image" in features else None
    label = features["label"] if "label" in features else None
    if (
        not isinstance(image, tfds.features.Image)
        or not isinstance(label, tfds.features.ClassLabel)
        or image.np_dtype != np.uint8
    ):
        raise ValueError(
            f"`{who}` needs the features `image` (an Image of uint8) and `label` (a "
            f"ClassLabel), got {features}. This is no image classification set."
        )
    return features["image"].shape[-1] == 1, tuple(label.names)


def _splits(builder: Any, who: str) -> tuple[str, str]:
    """What to train and what to test on: competitions keep the labels of one secret."""
    splits = builder.info.splits
    for split in ("test", "validation") if "train" in splits else ():
        if split in splits and _records(builder, split)[0].label >= 0:
            return "train", split
    raise ValueError(
        f"`{who}` needs a split `train`, and `test` or `validation` with known labels, "
        f"got {sorted(splits)} in {builder.data_dir}."
    )


def _records(builder: Any, split: str) -> TfdsRecords:
    folder = str(builder.data_dir)
    try:
        source = builder.as_data_source(
            split,
            deserialize_method=tfds.decode.DeserializeMethod.RAW_BYTES,
            file_format="array_record",
        )
        if len(source) != builder.info.splits[split].num_examples:
            raise ValueError(
                f"{len(source):,} records, and dataset_info.json tells of "
                f"{builder.info.splits[split].num_examples:,}"
            )
    except (RuntimeError, ValueError, FileNotFoundError) as error:
        raise ValueError(_damaged(folder, split, error)) from error
    return TfdsRecords(source, split, folder)


def _damaged(folder: str, split: str, error: Exception) -> str:
    reason = (str(error).splitlines() or [repr(error)])[0][:120]
    return (
        f"The files of split {split!r} in {folder} are missing or damaged ({reason}). "
        f"`python -m hypersphere.data check {folder}` tells which, of a set that it "
        "has prepared. Fetch or prepare it again."
    )


def _check_features(root: Path, name: str, who: str) -> None:
    """Raises if a set asks for code that is not TensorFlow Datasets' own.

    The classes that `features.json` names are imported: it comes from elsewhere.
    """
    folder = root / re.split("[/:]", name)[0]
    for file in sorted(folder.rglob("features.json")):
        try:
            wanted = set(_classes_in(json.loads(file.read_text(encoding="utf-8"))))
        except ValueError as error:
            raise ValueError(
                f"`{who}` needs a readable features.json, got {file} ({error}). Fetch "
                "or prepare the set again."
            ) from error
        if strange := sorted(x for x in wanted if not _FEATURE.fullmatch(x)):
            raise ValueError(
                f"`{who}` needs features of TensorFlow Datasets, got {file}, which "
                f"asks for {strange[0]!r}. That is not imported. Is the set from a "
                "source that you trust?"
            )


def _classes_in(content: Any) -> Iterator[str]:
    """Every class that a `features.json` names, at any depth."""
    if isinstance(content, dict):
        for key, value in content.items():
            if key in ("type", "pythonClassName") and isinstance(value, str):
                yield value
            yield from _classes_in(value)
    elif isinstance(content, list):
        for value in content:
            yield from _classes_in(value)
