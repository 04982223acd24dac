import functools

import jax
import numpy as np
import pytest

from hypersphere import data

KEY = jax.random.key(5)
compiled = jax.jit(data.erase, static_argnames=("probability", "area", "ratio", "fill"))


def bright_images(*shape):
    """Random levels from 1, so that 0 marks what is erased."""
    return np.random.default_rng(7).integers(1, 256, shape, dtype=np.uint8)


def erase(images, key=KEY, **options):
    return np.asarray(compiled(key, images, **options))


@functools.cache
def boxes(count, height, width, **options):
    """Heights, widths, tops and lefts of the boxes of many images."""
    images = bright_images(count, height, width, 1)
    gone = erase(images, probability=1.0, fill=0, **options)[..., 0] == 0
    rows, columns = gone.any(2), gone.any(1)
    return rows.sum(1), columns.sum(1), rows.argmax(1), columns.argmax(1)


def assert_uniform(values, low, high):
    """The distribution function differs less than by chance in 1 of 1000 cases."""
    levels = np.linspace(low, high, 50)
    part = np.searchsorted(np.sort(values), levels, side="right") / len(values)
    expected = (levels - low) / (high - low)
    assert np.abs(part - expected).max() < 1.95 / np.sqrt(len(values))


def test_one_box_is_filled_and_the_rest_is_untouched():
    images = bright_images(200, 9, 12, 3)
    erased = erase(images, probability=1.0, fill=0)
    gone = (erased == 0).all(3)
    np.testing.assert_array_equal(erased[~gone], images[~gone])
    box = gone.any(2)[:, :, None] & gone.any(1)[:, None, :]
    np.testing.assert_array_equal(gone, box)
    heights, widths = gone.any(2).sum(1), gone.any(1).sum(1)
    assert (np.abs(np.diff(gone.any(2), axis=1)).sum(1) <= 2).all()
    assert (np.abs(np.diff(gone.any(1), axis=1)).sum(1) <= 2).all()
    assert (heights * widths > 0).all()


@pytest.mark.parametrize("probability", [0.0, 0.25])
def test_each_image_is_erased_with_the_probability(probability):
    images = bright_images(1000, 8, 8, 1)
    erased = (erase(images, probability=probability, fill=0) == 0).any((1, 2, 3))
    spread = 4 * np.sqrt(probability * (1 - probability) / 1000)
    assert abs(erased.mean() - probability) <= spread


def test_areas_are_uniform_and_ratios_log_uniform():
    heights, widths, _, _ = boxes(2000, 128, 128)
    assert_uniform(heights * widths / 128**2, 0.02, 1 / 3)
    small = heights * widths < 0.3 * 128**2  # every ratio fits
    assert_uniform(np.log(heights / widths)[small], np.log(0.3), np.log(3.3))


def test_every_place_is_equally_likely():
    heights, widths, tops, lefts = boxes(
        5000, 8, 6, area=(8 / 48, 8 / 48), ratio=(2.0, 2.0)
    )
    assert set(heights) == {4} and set(widths) == {2}
    counts = np.bincount(tops * 5 + lefts, minlength=25)
    assert len(counts) == 25
    assert np.abs(counts - 200).max() < 5 * np.sqrt(200)


@pytest.mark.parametrize("size", [(4, 40), (40, 4)])
def test_a_box_too_long_is_reshaped_to_fit(size):
    share = 0.3
    heights, widths, _, _ = boxes(100, *size, area=(share, share), ratio=(1.0, 1.0))
    assert set(heights) == {min(size[0], 12)}
    assert set(widths) == {min(size[1], 12)}


def test_the_whole_image_can_go():
    heights, widths, _, _ = boxes(20, 7, 11, area=(1.0, 1.0))
    assert set(heights) == {7} and set(widths) == {11}


def test_noise_is_uniform_and_independent():
    images = np.zeros((400, 7, 5, 3), np.uint8)  # 105 bytes, not a multiple of 4
    noise = erase(images, probability=1.0, area=(1.0, 1.0)).astype(np.float64)
    counts = np.bincount(noise.astype(int).ravel(), minlength=256)
    assert np.abs(counts - counts.mean()).max() < 5 * np.sqrt(counts.mean())
    columns = noise.reshape(400, -1)
    between = np.corrcoef(columns, rowvar=False)[np.triu_indices(105, 1)]
    assert np.abs(between).max() < 5 / np.sqrt(400)
    between = np.corrcoef(columns)[np.triu_indices(400, 1)]
    assert np.abs(between).max() < 6 / np.sqrt(105)


def test_the_key_decides():
    images = bright_images(200, 9, 12, 3)
    once, again, other = (
        erase(images, key, probability=1.0, fill=0)
        for key in (KEY, KEY, jax.random.key(6))
    )
    assert once.dtype == np.uint8
    np.testing.assert_array_equal(once, again)
    assert (once != other).any()


@pytest.mark.parametrize(
    "options, message",
    [
        (dict(probability=1.5), "`0 <= probability <= 1`, got `probability=1.5`"),
        (dict(area=(0.5, 0.2)), r"`area=\(0.5, 0.2\)`"),
        (dict(area=(0.5, 1.2)), r"`area=\(0.5, 1.2\)`"),
        (dict(ratio=(0.0, 1.0)), r"`ratio=\(0.0, 1.0\)`"),
        (dict(ratio=(2.0, 1.0)), r"`ratio=\(2.0, 1.0\)`"),
        (dict(fill=256), "from 0 to 255 or `'noise'`, got `fill=256`"),
    ],
)
def test_arguments_out_of_range_are_refused(options, message):
    with pytest.raises(ValueError, match=message):
        erase(bright_images(1, 4, 4, 1), **options)
