import dataclasses

import numpy as np
import pytest

from hypersphere import data


def part(count=4, size=(5, 6, 3), labels=None):
    images = np.zeros((count, *size), np.uint8)
    labels = np.arange(count) % 2 if labels is None else np.array(labels)
    return data.ImageSet(images, labels.astype(np.int32))


def dataset(train, test=None):
    return data.Dataset("tiny", train, test or part(), ("cat", "dog"))


def test_shape_and_classes_are_those_of_the_parts():
    assert dataset(part()).num_classes == 2
    assert dataset(part()).image_shape == (5, 6, 3)


def test_fields_cannot_be_replaced():
    with pytest.raises(dataclasses.FrozenInstanceError):
        dataset(part()).name = "other"


@pytest.mark.parametrize("label", [-1, 2])
def test_label_out_of_range_is_named(label):
    message = rf"tiny, train.*0 <= label < 2.*labels\[2\]={label}` \(1 such"
    with pytest.raises(ValueError, match=message):
        dataset(part(labels=[0, 1, label, 1]))


def test_the_test_part_is_checked_too():
    with pytest.raises(ValueError, match=r"tiny, test.*labels\[0\]=7"):
        dataset(part(), part(labels=[7, 1, 0, 1]))


def test_images_and_labels_must_be_equally_many():
    with pytest.raises(ValueError, match="got 4 images and 3 labels"):
        dataset(part(labels=[0, 1, 0]))


def test_an_empty_part_is_refused():
    with pytest.raises(
        ValueError, match="tiny, test.*at least one image.*got 0 images"
    ):
        dataset(part(), part(count=0))


def test_parts_must_agree_in_the_shape_of_an_image():
    message = r"one shape.*\(4, 5, 6, 3\).*\(4, 5, 6, 1\)"
    with pytest.raises(ValueError, match=message):
        dataset(part(), part(size=(5, 6, 1)))


def test_images_must_be_uint8():
    floats = part()._replace(images=np.zeros((4, 5, 6, 3)))
    with pytest.raises(ValueError, match=r"uint8 `images`.*float64 of shape \(4, 5"):
        dataset(floats)


def test_examples_and_labels_of_other_kinds_need_no_classes():
    numbers = np.ones((4, 7), np.float32)
    labels = {"x": np.zeros(4, np.float32), "y": np.zeros((4, 2), np.int32)}
    both = data.ImageSet(numbers, labels)
    found = data.Dataset("numbers", both, both)
    assert (found.num_classes, found.image_shape) == (0, (7,))
    with pytest.raises(ValueError, match=r"of one kind.*'y': 'int32\[2\]'"):
        data.Dataset("numbers", both, both._replace(labels=labels["x"]))
    with pytest.raises(ValueError, match=r"got 4 images and 4 and 3 labels"):
        short = both._replace(labels=labels | {"y": np.zeros((3, 2), np.int32)})
        data.Dataset("numbers", short, both)
    with pytest.raises(
        ValueError, match="Labels that are no classes need a set without"
    ):
        data.Dataset("numbers", both, both, ("cat",))


def test_labels_that_jax_would_cut_off_are_refused():
    part = data.ImageSet(np.ones((4, 7), np.float32), np.zeros(4, np.int64))
    with pytest.raises(ValueError, match=r"of int32, float32.*got int64, which JAX"):
        data.Dataset("numbers", part, part)


def test_labels_must_be_int32():
    wide = part()._replace(labels=np.zeros(4, np.int64))
    with pytest.raises(ValueError, match=r"int32 `labels`.*int64 of shape \(4,\)"):
        dataset(wide)
