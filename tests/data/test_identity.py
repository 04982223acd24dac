import numpy as np
import pytest

from hypersphere import data
from tests.data.test_folder import load, random_pixels, write, write_classes


def dataset(names=("cat", "dog"), seed=0):
    parts = [
        data.ImageSet(
            random_pixels([seed, size], (size, 4, 4, 1)),
            (np.arange(size) % len(names)).astype(np.int32),
        )
        for size in (6, 4)
    ]
    return data.Dataset("pets", *parts, names)


def test_contents_differ_where_one_pixel_or_label_does():
    one = dataset()
    same = data.contents(dataset())
    assert data.contents(one) == same
    one.train.images[3, 2, 1] ^= 1
    other = data.contents(one)
    assert other["train"] != same["train"] and other["test"] == same["test"]
    one.test.labels[:] = 0
    assert data.contents(one)["test"] != same["test"]


def test_contents_of_files_are_their_names_labels_and_bytes(tmp_path):
    def contents(change):
        folder = tmp_path / f"copy {len(list(tmp_path.iterdir()))}"
        write_classes(folder / "train", {"a": 70, "bb": 70})
        write_classes(folder / "test", {"a": 1, "bb": 1})
        change(folder / "train")
        opened = data.open_records(f"folder:{folder}")
        assert data.contents(opened) == data.contents(load(folder))
        return data.contents(opened)["train"]

    first = lambda root: root / "a" / "000.png"  # noqa: E731
    changes = [
        lambda root: None,
        lambda root: None,  # another place is no change
        lambda root: first(root).rename(root / "a" / "0000.png"),
        lambda root: first(root).rename(root / "bb" / "999.png"),
        lambda root: write(first(root), random_pixels(9)),
    ]
    plain, moved, *others = map(contents, changes)
    assert plain == moved
    assert len({plain, *others}) == 4


def test_labels_are_found_by_the_names_of_their_classes():
    here = ("bird", "dog", "cat")
    ours, told = data.with_classes(dataset(), here)
    assert ours.class_names == here and told == ""
    assert ours.train.labels.tolist() == [2, 1, 2, 1, 2, 1]
    records = data.RecordSet("pets", [data.Record(b"x", 1)], [], ("cat", "dog"))
    mapped, _ = data.with_classes(records, here)
    assert mapped.train[0] == data.Record(b"x", 1) and len(mapped.train) == 1
    assert data.with_classes(dataset(here), here)[0].train.labels.tolist() == [
        *(0, 1, 2, 0, 1, 2)
    ]


def test_classes_without_names_are_taken_by_their_numbers_and_that_is_told():
    ours, told = data.with_classes(dataset(("0", "1")), ("cat", "dog", "owl"))
    assert ours.test.labels.tolist() == [0, 1, 0, 1]
    assert "taken by their numbers" in told


def test_a_class_that_is_unknown_is_refused_with_the_nearest():
    with pytest.raises(ValueError, match=r"'dog'. Is it 'dogs'"):
        data.with_classes(dataset(), ("cat", "dogs"))
