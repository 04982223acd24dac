import jax
import numpy as np
import pytest
from PIL import Image, ImageEnhance, ImageOps

from hypersphere import data
from hypersphere.data import _rand_augment
from hypersphere.data._rand_augment import OPERATIONS

STRENGTHS = np.array([-1, -0.83, -0.45, -0.2, 0, 0.17, 0.55, 0.71, 0.9, 1], np.float32)
CLOSE = {"autocontrast": 1}  # Pillow cuts a rounded quotient, we the exact one
apply_operations = jax.jit(_rand_augment.apply_operations)
SPREADS = [(9.0, 0.5), (4.0, 0.0), (5.0, 0.5), (9.5, 2.0)]
rand_augment = jax.jit(
    data.rand_augment, static_argnames=("layers", "magnitude", "magnitude_std")
)


def random_images(count, channels, height=26, width=19):
    """Noise of different brightness and contrast on a slope, and one flat image."""
    rng = np.random.default_rng(7)
    middle, spread, slope = rng.uniform(
        [[60], [5], [-3]], [[190], [60], [3]], (3, count)
    )[..., None, None, None]
    noise = rng.standard_normal((count, height, width, channels))
    slopes = slope * np.arange(width)[:, None]
    images = np.clip(middle + spread * noise + slopes, 0, 255).astype(np.uint8)
    images[0] = 7
    return images


def apply(name, strengths, images):
    chosen = np.full(len(images), OPERATIONS.index(name), np.int32)
    strengths = np.broadcast_to(np.float32(strengths), len(images))
    return np.asarray(apply_operations(images, chosen, strengths))


def by_pillow(name, strength, image):
    """The operation as its documentation and the paper's ranges describe it."""
    height, width, channels = image.shape
    picture = Image.fromarray(image if channels == 3 else image[..., 0])
    gray = (128,) * 3 if channels == 3 else 128
    factor = 1 + 0.9 * strength

    def warp(*matrix):
        return picture.transform(
            picture.size, Image.Transform.AFFINE, matrix, fillcolor=gray
        )

    size = abs(strength)
    operations = {
        "identity": lambda: picture,
        "autocontrast": lambda: ImageOps.autocontrast(picture),
        "equalize": lambda: ImageOps.equalize(picture),
        "rotate": lambda: picture.rotate(30 * strength, fillcolor=gray),
        "solarize": lambda: ImageOps.solarize(picture, 256 * (1 - size)),
        "color": lambda: ImageEnhance.Color(picture).enhance(factor),
        "posterize": lambda: ImageOps.posterize(picture, 8 - round(4 * size)),
        "contrast": lambda: ImageEnhance.Contrast(picture).enhance(factor),
        "brightness": lambda: ImageEnhance.Brightness(picture).enhance(factor),
        "sharpness": lambda: ImageEnhance.Sharpness(picture).enhance(factor),
        "shear_x": lambda: warp(1, 0.3 * strength, 0, 0, 1, 0),
        "shear_y": lambda: warp(1, 0, 0, 0.3 * strength, 1, 0),
        "translate_x": lambda: warp(1, 0, 0.45 * strength * width, 0, 1, 0),
        "translate_y": lambda: warp(1, 0, 0, 0, 1, 0.45 * strength * height),
    }
    return np.asarray(operations[name]()).reshape(image.shape)


@pytest.mark.parametrize("channels", [1, 3])
@pytest.mark.parametrize("name", OPERATIONS)
def test_every_operation_is_that_of_pillow(name, channels):
    strengths = np.repeat(STRENGTHS, 3)
    images = random_images(len(strengths), channels)
    expected = [
        by_pillow(name, float(strength), image)
        for strength, image in zip(strengths, images, strict=True)
    ]
    difference = apply(name, strengths, images) - np.array(expected, np.int32)
    assert np.abs(difference).max() <= CLOSE.get(name, 0)
    if name in CLOSE:
        assert (difference != 0).mean() < 0.01


@pytest.mark.parametrize("name", sorted(set(OPERATIONS) - {"autocontrast", "equalize"}))
def test_at_strength_zero_nothing_changes(name):
    images = random_images(30, 3)
    np.testing.assert_array_equal(apply(name, 0.0, images), images)


def test_color_leaves_gray_images_alone():
    images = random_images(30, 1)
    np.testing.assert_array_equal(apply("color", 1.0, images), images)


def test_images_of_one_batch_go_separate_ways():
    images = random_images(30, 3)
    chosen = np.arange(30, dtype=np.int32) % len(OPERATIONS)
    strengths = np.linspace(-1, 1, 30, dtype=np.float32)
    together = np.asarray(apply_operations(images, chosen, strengths))
    for name in OPERATIONS:
        own = chosen == OPERATIONS.index(name)
        alone = apply(name, strengths, images)
        np.testing.assert_array_equal(together[own], alone[own])


@pytest.mark.parametrize("size", [(1, 1), (2, 2), (1, 5)])
def test_tiny_images_are_no_special_case(size):
    images = random_images(len(OPERATIONS), 3, *size)
    chosen = np.arange(len(OPERATIONS), dtype=np.int32)
    strengths = np.full(len(OPERATIONS), 0.6, np.float32)
    changed = np.asarray(apply_operations(images, chosen, strengths))
    for name, image, result in zip(OPERATIONS, images, changed, strict=True):
        expected = by_pillow(name, 0.6, image).astype(np.int32)
        assert np.abs(result - expected).max() <= CLOSE.get(name, 0)


@pytest.fixture(scope="module")
def drawn():
    """Operations and strengths of two layers, by magnitude and its deviation."""
    draw = lambda key: [_rand_augment._draw(key, (2, 7000), *s) for s in SPREADS]  # noqa: E731
    found = jax.device_get(jax.jit(draw)(jax.random.key(0)))
    return dict(zip(SPREADS, found, strict=True))


def test_operations_are_equally_likely_and_both_signs_are(drawn):
    chosen, strength = drawn[9.0, 0.5]
    counts = np.bincount(chosen.ravel(), minlength=14)
    assert len(counts) == 14
    assert np.abs(counts - 1000).max() < 4 * np.sqrt(1000)
    assert abs((strength > 0).mean() - 0.5) < 2 / np.sqrt(14000)


@pytest.mark.parametrize("magnitude, std", SPREADS[1:])
def test_strengths_are_normal_and_end_at_ten(magnitude, std, drawn):
    _, strength = drawn[magnitude, std]
    size = 10 * np.abs(np.asarray(strength, np.float64))
    noise = np.random.default_rng(1).standard_normal(200_000)
    expected = np.clip(magnitude + std * noise, 0, 10)
    assert size.max() <= 10
    np.testing.assert_allclose(size.mean(), expected.mean(), atol=0.06 * std + 1e-6)
    np.testing.assert_allclose(size.std(), expected.std(), atol=0.06 * std + 1e-6)


@pytest.mark.parametrize(
    "layers, unchanged",
    [
        (0, 1),
        pytest.param(1, 4 / 14, marks=pytest.mark.slow),
        (2, 16 / 196),
    ],
)
def test_each_layer_applies_one_more_operation(layers, unchanged):
    images = random_images(2000, 1, 8, 8)
    images[:, 0, 0], images[:, 0, 1] = 0, 255
    # Full-range gray images of 64 pixels: identity, color, autocontrast and equalize
    # change nothing, everything else does.
    result = rand_augment(jax.random.key(2), images, layers=layers, magnitude=8.0)
    same = (np.asarray(result) == images).all((1, 2, 3)).mean()
    assert abs(same - unchanged) < 0.04


def test_the_key_decides():
    images = random_images(64, 3)
    once, again, other = (
        np.asarray(rand_augment(jax.random.key(seed), images)) for seed in (1, 1, 2)
    )
    assert once.dtype == np.uint8 and once.shape == images.shape
    np.testing.assert_array_equal(once, again)
    assert (once != other).any()


def test_images_in_a_batch_differ():
    images = np.repeat(random_images(2, 3)[1:], 64, axis=0)
    changed = np.asarray(rand_augment(jax.random.key(1), images))
    assert len(np.unique(changed.reshape(64, -1), axis=0)) > 40


@pytest.mark.parametrize(
    "shape, options, message",
    [
        ((1, 4, 4, 2), {}, r"1 or 3 channels .*`images.shape=\(1, 4, 4, 2\)`"),
        ((1, 2049, 1, 1), {}, r"at most 2048 pixels, got .*2049"),
        ((1, 4, 4, 1), dict(layers=-1), "`layers >= 0`, got `layers=-1`"),
        ((1, 4, 4, 1), dict(magnitude=15.0), "`magnitude=15.0`.*divide by 3"),
        ((1, 4, 4, 1), dict(magnitude_std=-1.0), "`magnitude_std=-1.0`"),
    ],
)
def test_what_it_cannot_do_is_refused(shape, options, message):
    with pytest.raises(ValueError, match=message):
        images = jax.device_put(np.zeros(shape, np.uint8))
        data.rand_augment(jax.random.key(0), images, **options)
