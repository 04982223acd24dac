import io
import json
import sys

import numpy as np
import pytest
import tensorflow_datasets as tfds
from PIL import Image

from hypersphere import data
from hypersphere.data import _memory


def png(pixels):
    file = io.BytesIO()
    Image.fromarray(pixels).save(file, "PNG")
    return file.getvalue()


def example(index, label, *, size=(4, 6, 3)):
    """An image whose first pixel says which one it is."""
    pixels = np.random.default_rng(index).integers(0, 256, size, dtype=np.uint8)
    pixels[0, 0] = index
    return {"image": png(pixels), "label": label}, pixels


def features(shape=(None, None, 3), **more):
    return {
        "image": tfds.features.Image(shape=shape, encoding_format="png"),
        "label": tfds.features.ClassLabel(names=["cat", "dog", "eel"]),
        **more,
    }


def prepare(root, splits, features):
    """Prepares a set called `tiny` in array_record format, without TensorFlow."""
    with tfds.core.registered.skip_registration():

        class Tiny(tfds.core.GeneratorBasedBuilder):
            VERSION = tfds.core.Version("1.2.3")
            url_infos = None  # nothing to download

            def _info(self):
                return tfds.core.DatasetInfo(
                    builder=self, features=tfds.features.FeaturesDict(features)
                )

            def _split_generators(self, dl_manager):
                return {split: enumerate(files(rows)) for split, rows in splits.items()}

            def _generate_examples(self):
                return ()  # abstract, and unused: each split brings its examples

    def files(rows):
        for row in rows:
            yield {
                key: io.BytesIO(value) if isinstance(value, bytes) else value
                for key, value in row.items()
            }

    Tiny(data_dir=root, file_format="array_record").download_and_prepare()


def rows(count, first=0, **options):
    return [example(first + i, i % 3, **options)[0] for i in range(count)]


def load(root, name="tiny", **options):
    return data.load(f"tfds:{name}", data_dir=str(root), **options)


def by_index(part):
    return {image[0, 0, 0]: (image, label) for image, label in zip(*part, strict=True)}


def test_pixels_and_labels_are_read_back(tmp_path):
    prepare(tmp_path, {"train": rows(7), "test": rows(4, first=50)}, features())
    dataset = load(tmp_path)
    assert dataset.class_names == ("cat", "dog", "eel")
    assert dataset.train.labels.dtype == np.int32
    for part, first, count in ((dataset.train, 0, 7), (dataset.test, 50, 4)):
        found = by_index(part)
        assert len(found) == count
        for i in range(count):
            image, label = found[first + i]
            np.testing.assert_array_equal(image, example(first + i, i % 3)[1])
            assert label == i % 3


def test_tensorflow_is_not_imported(tmp_path):
    prepare(tmp_path, {"train": rows(3), "test": rows(3)}, features())
    load(tmp_path)
    assert "tensorflow" not in sys.modules


def test_gray_sets_have_one_channel(tmp_path):
    gray = rows(3, size=(4, 6))
    prepare(tmp_path, {"train": gray, "test": gray}, features((4, 6, 1)))
    dataset = load(tmp_path)
    assert dataset.image_shape == (4, 6, 1)
    np.testing.assert_array_equal(
        by_index(dataset.train)[2][0][..., 0], example(2, 2, size=(4, 6))[1]
    )


def test_other_features_do_not_matter(tmp_path):
    named = [row | {"name": "x"} for row in rows(3)]
    prepare(
        tmp_path,
        {"train": named, "test": named},
        features(name=tfds.features.Text()),
    )
    assert len(load(tmp_path).train.labels) == 3


def test_a_version_can_be_named(tmp_path):
    prepare(tmp_path, {"train": rows(3), "test": rows(3)}, features())
    assert load(tmp_path, "tiny:1.2.3").name == "tfds:tiny:1.2.3"


def test_the_environment_variable_says_where_sets_are(tmp_path, monkeypatch):
    prepare(tmp_path, {"train": rows(3), "test": rows(3)}, features())
    monkeypatch.setenv("TFDS_DATA_DIR", str(tmp_path))
    assert len(data.load("tfds:tiny").train.labels) == 3


def test_validation_stands_in_for_a_missing_test_split(tmp_path):
    splits = {"train": rows(3), "validation": rows(2, first=70)}
    prepare(tmp_path, splits, features())
    assert set(by_index(load(tmp_path).test)) == {70, 71}


def test_validation_stands_in_for_a_test_split_with_secret_labels(tmp_path):
    secret = [row | {"label": -1} for row in rows(3)]
    splits = {"train": rows(3), "validation": rows(2, first=70), "test": secret}
    prepare(tmp_path, splits, features())
    assert set(by_index(load(tmp_path).test)) == {70, 71}


def test_one_unknown_label_is_named(tmp_path):
    broken = [row | {"label": -1} for row in rows(1)]
    prepare(tmp_path, {"train": broken, "test": rows(3)}, features())
    with pytest.raises(ValueError, match=r"train.*labels\[0\]=-1"):
        load(tmp_path)


def test_image_size_resizes(tmp_path):
    mixed = [example(0, 0)[0], example(1, 1, size=(9, 8, 3))[0]]
    prepare(tmp_path, {"train": mixed, "test": mixed}, features())
    assert load(tmp_path, image_size=5).train.images.shape == (2, 5, 5, 3)


def test_images_of_different_sizes_are_named(tmp_path):
    mixed = [example(0, 0)[0], example(1, 1, size=(9, 8, 3))[0]]
    prepare(tmp_path, {"train": mixed, "test": mixed}, features())
    message = "record 0 of split 'train' and .* in record 1 of split 'train'.*size=4"
    with pytest.raises(ValueError, match=message):
        load(tmp_path)


def test_a_truncated_image_is_named(tmp_path):
    good, bad = rows(3), rows(1)
    bad[0]["image"] = bad[0]["image"][:60]
    prepare(tmp_path, {"train": good, "test": bad}, features())
    message = "got record 0 of split 'test', which cannot be decoded"
    with pytest.raises(ValueError, match=message):
        load(tmp_path)


def test_a_missing_set_says_where_it_looked_and_what_to_run(tmp_path):
    prepare(tmp_path, {"train": rows(3), "test": rows(3)}, features())
    message = (
        rf"set 'other' under {tmp_path} .*got tiny:1\.2\.3 there.*"
        rf"`tfds build other --file_format=array_record --data_dir={tmp_path}`"
    )
    with pytest.raises(FileNotFoundError, match=message):
        load(tmp_path, "other")


def test_a_set_that_is_known_but_not_prepared_is_missing(tmp_path):
    with pytest.raises(FileNotFoundError, match="'mnist'.*got no set at all there"):
        load(tmp_path, "mnist")


def test_tfrecord_sets_are_refused_with_the_command_that_converts(tmp_path):
    prepare(tmp_path, {"train": rows(3), "test": rows(3)}, features())
    path = tmp_path / "tiny" / "1.2.3" / "dataset_info.json"
    info = json.loads(path.read_text()) | {"fileFormat": "tfrecord"}
    path.write_text(json.dumps(info))
    message = (
        r"array_record format, got \['tfrecord'\].*`tfds convert_format "
        rf"--dataset_version_dir={path.parent} --out_file_format=array_record`"
    )
    with pytest.raises(ValueError, match=message):
        load(tmp_path)


@pytest.mark.parametrize("missing", ["image", "label"])
def test_sets_of_other_kinds_are_refused(tmp_path, missing):
    kept = features()
    kept[f"other_{missing}"] = kept.pop(missing)
    renamed = [
        {f"other_{key}" if key == missing else key: value for key, value in row.items()}
        for row in rows(3)
    ]
    prepare(tmp_path, {"train": renamed, "test": renamed}, kept)
    message = "features `image` .* and `label` .*no image classification set"
    with pytest.raises(ValueError, match=f"(?s){message}"):
        load(tmp_path)


@pytest.mark.parametrize("splits", [["train"], ["test"], ["train", "extra"]])
def test_missing_splits_are_refused(tmp_path, splits):
    prepare(tmp_path, {split: rows(3) for split in splits}, features())
    message = rf"`train`, and `test` or `validation`.*got \['{sorted(splits)[0]}'"
    with pytest.raises(ValueError, match=message):
        load(tmp_path)


def test_a_set_too_large_for_memory_is_refused(tmp_path, monkeypatch):
    prepare(tmp_path, {"train": rows(5), "test": rows(2)}, features())
    monkeypatch.setattr(_memory, "MAX_BYTES", 500)
    with pytest.raises(ValueError, match="got 7 of 4x6x3"):
        load(tmp_path)


@pytest.mark.parametrize("damage", ["cut", "flipped", "empty"])
def test_damaged_files_are_named_with_the_way_out(tmp_path, damage):
    prepare(tmp_path, {"train": rows(5), "test": rows(2)}, features())
    (file,) = tmp_path.rglob("*train*")
    content = bytearray(file.read_bytes())
    if damage == "flipped":
        content[content.index(b"IDAT") + 9] ^= 255
    file.write_bytes({"cut": content[:99], "empty": b""}.get(damage, content))
    with pytest.raises(ValueError) as told:
        load(tmp_path)
    message = str(told.value)
    is_image = "cannot be decoded" in message  # a flip inside a picture
    assert is_image or ("split 'train'" in message and "data check" in message)


def test_a_set_that_asks_for_other_code_is_refused_before_it_is_imported(tmp_path):
    prepare(tmp_path, {"train": rows(2), "test": rows(2)}, features())
    (file,) = tmp_path.rglob("features.json")
    trap = "antigravity.Image"
    text = file.read_text()
    name = "tensorflow_datasets.core.features.image_feature.Image"
    assert name in text
    file.write_text(text.replace(name, trap))
    with pytest.raises(ValueError, match="asks for 'antigravity.Image'.*not imported"):
        load(tmp_path)
    assert "antigravity" not in sys.modules
