import functools

import jax
import jax.numpy as jnp
import numpy as np
import pytest

from hypersphere import data

KEY = jax.random.key(11)


def random_images(*shape, dtype=np.float32):
    return np.random.default_rng(7).standard_normal(shape).astype(dtype)


def one_and_zero(height, width):
    """Two images whose mixture shows which part of the first is its own."""
    pair = np.stack([np.ones((height, width, 1)), np.zeros((height, width, 1))])
    return jnp.asarray(pair, jnp.float32)


@functools.cache
def many(count, height, width, **options):
    """The part of each pixel that is the image's own, and the share, for many keys."""
    pair = one_and_zero(height, width)
    mixed = jax.jit(jax.vmap(lambda key: data.mix(key, pair, **options)))(
        jax.random.split(KEY, count)
    )
    return np.asarray(mixed.images[:, 0, :, :, 0]), np.asarray(mixed.share[:, 0])


def assert_same_distribution(first, second):
    """Distribution functions differ by less than chance would in 1 of 1000 cases."""
    levels = np.linspace(0.01, 0.99, 99)
    first, second = (
        np.searchsorted(np.sort(sample), levels, side="right") / len(sample)
        for sample in (first, second)
    )
    assert np.abs(first - second).max() < 1.95 * np.sqrt(2 / 4000)


def simulated_cutmix(alpha, height, width, count):
    """Shares left by boxes drawn one by one, as the CutMix paper has it."""
    rng = np.random.default_rng(3)
    shares = []
    for _ in range(count):
        side = np.sqrt(1 - rng.beta(alpha, alpha))
        own = np.ones((height, width), bool)
        tall, wide = int(height * side), int(width * side)
        top = rng.integers(height) - tall // 2
        left = rng.integers(width) - wide // 2
        own[max(top, 0) : max(top + tall, 0), max(left, 0) : max(left + wide, 0)] = 0
        shares.append(own.mean())
    return np.array(shares)


def test_mixup_averages_each_image_with_its_partner():
    images = random_images(5, 4, 3, 2)
    mixed = data.mix(KEY, jnp.asarray(images), mixup=1.0)
    share = np.asarray(mixed.share, np.float64)[:, None, None, None]
    expected = share * images + (1 - share) * images[np.asarray(mixed.partner)]
    np.testing.assert_allclose(mixed.images, expected, rtol=1e-5, atol=1e-6)
    assert 0.01 < mixed.share[0] < 0.99


@pytest.mark.parametrize("batch", [2, 5, 8])
def test_every_example_is_the_partner_of_one_other(batch):
    partner = data.mix(KEY, jnp.zeros((batch, 2, 2, 1)), mixup=1.0).partner
    assert partner.dtype == jnp.int32
    assert sorted(partner.tolist()) == list(range(batch))
    assert all(partner != np.arange(batch))


def test_an_image_alone_stays():
    image = jnp.asarray(random_images(1, 4, 4, 1))
    mixed = data.mix(KEY, image, mixup=1.0)
    np.testing.assert_allclose(mixed.images, image, rtol=1e-6)


def test_cutmix_pastes_one_box_and_the_share_is_the_area_that_is_left():
    own, share = many(4000, 9, 14, cutmix=1.0)
    assert set(np.unique(own)) == {0, 1}
    np.testing.assert_allclose(share, own.mean((1, 2)), atol=1e-6)
    pasted = own == 0
    box = pasted.any(2)[:, :, None] & pasted.any(1)[:, None, :]
    np.testing.assert_array_equal(pasted, box)
    edges = np.diff(pasted.any(2), axis=1).sum(1), np.diff(pasted.any(1), axis=1).sum(1)
    assert max(map(np.max, edges)) == 2


def test_cutmix_pastes_from_the_partner():
    images = random_images(4, 6, 6, 3)
    mixed = data.mix(jax.random.key(1), jnp.asarray(images), cutmix=1.0)
    result, other = np.asarray(mixed.images), images[np.asarray(mixed.partner)]
    kept = (result == images).all(3)
    pasted = (result == other).all(3)
    assert (kept ^ pasted).all()
    assert kept.any() and pasted.any()


@pytest.mark.parametrize("alpha", [1e-3, 0.2, 1.0, 8.0])
def test_the_share_of_mixup_is_beta_distributed(alpha):
    _, share = many(4000, 1, 1, mixup=alpha)
    assert share.dtype == np.float32
    assert ((share >= 0) & (share <= 1)).all()
    variance = 1 / (4 * (2 * alpha + 1))
    assert abs(share.mean() - 0.5) < 4 * np.sqrt(variance / 4000)
    np.testing.assert_allclose(share.var(), variance, rtol=0.1)
    reference = np.random.default_rng(5).beta(alpha, alpha, 4000)
    assert_same_distribution(share, reference)


@pytest.mark.parametrize("alpha", [0.2, 1.0])
def test_the_share_of_cutmix_is_that_of_clipped_boxes(alpha):
    _, share = many(4000, 9, 14, cutmix=alpha)
    assert_same_distribution(share, simulated_cutmix(alpha, 9, 14, 4000))


def test_with_both_on_each_batch_draws_one_with_equal_chance():
    own, _ = many(1000, 6, 6, mixup=8.0, cutmix=8.0)
    averaged = (own[:, :1, :1] == own).all((1, 2)) & (own[:, 0, 0] % 1 > 0)
    boxed = np.isin(own, [0, 1]).all((1, 2))
    assert (averaged ^ boxed).all()
    assert 437 < boxed.sum() < 563


def test_off_by_default():
    images = jnp.asarray(random_images(3, 4, 4, 1))
    mixed = data.mix(KEY, images)
    np.testing.assert_array_equal(mixed.images, images)
    np.testing.assert_array_equal(mixed.share, np.ones(3, np.float32))


@pytest.mark.parametrize("dtype", [jnp.bfloat16, jnp.float16])
def test_images_keep_their_dtype_and_shares_are_float32(dtype):
    images = jnp.asarray(random_images(4, 3, 3, 1), dtype)
    mixed = data.mix(KEY, images, mixup=1.0)
    assert mixed.images.dtype == dtype
    assert mixed.share.dtype == jnp.float32
    wide = data.mix(KEY, images.astype(jnp.float32), mixup=1.0).images
    np.testing.assert_array_equal(mixed.images, wide.astype(dtype))


def test_the_key_decides():
    images = jnp.asarray(random_images(4, 5, 5, 1))
    once = data.mix(jax.random.key(1), images, mixup=1.0, cutmix=1.0)
    again = data.mix(jax.random.key(1), images, mixup=1.0, cutmix=1.0)
    other = data.mix(jax.random.key(2), images, mixup=1.0, cutmix=1.0)
    np.testing.assert_array_equal(once.images, again.images)
    assert once.share[0] != other.share[0]


@pytest.mark.parametrize("name", ["mixup", "cutmix"])
@pytest.mark.parametrize("alpha", [-0.1, float("inf"), float("nan")])
def test_alpha_must_be_finite_and_not_negative(name, alpha):
    with pytest.raises(ValueError, match=f"`{name} >= 0`, got `{name}={alpha}`"):
        data.mix(KEY, jnp.zeros((2, 2, 2, 1)), **{name: alpha})


def test_whole_numbers_are_refused(as_a_user):
    with pytest.raises(TypeError, match="`images.dtype=uint8`"):
        data.mix(KEY, jnp.zeros((2, 2, 2, 1), jnp.uint8), mixup=1.0)
