"""Augmentation and normalization on the device, inside the compiled step."""

from collections.abc import Sequence
from typing import Any

import jax
import jax.numpy as jnp
import numpy as np
from jax import lax
from jaxtyping import Array, Float32, PRNGKeyArray, UInt8

from hypersphere.data._erase import erase
from hypersphere.data._rand_augment import rand_augment


def augment(
    key: PRNGKeyArray,
    images: UInt8[Array, "batch height width channels"],
    *,
    flip: bool = False,
    pad: int = 0,
    rand_layers: int = 0,
    rand_magnitude: float = 9.0,
    erase_probability: float = 0.0,
) -> UInt8[Array, "batch height width channels"]:
    """Mirrors, shifts, recolors, warps and erases each image at random, in that order.

    By default nothing is done. A shift pads every side by `pad` pixels, repeating the
    edge ("symmetric" padding: the border pixel comes twice), and cuts the original size
    out at a random place.

    Args:
        key: Random key. The same key gives the same result. An operation that is on or
            off does not change what the others draw.
        images: uint8 images.
        flip: Whether to mirror left to right, each image with probability 1/2.
        pad: Largest shift in pixels, at least 0, in each direction.
        rand_layers: Random operations of `rand_augment` per image, at least 0.
        rand_magnitude: Their mean strength, in `[0, 10]`.
        erase_probability: Of an image to lose a box to noise in `erase`, in `[0, 1]`.

    Returns:
        uint8 images of the same shape.

    Raises:
        ValueError: If `pad` is negative, or `rand_augment` or `erase` refuses its
            arguments.

    Example:
        >>> import jax
        >>> from hypersphere import data
        >>> images = jax.numpy.asarray(data.load("mnist5k").train.images[:8])
        >>> data.augment(jax.random.key(0), images, flip=True, pad=2).shape
        (8, 28, 28, 1)
    """
    if pad < 0:
        raise ValueError(f"`augment` needs `pad >= 0` pixels, got `pad={pad}`.")
    flip_key, shift_key = jax.random.split(key)
    if flip:
        images = _random_flip(flip_key, images)
    if pad:
        images = _random_shift(shift_key, images, pad)
    # From 2, as `split` returns what `fold_in` gives for 0 and 1.
    if rand_layers:
        images = rand_augment(
            jax.random.fold_in(key, 2),
            images,
            layers=rand_layers,
            magnitude=rand_magnitude,
        )
    if erase_probability:
        images = erase(
            jax.random.fold_in(key, 3), images, probability=erase_probability
        )
    return images


def _random_flip(key: PRNGKeyArray, images: Array) -> Array:
    chosen = jax.random.bernoulli(key, shape=(len(images), 1, 1, 1))
    return jnp.where(chosen, images[:, :, ::-1], images)


def _random_shift(key: PRNGKeyArray, images: Array, pad: int) -> Array:
    sides = (pad, pad)
    padded = jnp.pad(images, ((0, 0), sides, sides, (0, 0)), mode="symmetric")
    corners = jax.random.randint(key, (len(images), 2), 0, 2 * pad + 1)

    def crop(image: Array, corner: Array) -> Array:
        return lax.dynamic_slice(image, (*corner, 0), images.shape[1:])

    return jax.vmap(crop)(padded, corners)


def normalize(
    images: UInt8[Array, "batch height width channels"],
    *,
    mean: float | Sequence[float] = 127.5,
    std: float | Sequence[float] = 128.0,
) -> Float32[Array, "batch height width channels"]:
    """Turns uint8 pixels into float32, `(images - mean) / std`.

    Args:
        images: uint8 images.
        mean: Subtracted from each pixel, in the units of the pixels; one number, or one
            for each channel.
        std: Divides the difference, in the units of the pixels, positive; as `mean`.
            The defaults put the values inside `(-1, 1)`.

    Returns:
        float32 images of the same shape.

    Raises:
        ValueError: If `std <= 0`, or there are more or fewer numbers than channels.

    Example:
        >>> import jax.numpy as jnp
        >>> from hypersphere import data
        >>> pixels = jnp.array([0, 255], jnp.uint8).reshape(1, 1, 2, 1)
        >>> print(data.normalize(pixels).ravel())
        [-0.99609375  0.99609375]
    """
    if not np.all(np.asarray(std) > 0):
        raise ValueError(f"`normalize` needs `std > 0`, got `std={std!r}`.")
    channels = images.shape[-1]
    for name, value in {"mean": mean, "std": std}.items():
        if np.shape(value) not in ((), (channels,)):
            raise ValueError(
                f"`normalize` needs one `{name}`, or one for each of the {channels} "
                f"channels, got `{name}={value!r}`."
            )
    return (images.astype(jnp.float32) - _per_channel(mean)) / _per_channel(std)


def _per_channel(value: float | Sequence[float]) -> Any:
    """A number as it is, or numbers in the shape of a batch's last axis."""
    if np.ndim(value) == 0:
        return value
    return np.asarray(value, np.float32)[None, None, None]
