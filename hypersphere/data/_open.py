"""From one string to a set whose images stay encoded until they are needed."""

from hypersphere.data._records import RecordSet


def open_records(
    source: str, *, data_dir: str = "", test_fraction: float = 0.2, seed: int = 0
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
    _check_options(test_fraction, seed)
    try:
        opened = _open(source, data_dir, test_fraction, seed)
    except ModuleNotFoundError as error:
        if error.name not in ("PIL", "tensorflow_datasets"):
            raise
        raise ModuleNotFoundError(
            f"`open_records({source!r})` needs the package `{error.name}`, which is "
            "not installed. `pip install 'hypersphere-jax[train]'` brings it.",
            name=error.name,
        ) from error
    _check_parts(opened)
    return opened


def _open(source: str, data_dir: str, test_fraction: float, seed: int) -> RecordSet:
    """Calls the reader that the source names; what they import is optional."""
    match source.partition(":"):
        case ("tfds", ":", name) if name:
            from hypersphere.data._tfds import open_tfds

            return open_tfds(name, data_dir=data_dir)
        case ("folder", ":", path) if path:
            from hypersphere.data._folder import open_folder

            return open_folder(path, test_fraction=test_fraction, seed=seed)
        case ("tar", ":", path) if path:
            from hypersphere.data._tar import open_tar

            return open_tar(path)
    raise ValueError(
        "`open_records` needs `source` to be one of `tfds:NAME`, `folder:PATH` or "
        f"`tar:PATH`, which are read image by image, got `source={source!r}`. The "
        "other sources are loaded whole, with `load`."
    )


def _check_options(test_fraction: float, seed: int) -> None:
    if not 0 < test_fraction < 1:
        raise ValueError(
            "`open_records` needs `0 < test_fraction < 1`, got "
            f"`test_fraction={test_fraction!r}`."
        )
    if not 0 <= seed < 2**64:
        raise ValueError(
            f"`open_records` needs `0 <= seed < 2**64`, got `seed={seed}`."
        )


def _check_parts(opened: RecordSet) -> None:
    sizes = len(opened.train), len(opened.test)
    if not all(sizes):
        raise ValueError(
            f"`{opened.name}` needs at least one image to train and one to test on, "
            f"got {sizes[0]} and {sizes[1]}."
        )
