"""TensorFlow Datasets sets, read without TensorFlow."""

import dataclasses
import os
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import numpy as np
import tensorflow_datasets as tfds
from tensorflow_datasets.proto import tf_example_pb2

from hypersphere.data._dataset import Dataset
from hypersphere.data._records import Record, RecordSet
from hypersphere.data._whole import load_records

# Protobuf makes this class at import.
_Example: Any = tf_example_pb2.Example  # pyright: ignore[reportAttributeAccessIssue]


@dataclasses.dataclass(frozen=True)
class TfdsRecords:
    """One split, its images still encoded."""

    source: Any
    split: str

    def __len__(self) -> int:
        """How many there are."""
        return len(self.source)

    def __getitem__(self, index: int) -> Record:
        """The image and the label of one record."""
        return _record(self.source[index])

    def __getitems__(self, indices: Sequence[int]) -> list[Record]:
        """The same of many, several times faster for small images."""
        return [_record(example) for example in self.source.__getitems__(indices)]

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
    source = builder.as_data_source(
        split,
        deserialize_method=tfds.decode.DeserializeMethod.RAW_BYTES,
        file_format="array_record",
    )
    return TfdsRecords(source, split)
