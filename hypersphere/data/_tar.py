"""Sets in tar archives, in the layouts they are published in."""

import contextlib
import itertools
from pathlib import Path

from hypersphere.data import _image_files
from hypersphere.data._records import RecordSet
from hypersphere.data._tar_index import (
    Member,
    TarRecords,
    content_of,
    images,
    members,
)

_IMAGENET_TRAIN = "ILSVRC2012_img_train.tar"
_IMAGENET_VAL = "ILSVRC2012_img_val.tar"
_LABEL = ".cls"  # the ending of a label's file in WebDataset
_LONGEST_LABEL = 64  # bytes
_IMAGENET_LABELS = "imagenet_2012_validation_synset_labels.txt"

Labelled = list[tuple[str, Member]]  # each image's class, and the image


def open_tar(path: str) -> RecordSet:
    """Indexes uncompressed tar archives, whose images are then read at random.

    Three layouts of the folder are known. Classes are sorted by name, and images keep
    the order of the archives. Of a name that is there twice the last image counts, and
    archives that were appended to another are read as well. What is no image file is
    left out, and a line says how much that is.

    | in the folder | what the archives hold |
    |---|---|
    | `train.tar` and `test.tar` | `CLASS/NAME.jpg` |
    | `train/CLASS.tar` and `test/CLASS.tar` | images of one class |
    | `train/*.tar` and `test/*.tar` | WebDataset: `NAME.jpg` beside `NAME.cls` |
    | `ILSVRC2012_img_train.tar` and `ILSVRC2012_img_val.tar` | ImageNet as published |

    A `.cls` file holds the number of a class; what its name is, line by line, may stand
    in `classes.txt` beside `train`, else it is the number.

    For `train` there may stand `training`, for `test` also `testing`, `validation`,
    `valid` or `val`, with any capitals.

    All members `CLASS/NAME.jpg` of an archive may lie in one common folder. ImageNet's
    validation labels come from `imagenet_2012_validation_synset_labels.txt` beside the
    archives, one WordNet id per line in the order of the images' names, or else from
    the list that TensorFlow Datasets ships.

    Args:
        path: The folder with the archives; `~` is the home folder.

    Returns:
        The encoded images and their labels. Pickles; reading keeps no file open.

    Raises:
        FileNotFoundError: If the folder, an archive or the validation labels are
            missing.
        ValueError: If an archive is compressed, damaged or laid out in another way, or
            if training and test part differ in their classes.

    Example:
        >>> import io, pathlib, tarfile, tempfile
        >>> folder = tempfile.TemporaryDirectory()
        >>> for part in "train", "test":
        ...     with tarfile.open(pathlib.Path(folder.name, f"{part}.tar"), "w") as tar:
        ...         for name in "cat/0.png", "dog/0.png":
        ...             member = tarfile.TarInfo(name)
        ...             member.size = 3
        ...             tar.addfile(member, io.BytesIO(b"..."))
        >>> tars = open_tar(folder.name)
        >>> tars.class_names, tars.train[1]
        (('cat', 'dog'), Record(content=b'...', label=1))
        >>> folder.cleanup()
    """
    who = f"tar:{path}"
    root = Path(path).expanduser()
    if not root.is_dir():
        raise FileNotFoundError(
            f"`{who}` needs a folder of tar archives, got {root}, which "
            f"{'is a file' if root.exists() else 'does not exist'}."
        )
    left_out = _image_files.LeftOut()
    train, test = _find_parts(root, who, left_out)
    left_out.tell(who)
    class_names = _common_classes(train, test, who)
    if left_out.has_labels and all(name.isdecimal() for name in class_names):
        class_names = tuple(sorted(class_names, key=int))  # of shards; not as text
    label = {name: index for index, name in enumerate(class_names)}
    train_records, test_records = (
        TarRecords.of(
            [image for _, image in part], [label[class_name] for class_name, _ in part]
        )
        for part in (train, test)
    )
    return RecordSet(who, train_records, test_records, class_names)


def _find_parts(
    root: Path, who: str, left_out: _image_files.LeftOut
) -> tuple[Labelled, Labelled]:
    """Recognizes the layout and lists the images of both parts."""
    if (root / _IMAGENET_TRAIN).exists():
        train = _imagenet_train(root / _IMAGENET_TRAIN, who, left_out)
        return train, _imagenet_val(root / _IMAGENET_VAL, who, left_out)
    layouts = [
        (".tar", lambda path: path.is_file(), _classes_inside),
        ("", _class_tars, _classes_beside),
    ]
    for ending, holds, read in layouts:
        trains, tests = (
            [path for path in _image_files.named(root, names, ending) if holds(path)]
            for names in (_image_files.TRAIN_NAMES, _image_files.TEST_NAMES)
        )
        if trains and tests:
            return read(trains[0], who, left_out), read(tests[0], who, left_out)
    raise FileNotFoundError(
        f"`{who}` needs `train.tar` and one of `test.tar`, `validation.tar` and "
        "`val.tar`, or folders of those names with one tar per class, or "
        f"`{_IMAGENET_TRAIN}` and `{_IMAGENET_VAL}`, got "
        f"{', '.join(sorted(child.name for child in root.iterdir())[:8]) or 'nothing'} "
        f"in {root}. Unpack compressed archives once, for example by `gunzip`."
    )


def _class_tars(folder: Path) -> list[Path]:
    return sorted(folder.glob("[!.]*.tar"), key=lambda path: path.name)


def _classes_inside(
    archive: Path, who: str, left_out: _image_files.LeftOut
) -> Labelled:
    """Images of an archive whose folders are the classes."""
    found: Labelled = []
    tops: dict[tuple[str, ...] | None, str] = {}  # each with an image in it
    for image in images(archive, who, left_out=left_out):
        *folders, _ = (part for part in image.name.split("/") if part != ".")
        tops.setdefault(tuple(folders[:-1]) if folders else None, image.name)
        found.append((folders[-1] if folders else "", image.member))
    if len(tops) != 1 or None in tops:
        raise ValueError(
            f"`{who}` needs members called CLASS/NAME, all of them in one common "
            f"folder or in none, got {' and '.join(list(tops.values())[:3]) or 'none'} "
            f"in {archive}."
        )
    return found


def _classes_beside(folder: Path, who: str, left_out: _image_files.LeftOut) -> Labelled:
    """Images of a folder with one archive per class, or with shards of WebDataset."""
    first = itertools.islice(members(_class_tars(folder)[0], who), 16)
    if any(member.name.endswith(_LABEL) for member in first):
        return _shards(folder, who, left_out)
    return [
        labelled
        for archive in _class_tars(folder)
        for labelled in _one_class(archive, archive.stem, who, left_out)
    ]


def _shards(folder: Path, who: str, left_out: _image_files.LeftOut) -> Labelled:
    """Images of archives whose labels lie beside them, by the name up to a dot."""
    found: Labelled = []
    names = _names_of_shards(folder.parent)
    for archive in _class_tars(folder):
        labels: dict[str, str] = {}
        for member in members(archive, who):
            if member.isreg() and member.name.endswith(_LABEL):
                content = content_of(archive, member, _LONGEST_LABEL)
                labels[_key(member.name)] = content.decode("ascii", "replace").strip()
        for image in images(archive, who, left_out=left_out, labels=_LABEL):
            label = labels.get(_key(image.name), "")
            if not label.isdecimal() or (names and int(label) >= len(names)):
                known = f" of {len(names)} in classes.txt" * bool(names)
                raise ValueError(
                    f"`{who}` needs the number of a class{known} in "
                    f"{_key(image.name)}{_LABEL} in {archive}, got "
                    f"{label or 'no such file'!r}."
                )
            found.append((names[int(label)] if names else label, image.member))
    return found


def _key(name: str) -> str:
    folder, slash, last = name.rpartition("/")
    return f"{folder}{slash}{last.partition('.')[0]}"


def _names_of_shards(root: Path) -> list[str]:
    file = root / "classes.txt"
    if not file.is_file():
        return []
    return [line.strip() for line in file.read_text(encoding="utf-8").splitlines()]


def _imagenet_train(
    archive: Path, who: str, left_out: _image_files.LeftOut
) -> Labelled:
    """Images of a tar of one tar per class."""
    tars = {  # of a name that is there twice the last one counts
        member.name.rpartition("/")[2].removesuffix(".tar"): (
            member.offset_data,
            member.offset_data + member.size,
        )
        for member in members(archive, who)
        if member.isreg() and member.name.endswith(".tar")
    }
    return [
        labelled
        for class_name, within in tars.items()
        for labelled in _one_class(archive, class_name, who, left_out, within)
    ]


def _one_class(
    archive: Path,
    class_name: str,
    who: str,
    left_out: _image_files.LeftOut,
    within: tuple[int, int | None] = (0, None),
) -> Labelled:
    found = images(archive, who, within=within, left_out=left_out)
    if not found:
        raise ValueError(
            f"`{who}` needs image files ({', '.join(sorted(_image_files.EXTENSIONS))}) "
            f"of every class, got none of {class_name} in {archive}."
        )
    return [(class_name, image.member) for image in found]


def _imagenet_val(archive: Path, who: str, left_out: _image_files.LeftOut) -> Labelled:
    """Images of a flat archive; their labels are listed in the order of their names."""
    found = images(archive, who, left_out=left_out)
    path = _imagenet_labels(archive.parent, who)
    labels = path.read_text(encoding="utf-8").split()
    if len(labels) != len(found):
        raise ValueError(
            f"`{who}` needs one line of {path} per image of {archive}, got "
            f"{len(labels):,} lines and {len(found):,} images."
        )
    names = sorted(image.name for image in found)
    class_of = dict(zip(names, labels, strict=True))
    return [(class_of[image.name], image.member) for image in found]


def _imagenet_labels(root: Path, who: str) -> Path:
    """The list beside the archives, or else the one in TensorFlow Datasets."""
    beside = root / _IMAGENET_LABELS
    if beside.is_file():
        return beside
    with contextlib.suppress(ModuleNotFoundError):
        import tensorflow_datasets as tfds

        folder = Path(tfds.core.tfds_path("datasets/imagenet2012"))
        shipped = folder / "validation_labels.txt"
        if shipped.is_file():
            return shipped
    raise FileNotFoundError(
        f"`{who}` needs {beside}, one WordNet id (n01440764) per line in the order of "
        "the validation images' names; no installed TensorFlow Datasets brings it. The "
        "numbers in `ILSVRC2012_validation_ground_truth.txt` count the classes in "
        "another order and cannot stand in."
    )


def _common_classes(train: Labelled, test: Labelled, who: str) -> tuple[str, ...]:
    """Names of the classes, sorted; both parts need the same."""
    known, tested = ({name for name, _ in part} for part in (train, test))
    if known != tested:
        raise ValueError(
            f"`{who}` needs the same classes to train and to test, got "
            f"{sorted(tested - known)[:8] or 'none'} only in the test part and "
            f"{sorted(known - tested)[:8] or 'none'} only in the training part."
        )
    return tuple(sorted(known))
