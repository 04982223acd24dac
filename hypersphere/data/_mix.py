"""mixup and CutMix on the device, with labels left to the loss."""

from typing import NamedTuple

import jax
import jax.numpy as jnp
from jaxtyping import Array, Float, Float32, Int32, PRNGKeyArray

from hypersphere._checks import check_floating


class Mixed(NamedTuple):
    """Images mixed in pairs, and what the loss needs to know about it.

    Attributes:
        images: Mixed images, `(batch, height, width, channels)`, in the dtype that
            came in.
        partner: int32 `(batch,)`, in `[0, batch)`: which example was mixed in.
        share: float32 `(batch,)`, in `[0, 1]`: how much of each image is its own.
    """

    images: Float[Array, "batch height width channels"]
    partner: Int32[Array, " batch"]
    share: Float32[Array, " batch"]


def mix(
    key: PRNGKeyArray,
    images: Float[Array, "batch height width channels"],
    *,
    mixup: float = 0.0,
    cutmix: float = 0.0,
) -> Mixed:
    """Mixes each image with that of the example before it, the first with the last.

    mixup averages the two images, CutMix pastes a box of the partner into the image.
    With both on, each batch draws one of them with probability 1/2. The loss of the
    mixed images is

        share * loss(outputs, labels) + (1 - share) * loss(outputs, labels[partner])

    which suits any loss of one label per example, those with angular margins too.

    The batch draws one share, as the code of both papers and the default of timm do,
    so that their values of alpha apply here. A single draw also leaves a batch that
    is spread over devices nothing to wait for.

    Args:
        key: Random key. The same key gives the same result.
        images: Normalized images, finite, of any floating-point dtype.
        mixup: Alpha of the share's distribution `Beta(alpha, alpha)`, at least 0. Zero
            turns mixup off. Usual: 0.2 for ImageNet, 1 for CIFAR.
        cutmix: The same for CutMix, where the share is that of the area. Usual: 1.

    Returns:
        The images, the `partner` of each and the `share` of each that is its own. With
        both off the images come back as they are and `share` is one.

    Raises:
        TypeError: If `images` are not floating-point numbers.
        ValueError: If an alpha is negative or not finite.

    Example:
        >>> import jax
        >>> from hypersphere import data
        >>> images = jax.numpy.asarray(data.load("mnist5k").train.images[:4])
        >>> images = data.normalize(images)
        >>> mixed = data.mix(jax.random.key(0), images, mixup=0.2, cutmix=1.0)
        >>> mixed.images.shape, mixed.partner.tolist(), mixed.share.shape
        ((4, 28, 28, 1), [3, 0, 1, 2], (4,))

    References:
        Zhang et al., mixup: Beyond Empirical Risk Minimization, ICLR 2018.
        https://arxiv.org/abs/1710.09412
        Yun et al., CutMix: Regularization Strategy to Train Strong Classifiers with
        Localizable Features, ICCV 2019. https://arxiv.org/abs/1905.04899
        Differs: the partner is the neighbor instead of a random permutation, which is
        the same for batches in random order and moves less between devices; the
        share of CutMix is the area that is left after the image cuts the box off.
    """
    check_floating("mix", images=images)
    for name, alpha in {"mixup": mixup, "cutmix": cutmix}.items():
        if not 0 <= alpha < float("inf"):
            raise ValueError(
                f"`mix` needs a finite `{name} >= 0`, got `{name}={alpha!r}`."
            )
    batch = len(images)
    partner = jnp.roll(jnp.arange(batch, dtype=jnp.int32), 1)
    if not (mixup or cutmix):
        return Mixed(images, partner, jnp.ones(batch, jnp.float32))
    _, height, width, _ = images.shape
    own, share = _own_part(key, (height, width), mixup, cutmix)
    own = own[None, :, :, None]
    other = jnp.roll(images, 1, axis=0).astype(jnp.float32)
    mixed = own * images.astype(jnp.float32) + (1 - own) * other
    return Mixed(mixed.astype(images.dtype), partner, jnp.full(batch, share))


def _own_part(
    key: PRNGKeyArray, size: tuple[int, int], mixup: float, cutmix: float
) -> tuple[Array, Array]:
    """The part of each pixel that stays, `(height, width)`, and its mean."""
    choice_key, share_key, box_key = jax.random.split(key, 3)
    chance = 0.5 if mixup and cutmix else float(cutmix > 0)
    boxed = jax.random.bernoulli(choice_key, chance)
    alpha = jnp.where(boxed, cutmix, mixup).astype(jnp.float32)
    share = jax.random.beta(share_key, alpha, alpha, dtype=jnp.float32)
    outside, area = _box(box_key, size, 1 - share)
    own = jnp.where(boxed, outside.astype(jnp.float32), share)
    return own, jnp.where(boxed, 1 - area, share)


def _box(key: PRNGKeyArray, size: tuple[int, int], area: Array) -> tuple[Array, Array]:
    """Where a box around a random pixel is not, and its share of the image."""
    sides = jnp.array(size, jnp.int32)
    lengths = (sides * jnp.sqrt(area)).astype(jnp.int32)
    starts = jax.random.randint(key, (2,), 0, sides) - lengths // 2
    (top, left), (bottom, right) = (
        jnp.clip(corner, 0, sides) for corner in (starts, starts + lengths)
    )
    rows, columns = jnp.ogrid[: size[0], : size[1]]
    inside = (rows >= top) & (rows < bottom) & (columns >= left) & (columns < right)
    pixels = ((bottom - top) * (right - left)).astype(jnp.float32)
    return ~inside, pixels / (size[0] * size[1])
