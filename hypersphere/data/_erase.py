"""Random erasing on the device."""

import math
from typing import Literal

import jax
import jax.numpy as jnp
from jax import lax
from jaxtyping import Array, PRNGKeyArray, UInt8

from hypersphere._checks import check_fraction


def erase(
    key: PRNGKeyArray,
    images: UInt8[Array, "batch height width channels"],
    *,
    probability: float = 0.25,
    area: tuple[float, float] = (0.02, 1 / 3),
    ratio: tuple[float, float] = (0.3, 3.3),
    fill: int | Literal["noise"] = "noise",
) -> UInt8[Array, "batch height width channels"]:
    """Fills a random box of some images.

    Each image draws for itself whether it is erased, the box's share of the image from
    the uniform distribution over `area`, its height over its width from the
    log-uniform distribution over `ratio`, and a place where it fits, all equally
    likely. Sides are rounded to pixels. A box longer than the image is made as long as
    the image, at the same area.

    Args:
        key: Random key. The same key gives the same result.
        images: uint8 images.
        probability: Of an image to be erased, in `[0, 1]`.
        area: Least and largest share of the image that is erased, in `[0, 1]`.
        ratio: Least and largest height over width of the box, positive.
        fill: Gray level from 0 to 255, or `"noise"` for an independent uniform level
            in each pixel and channel.

    Returns:
        uint8 images of the same shape. Pixels outside the boxes are as they were.

    Raises:
        ValueError: If an argument is outside its range, or a pair is in the wrong
            order.

    Example:
        >>> import jax
        >>> from hypersphere import data
        >>> images = jax.numpy.full((2, 8, 8, 1), 255, "uint8")
        >>> key = jax.random.key(1)
        >>> erased = data.erase(key, images, probability=0.5, ratio=(1.0, 1.0), fill=0)
        >>> (erased == 0).sum((1, 2, 3)).tolist()
        [0, 16]

    References:
        Zhong et al., Random Erasing Data Augmentation, AAAI 2020, Algorithm 1.
        https://arxiv.org/abs/1708.04896
        Differs: the ratio is log-uniform, so that upright and flat boxes are equally
        likely; a box that does not fit is reshaped instead of drawn again, so that its
        area stays uniform.
    """
    _check(probability, area, ratio, fill)
    chosen_key, area_key, ratio_key, place_key, noise_key = jax.random.split(key, 5)
    batch, height, width, _ = images.shape
    chosen = jax.random.bernoulli(chosen_key, probability, (batch, 1, 1, 1))
    share = jax.random.uniform(area_key, (batch,), minval=area[0], maxval=area[1])
    slant = jax.random.uniform(
        ratio_key, (batch,), minval=math.log(ratio[0]), maxval=math.log(ratio[1])
    )
    box = _random_box(place_key, (height, width), share, jnp.exp(slant))
    if fill == "noise":
        filling = _noise(noise_key, images.shape)
    else:
        filling = jnp.uint8(fill)
    return jnp.where(chosen & box[..., None], filling, images)


def _check(
    probability: float,
    area: tuple[float, float],
    ratio: tuple[float, float],
    fill: int | str,
) -> None:
    check_fraction("erase", probability=probability)
    if not 0 <= area[0] <= area[1] <= 1:
        raise ValueError(
            f"`erase` needs `0 <= area[0] <= area[1] <= 1`, got `area={area!r}`."
        )
    if not 0 < ratio[0] <= ratio[1] < math.inf:
        raise ValueError(
            "`erase` needs a finite `ratio` with `0 < ratio[0] <= ratio[1]`, got "
            f"`ratio={ratio!r}`."
        )
    if fill != "noise" and not (isinstance(fill, int) and 0 <= fill <= 255):
        raise ValueError(
            f"`erase` needs `fill` from 0 to 255 or `'noise'`, got `fill={fill!r}`."
        )


def _random_box(
    key: PRNGKeyArray, size: tuple[int, int], share: Array, ratio: Array
) -> Array:
    """Whether each pixel is in its image's box, `(batch, height, width)`."""
    height, width = size
    ratio = jnp.clip(ratio, share * height / width, height / (share * width))
    pixels = share * height * width
    lengths = jnp.round(jnp.sqrt(jnp.stack([pixels * ratio, pixels / ratio])))
    lengths = lengths.astype(jnp.int32)
    sides = jnp.array(size, jnp.int32)[:, None]
    starts = jax.random.randint(key, lengths.shape, 0, sides - lengths + 1)
    in_rows, in_columns = (
        (start <= jnp.arange(side)[None]) & (jnp.arange(side)[None] < start + length)
        for side, start, length in zip(
            size, starts[..., None], lengths[..., None], strict=True
        )
    )
    return in_rows[:, :, None] & in_columns[:, None, :]


def _noise(key: PRNGKeyArray, shape: tuple[int, ...]) -> Array:
    """Uniform levels; `random.bits` would spend 32 random bits on each 8."""
    batch, *image = shape
    size = math.prod(image)
    words = jax.random.bits(key, (batch, -(-size // 4)), jnp.uint32)
    levels = lax.bitcast_convert_type(words, jnp.uint8).reshape(batch, -1)
    return levels[:, :size].reshape(shape)
