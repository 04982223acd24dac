import io
import pickle
import sys
import types

import numpy as np
import pytest
from PIL import Image

from hypersphere import data
from tests.data import test_folder, test_tfds


@pytest.fixture
def folder(tmp_path):
    test_folder.write_classes(tmp_path / "train", {"dog": 3, "a cat": 2})
    test_folder.write_classes(tmp_path / "val", {"dog": 1, "a cat": 2})
    return f"folder:{tmp_path}", {}


@pytest.fixture
def tfds(tmp_path):
    splits = {"train": test_tfds.rows(7), "test": test_tfds.rows(4, first=50)}
    test_tfds.prepare(tmp_path, splits, test_tfds.features())
    return "tfds:tiny", {"data_dir": str(tmp_path)}


@pytest.fixture(params=["folder", "tfds"])
def source(request):
    return request.getfixturevalue(request.param)


def decoded(content):
    return np.asarray(Image.open(io.BytesIO(content)))


def all_of(records):
    return [records[index] for index in range(len(records))]


def test_opening_and_loading_give_the_same_set(source):
    name, options = source
    opened, loaded = data.open_records(name, **options), data.load(name, **options)
    assert opened.name == loaded.name == name
    assert opened.class_names == loaded.class_names
    assert opened.num_classes == loaded.num_classes
    for records, part in ((opened.train, loaded.train), (opened.test, loaded.test)):
        assert len(records) == len(part.labels)
        for record, image, label in zip(all_of(records), *part, strict=True):
            np.testing.assert_array_equal(decoded(record.content), image)
            assert record.label == label


def test_files_are_read_as_they_are(folder, tmp_path):
    records = data.open_records(folder[0]).train
    assert records[4].content == (tmp_path / "train/dog/002.png").read_bytes()
    assert records.name(4) == str(tmp_path / "train/dog/002.png")


def test_records_of_a_split_are_named_by_position(tfds):
    records = data.open_records(tfds[0], **tfds[1]).test
    assert records.name(2) == "record 2 of split 'test'"


def test_a_set_pickles(source):
    opened = data.open_records(source[0], **source[1])
    opened.train[0]  # opens files, which do not pickle
    again = pickle.loads(pickle.dumps(opened))
    assert all_of(again.train) == all_of(opened.train)
    assert again.test.name(1) == opened.test.name(1)


def test_the_seed_decides_what_is_drawn(tmp_path):
    test_folder.write_classes(tmp_path, {"a": 12, "bb": 12})
    options = [{"seed": 0}, {"seed": 0}, {"seed": 1}, {"test_fraction": 0.5}]
    tests = [data.open_records(f"folder:{tmp_path}", **x).test for x in options]
    names = [[test.name(i) for i in range(len(test))] for test in tests]
    assert names[0] == names[1] != names[2]
    assert [len(x) for x in names] == [4, 4, 4, 12]


def test_tensorflow_is_not_imported(tfds):
    all_of(data.open_records(tfds[0], **tfds[1]).train)
    assert "tensorflow" not in sys.modules


class Nothing(tuple):
    def name(self, index):
        return str(index)


def test_tar_is_opened_by_its_own_reader(monkeypatch):
    part = Nothing([data.Record(b"", 0)])
    opened = data.RecordSet("tar:x", part, part, ("a",))
    reader = types.SimpleNamespace(open_tar={"~/some/where": opened}.get)
    monkeypatch.setitem(sys.modules, "hypersphere.data._tar", reader)
    assert data.open_records("tar:~/some/where") is opened


@pytest.mark.parametrize(
    "source",
    ["mnist5k", "idx:x", "synthetic:8x8x3,classes=2,examples=4", "tar:", "tfds", "x:y"],
)
def test_what_is_not_read_image_by_image_is_refused(source):
    message = (
        r"one of `tfds:NAME`, `folder:PATH` or `tar:PATH`.*`load` loads the others.*"
        f"got `source='{source}'`"
    )
    with pytest.raises(ValueError, match=message):
        data.open_records(source)


def test_tfrecord_sets_are_refused_as_when_loaded(tfds, tmp_path):
    path = tmp_path / "tiny" / "1.2.3" / "dataset_info.json"
    path.write_text(path.read_text().replace("array_record", "tfrecord"))
    messages = []
    for function in (data.open_records, data.load):
        with pytest.raises(ValueError, match="run `tfds convert_format") as caught:
            function(tfds[0], **tfds[1])
        messages.append(str(caught.value))
    assert messages[0] == messages[1]


def test_an_empty_part_is_refused(tmp_path):
    test_folder.write_classes(tmp_path, {"a": 1, "bb": 1})
    with pytest.raises(ValueError, match="at least one image .* got 2 and 0"):
        data.open_records(f"folder:{tmp_path}")


@pytest.mark.parametrize(
    ("options", "message"),
    [
        ({"test_fraction": 1.0}, "0 < test_fraction < 1`, got `test_fraction=1.0`"),
        ({"seed": -1}, r"0 <= seed < 2\*\*64`, got `seed=-1`"),
    ],
)
def test_options_out_of_range_are_refused(folder, options, message):
    with pytest.raises(ValueError, match=message):
        data.open_records(folder[0], **options)


def test_a_missing_package_is_named(monkeypatch):
    monkeypatch.delitem(sys.modules, "hypersphere.data._tfds", raising=False)
    monkeypatch.setitem(sys.modules, "tensorflow_datasets", None)
    with pytest.raises(ModuleNotFoundError, match="open_records.*pip install"):
        data.open_records("tfds:mnist")
