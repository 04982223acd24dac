import jax
import numpy as np
import pytest

from hypersphere import data

COUNT = 40


def part(count, shift=0):
    numbers = np.arange(count, dtype=np.int32) + shift
    images = np.broadcast_to(numbers[:, None, None, None], (count, 2, 2, 1))
    return data.ImageSet(images.astype(np.uint8), numbers)


def dataset(**more):
    names = tuple(f"class {number}" for number in range(COUNT))
    return data.Dataset("counted", part(COUNT), part(3), names, **more)


def test_every_training_image_is_in_one_of_both_parts_with_its_label():
    found = data.with_validation(dataset(), 0.25, seed=3)
    train, held = found.train.labels, found.validation.labels
    assert sorted([*train, *held]) == list(range(COUNT)) and len(held) == 10
    assert (np.diff(held) > 0).all() and (np.diff(train) > 0).all()
    for each in (found.train, found.validation):
        np.testing.assert_array_equal(each.images[:, 0, 0, 0], each.labels)
    assert found.test.labels.tolist() == [0, 1, 2]


def test_the_seed_decides_which_and_the_contents_tell_it():
    draws = [data.with_validation(dataset(), 0.25, seed=seed) for seed in (0, 0, 1)]
    labels = [found.validation.labels.tolist() for found in draws]
    assert labels[0] == labels[1] != labels[2]
    contents = [data.contents(found) for found in draws]
    assert contents[0] == contents[1]
    assert contents[0]["validation"] != contents[2]["validation"]
    assert contents[0]["test"] == contents[2]["test"]


def test_what_is_streamed_is_parted_like_what_is_in_memory():
    decode = lambda item, rng: (np.float32([item]), np.int32(item))  # noqa: E731
    records = data.RecordSet("counted", range(COUNT), range(3), decode=decode)
    streamed = data.with_validation(records, 0.25, seed=3)
    loaded = data.with_validation(dataset(), 0.25, seed=3)
    for name in ("train", "validation"):
        found = getattr(streamed, name)
        items = [found[i] for i in range(len(found))]
        assert items == getattr(loaded, name).labels.tolist()
    assert data.name_of(streamed.validation, 0) == f"example {streamed.validation[0]}"


def test_classes_are_taken_by_their_names_there_too():
    found = data.with_validation(dataset(), 0.25, seed=0)
    names = found.class_names[::-1]
    other, told = data.with_classes(found, names)
    assert not told
    expected = COUNT - 1 - found.validation.labels
    np.testing.assert_array_equal(other.validation.labels, expected)


@pytest.mark.parametrize("fraction", [0.0, 1.0, -0.1])
def test_a_share_out_of_range_is_refused(fraction):
    with pytest.raises(ValueError, match="needs `0 < fraction < 1`"):
        data.with_validation(dataset(), fraction, seed=0)


def test_a_second_validation_part_is_refused():
    with pytest.raises(ValueError, match="counted has one"):
        data.with_validation(dataset(validation=part(4)), 0.1, seed=0)


def test_a_validation_part_of_another_shape_is_refused():
    wide = data.ImageSet(np.zeros((2, 3, 2, 1), np.uint8), np.zeros(2, np.int32))
    with pytest.raises(ValueError, match="training and validation images of one"):
        dataset(validation=wide)


def test_at_least_one_example_stays_in_each_part():
    few = data.Dataset("two", part(2), part(2), ("0", "1"))
    for fraction in (0.001, 0.999):
        found = data.with_validation(few, fraction, seed=0)
        sizes = jax.tree.map(len, (found.train.images, found.validation.images))
        assert sizes == (1, 1)


def test_fewer_are_drawn_by_the_seed_and_the_other_parts_stay():
    whole = data.with_validation(dataset(), 0.25, seed=0)
    found = [data.with_fewer(whole, 7, seed=seed) for seed in (0, 0, 1)]
    labels = [each.train.labels.tolist() for each in found]
    assert labels[0] == labels[1] != labels[2]
    assert len(labels[0]) == 7 and labels[0] == sorted(labels[0])
    assert set(labels[0]) <= set(whole.train.labels.tolist())
    np.testing.assert_array_equal(found[0].validation.labels, whole.validation.labels)
    with pytest.raises(ValueError, match="1 <= count <= 30"):
        data.with_fewer(whole, 31, seed=0)
