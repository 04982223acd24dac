import numpy as np
import pytest

from hypersphere import data
from hypersphere.data import _memory

SOURCE = "synthetic:12x16x3,classes=4,examples=203"


def test_shapes_follow_the_string():
    dataset = data.load(SOURCE)
    assert dataset.train.images.shape == (203, 12, 16, 3)
    assert dataset.test.images.shape == (40, 12, 16, 3)
    assert dataset.class_names == ("0", "1", "2", "3")


def test_a_small_set_still_tests_every_class():
    dataset = data.load("synthetic:4x4x1,classes=7,examples=8")
    assert sorted(dataset.test.labels.tolist()) == list(range(7))


def test_classes_are_balanced_and_in_random_order():
    labels = data.load(SOURCE).train.labels
    counts = np.bincount(labels)
    assert counts.max() - counts.min() <= 1
    assert (labels != np.arange(203) % 4).any()


def test_the_seed_decides():
    once, again, other = (data.load(SOURCE, seed=seed) for seed in (1, 1, 2))
    np.testing.assert_array_equal(once.train.images, again.train.images)
    np.testing.assert_array_equal(once.test.labels, again.test.labels)
    assert (once.train.images != other.train.images).any()


def test_test_images_are_not_training_images():
    dataset = data.load(SOURCE)
    seen = {image.tobytes() for image in dataset.train.images}
    assert len(seen) == 203
    assert not any(image.tobytes() in seen for image in dataset.test.images)


def test_classes_can_be_learned():
    dataset = data.load("synthetic:16x16x1,classes=5,examples=300")
    train, test = dataset.train, dataset.test
    means = np.stack([train.images[train.labels == k].mean(0) for k in range(5)])
    distances = ((test.images[:, None] - means[None]) ** 2).sum((2, 3, 4))
    assert (distances.argmin(1) == test.labels).mean() > 0.8


@pytest.mark.parametrize(
    ("spec", "message"),
    [
        ("8x8x3,classes=2,examples=9,color=1", r"with the unknown keys \['color'\]"),
        ("8x8x3,classes=2", "HxWxC,classes=K,examples=N.*got `synthetic:8x8x3,clas"),
        ("8x8,classes=2,examples=9", "positive integers, got `synthetic:8x8,"),
        ("8x8x3,classes=two,examples=9", "positive integers"),
        ("8x8x0,classes=2,examples=9", "positive integers"),
        (
            "",
            "one of .*`synthetic:HxWxC,classes=.*, got `source='synthetic:'`",
        ),
        (
            "8x8x3,classes=9,examples=8",
            "examples >= classes.*`classes=9`.*`examples=8`",
        ),
    ],
)
def test_a_wrong_spec_is_refused(spec, message):
    with pytest.raises(ValueError, match=message):
        data.load(f"synthetic:{spec}")


def test_a_set_too_large_for_memory_is_refused(monkeypatch):
    monkeypatch.setattr(_memory, "MAX_BYTES", 1000)
    with pytest.raises(ValueError, match="got 243 of 12x16x3"):
        data.load(SOURCE)
