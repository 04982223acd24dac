"""TensorFlow Datasets sets, read without TensorFlow."""

import os
from collections.abc import Sequence
from io import BytesIO
from pathlib import Path
from typing import Any

import numpy as np
import tensorflow_datasets as tfds

from hypersphere.data._dataset import Dataset, ImageSet
from hypersphere.data._images import Encoded, decode_all


def load_tfds(name: str, *, data_dir: str, image_size: int) -> Dataset:
    """Reads the training split and the first labelled test or validation split."""
    who = f"tfds:{name}"
    root = data_dir or os.environ.get("TFDS_DATA_DIR", "~/tensorflow_datasets")
    builder = _prepared_builder(name, os.path.expanduser(root), who)
    gray, class_names = _image_and_label(builder, who)
    splits = _splits(builder, who)
    sources = [_open(builder, split) for split in splits]
    labels = [np.empty(len(source), np.int32) for source in sources]
    parts = [  # decoding them also fills in `labels`, so each record is read once
        _encoded(*part) for part in zip(sources, labels, splits, strict=True)
    ]
    images = decode_all(parts, who=who, gray=gray, image_size=image_size)
    train, test = (ImageSet(*pair) for pair in zip(images, labels, strict=True))
    return Dataset(who, train, test, class_names)


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
        if split in splits and _open(builder, split)[0]["label"] >= 0:
            return "train", split
    raise ValueError(
        f"`{who}` needs a split `train`, and `test` or `validation` with known labels, "
        f"got {sorted(splits)} in {builder.data_dir}."
    )


def _open(builder: Any, split: str) -> Any:
    """The records of a split by position, their images still encoded."""
    return builder.as_data_source(
        split,
        decoders={"image": tfds.decode.SkipDecoding()},
        file_format="array_record",
    )


def _encoded(source: Any, labels: np.ndarray, split: str) -> Encoded:
    def read(block: range) -> Sequence[BytesIO]:
        records = source.__getitems__(block)
        labels[block.start : block.stop] = [record["label"] for record in records]
        return [BytesIO(record["image"]) for record in records]

    return Encoded(
        len(source), read, lambda index: f"record {index} of split {split!r}"
    )
