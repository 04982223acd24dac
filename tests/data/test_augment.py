import os
import subprocess
import sys

import jax
import numpy as np
import pytest

from hypersphere import data

compiled = jax.jit(
    data.augment,
    static_argnames=(
        "flip",
        "pad",
        "rand_layers",
        "rand_magnitude",
        "erase_probability",
    ),
)
normalize = jax.jit(data.normalize, static_argnames=("mean", "std"))


def random_images(*shape):
    return np.random.default_rng(7).integers(0, 256, shape, dtype=np.uint8)


def augment(images, seed=0, **options):
    return np.asarray(compiled(jax.random.key(seed), images, **options))


def crops(image, pad):
    """Every crop of a padded image, by corner."""
    height, width, _ = image.shape
    padded = np.pad(image, ((pad, pad), (pad, pad), (0, 0)), mode="symmetric")
    return {
        (top, left): padded[top : top + height, left : left + width]
        for top in range(2 * pad + 1)
        for left in range(2 * pad + 1)
    }


def corners(before, after, pad):
    """The corners of all crops of each image that equal the augmented image."""
    return [
        [at for at, crop in crops(old, pad).items() if np.array_equal(crop, new)]
        for old, new in zip(before, after, strict=True)
    ]


@pytest.mark.parametrize("pad", [2, 4])
def test_a_shift_is_one_crop_of_the_symmetrically_padded_image(pad):
    images = random_images(32, 5, 7, 3)
    found = corners(images, augment(images, pad=pad), pad)
    assert all(len(matches) == 1 for matches in found)


def test_every_shift_occurs_and_images_of_one_batch_differ():
    images = random_images(200, 5, 7, 3)
    found = {corner for [corner] in corners(images, augment(images, pad=1), 1)}
    assert found == {(top, left) for top in range(3) for left in range(3)}


def test_a_flip_mirrors_about_half_of_the_images_and_changes_nothing_else():
    images = random_images(400, 4, 5, 3)
    flipped = augment(images, flip=True)
    same = (flipped == images).all((1, 2, 3))
    mirrored = (flipped == images[:, :, ::-1]).all((1, 2, 3))
    assert (same ^ mirrored).all()
    assert 160 < mirrored.sum() < 240


def test_flip_and_shift_go_together():
    images = random_images(64, 5, 7, 3)
    augmented = augment(images, flip=True, pad=2)
    as_is = corners(images, augmented, 2)
    mirrored = corners(images[:, :, ::-1], augmented, 2)
    assert all(len(a) + len(b) == 1 for a, b in zip(as_is, mirrored, strict=True))
    assert any(as_is) and any(mirrored)


def test_without_options_nothing_changes():
    images = random_images(3, 4, 5, 1)
    np.testing.assert_array_equal(augment(images), images)


def test_the_key_decides():
    images = random_images(64, 5, 7, 3)
    once, again, other = (
        augment(images, seed=seed, flip=True, pad=2) for seed in (1, 1, 2)
    )
    assert once.dtype == np.uint8
    np.testing.assert_array_equal(again, once)
    assert (other != once).any()


def test_negative_pad_is_refused():
    with pytest.raises(ValueError, match="`pad >= 0` pixels, got `pad=-1`"):
        augment(random_images(1, 2, 2, 1), pad=-1)


@pytest.mark.slow
def test_what_is_on_changes_nothing_in_what_the_others_draw():
    images = random_images(32, 9, 8, 3)
    first = augment(images, flip=True, pad=2)
    second = augment(first, rand_layers=1, rand_magnitude=7.0)
    third = augment(second, erase_probability=0.5)
    together = augment(
        images,
        flip=True,
        pad=2,
        rand_layers=1,
        rand_magnitude=7.0,
        erase_probability=0.5,
    )
    np.testing.assert_array_equal(together, third)
    assert (first != images).any()
    assert (second != first).any()
    assert (third != second).any()


def test_options_reach_the_parts_which_refuse_wrong_ones():
    images = random_images(1, 4, 4, 1)
    with pytest.raises(ValueError, match="`layers >= 0`, got `layers=-1`"):
        augment(images, rand_layers=-1)
    with pytest.raises(ValueError, match="got `magnitude=11.0`"):
        augment(images, rand_layers=1, rand_magnitude=11.0)
    with pytest.raises(ValueError, match="got `probability=-0.5`"):
        augment(images, erase_probability=-0.5)


SPREAD = """
import functools, re
import jax, jax.numpy as jnp, numpy as np
from jax.sharding import NamedSharding, PartitionSpec
from hypersphere import data

assert jax.device_count() == 4
mesh = jax.sharding.Mesh(np.array(jax.devices()), ("data",))
spread = NamedSharding(mesh, PartitionSpec("data"))
images = np.random.default_rng(7).integers(0, 256, (32, 16, 16, 3), dtype=np.uint8)
key = jax.random.key(3)
augment = functools.partial(
    data.augment, flip=True, pad=2, rand_layers=2, erase_probability=0.5
)
mix = functools.partial(data.mix, mixup=0.2, cutmix=1.0)
for function, batch, talk in [
    (augment, images, "collective|all-"),
    (mix, images / np.float32(128), "all-"),
]:
    alone = jax.jit(function)(key, jnp.asarray(batch))
    program = jax.jit(function, in_shardings=(None, spread)).lower(key, batch)
    compiled = program.compile()
    together = compiled(key, jax.device_put(batch, spread))
    jax.tree.map(np.testing.assert_array_equal, alone, together)
    assert len(jax.tree.leaves(together)[0].sharding.device_set) == 4
    assert not re.search(f" ({talk})[a-z-]*\\(", compiled.as_text())
"""


@pytest.mark.slow
def test_a_batch_spread_over_devices_gives_the_same_without_gathering_it():
    flags = "--xla_force_host_platform_device_count=4"
    environment = os.environ | {"XLA_FLAGS": flags, "JAX_PLATFORMS": "cpu"}
    subprocess.run([sys.executable, "-c", SPREAD], env=environment, check=True)


def test_normalize_subtracts_and_divides():
    images = random_images(2, 3, 4, 3)
    result = normalize(images, mean=100.0, std=50.0)
    assert result.dtype == np.float32
    np.testing.assert_allclose(
        result, (images.astype(np.float64) - 100) / 50, rtol=1e-6
    )


def test_each_channel_may_have_numbers_of_its_own():
    images = random_images(2, 3, 4, 3)
    mean, std = (123.7, 116.3, 103.5), (58.4, 57.1, 57.4)
    expected = (images.astype(np.float64) - mean) / std
    np.testing.assert_allclose(
        normalize(images, mean=mean, std=std), expected, rtol=1e-6
    )
    with pytest.raises(ValueError, match="each of the 3 channels, got `std=.1.0, 2"):
        normalize(images, std=(1.0, 2.0))


def test_normalize_puts_pixels_inside_one_by_default():
    ends = np.array([0, 255], np.uint8).reshape(2, 1, 1, 1)
    result = np.asarray(normalize(ends))
    np.testing.assert_array_equal(result.ravel(), [-127.5 / 128, 127.5 / 128])


@pytest.mark.parametrize("std", [0.0, -1.0, float("nan")])
def test_std_must_be_positive(std):
    with pytest.raises(ValueError, match=f"`std > 0`, got `std={std}`"):
        data.normalize(jax.device_put(np.zeros((1, 1, 1, 1), np.uint8)), std=std)
