import functools

import jax
import jax.numpy as jnp
import numpy as np
import pytest

from hypersphere import data

KEY = jax.random.key(11)
SHAPE = (5, 6, 6, 3)
DTYPES = [np.float32, jnp.bfloat16, np.float16]
mix = jax.jit(data.mix, static_argnames=("mixup", "cutmix"))


def random_images(*shape, dtype=np.float32):
    return np.random.default_rng(7).standard_normal(shape).astype(dtype)


def one_and_zero(height, width):
    """Two images whose mixture shows which part of the first is its own."""
    pair = np.stack([np.ones((height, width, 1)), np.zeros((height, width, 1))])
    return pair.astype(np.float32)


@functools.cache
def many(count, height, width, **options):
    """The part of each pixel that is the image's own, and the share, for many keys."""
    pair = one_and_zero(height, width)

    @jax.jit
    def of_all(pair):
        keys = jax.random.split(KEY, count)
        return jax.lax.map(lambda key: data.mix(key, pair, **options), keys)

    mixed = of_all(pair)
    own = np.asarray(mixed.images)[:, 0, :, :, 0]
    return own, np.asarray(mixed.share)[:, 0]


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


@jax.jit
def mixups(key, images):
    """The same images in every dtype, and the first one alone."""
    in_dtypes = [images.astype(dtype) for dtype in DTYPES]
    return [data.mix(key, x, mixup=1.0) for x in (*in_dtypes, images[:1])]


def test_mixup_averages_each_image_with_its_partner():
    images = random_images(*SHAPE)
    mixed, *_ = mixups(KEY, images)
    share = np.asarray(mixed.share, np.float64)[:, None, None, None]
    expected = share * images + (1 - share) * images[np.asarray(mixed.partner)]
    np.testing.assert_allclose(mixed.images, expected, rtol=1e-5, atol=1e-6)
    assert np.all((0.01 < share) & (share < 0.99))


@pytest.mark.parametrize("batch", [2, 5])
def test_every_example_is_the_partner_of_one_other(batch):
    partner_of = jax.jit(lambda images: data.mix(KEY, images, mixup=1.0).partner)
    partner = np.asarray(partner_of(random_images(batch, *SHAPE[1:])))
    assert partner.dtype == np.int32
    assert sorted(partner.tolist()) == list(range(batch))
    assert all(partner != np.arange(batch))


def test_an_image_alone_stays():
    images = random_images(*SHAPE)
    *_, mixed = mixups(KEY, images)
    np.testing.assert_allclose(mixed.images, images[:1], rtol=1e-6)


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
    images = random_images(*SHAPE)
    mixed = mix(KEY, images, cutmix=1.0)
    result, other = np.asarray(mixed.images), images[np.asarray(mixed.partner)]
    kept = (result == images).all(3)
    pasted = (result == other).all(3)
    assert (kept ^ pasted).all()
    assert kept.any() and pasted.any()


@pytest.mark.slow
@pytest.mark.parametrize("alpha", [1e-3, 8.0])
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
    images = random_images(*SHAPE)
    mixed = mix(KEY, images)
    np.testing.assert_array_equal(mixed.images, images)
    np.testing.assert_array_equal(mixed.share, np.ones(5, np.float32))


def test_images_keep_their_dtype_and_shares_are_float32():
    images = random_images(*SHAPE)
    *mixed, _ = mixups(KEY, images)
    for dtype, found in zip(DTYPES, mixed, strict=True):
        assert found.images.dtype == dtype
        assert found.share.dtype == np.float32
        wide, *_ = mixups(KEY, images.astype(dtype).astype(np.float32))
        expected = np.asarray(wide.images).astype(dtype)
        np.testing.assert_array_equal(found.images, expected)


def test_the_key_decides():
    images = random_images(*SHAPE)
    once, again, other = (mixups(jax.random.key(seed), images)[0] for seed in (1, 1, 2))
    np.testing.assert_array_equal(once.images, again.images)
    assert np.asarray(once.share)[0] != np.asarray(other.share)[0]


@pytest.mark.parametrize("name", ["mixup", "cutmix"])
@pytest.mark.parametrize("alpha", [-0.1, float("inf"), float("nan")])
def test_alpha_must_be_finite_and_not_negative(name, alpha):
    with pytest.raises(ValueError, match=f"`{name} >= 0`, got `{name}={alpha}`"):
        data.mix(KEY, jax.device_put(np.zeros(SHAPE, np.float32)), **{name: alpha})


def test_whole_numbers_are_refused(as_a_user):
    with pytest.raises(TypeError, match="`images.dtype=uint8`"):
        data.mix(KEY, jax.device_put(np.zeros(SHAPE, np.uint8)), mixup=1.0)
