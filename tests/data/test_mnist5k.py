import numpy as np

from hypersphere import data


def test_digits_are_balanced_and_uint8():
    digits = data.load("mnist5k")
    for part, count in ((digits.train, 4000), (digits.test, 1000)):
        assert part.images.shape == (count, 28, 28, 1)
        assert (part.images.dtype, part.labels.dtype) == (np.uint8, np.int32)
        assert part.images.flags.c_contiguous
        np.testing.assert_array_equal(np.bincount(part.labels), count // 10)
    assert digits.class_names == tuple("0123456789")


def test_digits_are_recognized_by_their_nearest_mean():
    train, test = _parts()
    means = np.stack([train.images[train.labels == k].mean(0) for k in range(10)])
    distances = ((test.images[:, None] - means[None]) ** 2).sum((2, 3, 4))
    assert (distances.argmin(1) == test.labels).mean() > 0.75


def test_no_test_digit_is_a_training_digit():
    train, test = _parts()
    seen = {image.tobytes() for image in train.images}
    assert not any(image.tobytes() in seen for image in test.images)


def _parts():
    digits = data.load("mnist5k")
    return digits.train, digits.test
