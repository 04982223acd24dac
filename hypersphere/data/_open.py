"""From one string to a set whose images stay encoded until they are needed."""

from hypersphere.data._records import RecordSet
from hypersphere.data._sources import (
    Reading,
    check_reading,
    find,
    naming_what_is_missing,
)


def open_records(
    source: str,
    *,
    data_dir: str = "",
    test_fraction: float = 0.2,
    seed: int = 0,
    empty_classes: bool = False,
) -> RecordSet:
    """Opens an image classification set of any size, to be read image by image.

    | source | what |
    |---|---|
    | `tfds:NAME` | a TensorFlow Datasets set prepared as array_record |
    | `folder:PATH` | `PATH/train/CLASS/*` and `PATH/test/CLASS/*`, or `PATH/CLASS/*` |
    | `tar:PATH` | a folder of tar archives, ImageNet's as published among them |

    The parts, the labels and the order are those of `load`.

    Args:
        source: Where the images come from, in one of the three forms.
        data_dir: Where `tfds:` looks for prepared sets. Empty means
            `$TFDS_DATA_DIR`, or `~/tensorflow_datasets`. Other sources ignore it.
        test_fraction: Share of each class that becomes the test part where a folder has
            none, in `(0, 1)`. Other sources ignore it.
        seed: Seed of that draw, in `[0, 2**64)`.
        empty_classes: Whether a folder may have classes without an image in a part.

    Returns:
        The encoded images of both parts, and the names of the classes. It pickles.

    Raises:
        ValueError: If an argument is out of range, the source cannot be read image by
            image, or a part is empty.
        FileNotFoundError: If the set is not there.
        ModuleNotFoundError: If the reader of this source is not installed.

    Example:
        >>> import pathlib
        >>> import tempfile
        >>> from hypersphere import data
        >>> with tempfile.TemporaryDirectory() as folder:
        ...     for name in ("train/cat/1.png", "train/cat/2.png", "test/cat/3.png"):
        ...         path = pathlib.Path(folder, name)
        ...         path.parent.mkdir(parents=True, exist_ok=True)
        ...         size = path.write_bytes(b"an image")
        ...     opened = data.open_records(f"folder:{folder}")
        ...     len(opened.train), len(opened.test), opened.train[0]
        (2, 1, Record(content=b'an image', label=0))
    """
    reading = Reading(
        data_dir=data_dir,
        test_fraction=test_fraction,
        seed=seed,
        empty_classes=empty_classes,
    )
    check_reading(reading, "open_records")
    row, rest = find(
        source,
        "open_records",
        lambda row: row.open,
        ", which are read image by image (`load` loads the others whole)",
    )
    with naming_what_is_missing(f"open_records({source!r})"):
        opened = row.open(rest, reading)
    _check_parts(opened)
    return opened


def _check_parts(opened: RecordSet) -> None:
    sizes = len(opened.train), len(opened.test)
    if not all(sizes):
        raise ValueError(
            f"`{opened.name}` needs at least one image to train and one to test on, "
            f"got {sizes[0]} and {sizes[1]}."
        )
