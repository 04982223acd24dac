"""Images made worse, by known amounts."""

from collections.abc import Callable, Mapping
from types import MappingProxyType

import numpy as np
from scipy import ndimage

_CONTRAST = (0.75, 0.5, 0.4, 0.3, 0.15)
_BRIGHTNESS = (0.1, 0.2, 0.3, 0.4, 0.5)
_SCALE = (0.9, 0.75, 0.6, 0.45, 0.3)
_NOISE = (0.04, 0.08, 0.12, 0.18, 0.26)
_BLUR = (0.4, 0.6, 0.8, 1.0, 1.5)

Images = np.ndarray
Draw = tuple[int, int, range]
"""Seed, strength, the numbers of images."""


def corrupted(
    images: Images, name: str, strength: int, *, seed: int = 0, first: int = 0
) -> Images:
    """Images with less contrast, brighter, darker, noisy or blurred.

    | name | what, at strengths 1 to 5 |
    |---|---|
    | `contrast` | distance from each image's mean times 0.75, 0.5, 0.4, 0.3, 0.15 |
    | `brightness` | plus 0.1, 0.2, 0.3, 0.4, 0.5 of the range |
    | `scale` | all values times 0.9, 0.75, 0.6, 0.45, 0.3: darker; a spherical layer with one input patch does not see it |
    | `noise` | plus normal noise of deviation 0.04, 0.08, 0.12, 0.18, 0.26 of the range |
    | `blur` | a Gaussian of deviation 0.4, 0.6, 0.8, 1.0, 1.5 pixels |

    Args:
        images: uint8 of shape (n, height, width, channels).
        name: One of the table.
        strength: 1 to 5.
        seed: Of the noise, which each image has of its own.
        first: The number of the first image in the set, so that parts of a set have
            the noise that it has as a whole.

    Returns:
        uint8 of the same shape, rounded, and cut off at 0 and 255.

    Raises:
        ValueError: If there is no such name or strength, or `images` are no images.

    Example:
        >>> import numpy as np
        >>> from hypersphere import evaluation
        >>> white = np.full((1, 2, 2, 1), 200, np.uint8)
        >>> evaluation.corrupted(white, "scale", 3).max()
        np.uint8(120)

    References:
        Hendrycks and Dietterich, Benchmarking Neural Network Robustness, ICLR 2019, for
        the idea; the amounts are ours. https://arxiv.org/abs/1903.12261
    """  # noqa: E501  a table's row
    if name not in CORRUPTIONS:
        raise ValueError(f"`corrupted` knows {', '.join(CORRUPTIONS)}, got {name!r}.")
    make, amounts = CORRUPTIONS[name]
    if strength not in range(1, len(amounts) + 1):
        raise ValueError(
            f"`corrupted` needs a `strength` from 1 to {len(amounts)}, got "
            f"{strength!r}."
        )
    if images.dtype != np.uint8 or images.ndim != 4:
        raise ValueError(
            "`corrupted` needs uint8 `images` of shape (n, height, width, channels), "
            f"got {images.dtype} of shape {images.shape}."
        )
    found = np.empty_like(images)
    for start in range(0, len(images), 256):  # floats of all would not fit
        part = images[start : start + 256].astype(np.float32) / 255
        numbers = range(first + start, first + start + len(part))
        worse = make(part, amounts[strength - 1], (seed, strength, numbers))
        found[start : start + 256] = np.rint(np.clip(worse, 0, 1) * 255)
    return found


def _contrast(x: Images, amount: float, drawn: Draw) -> Images:
    del drawn
    mean = x.mean(axis=(1, 2, 3), keepdims=True)
    return mean + amount * (x - mean)


def _noise(x: Images, amount: float, drawn: Draw) -> Images:
    seed, strength, numbers = drawn
    noise = [
        np.random.default_rng((seed, strength, n)).standard_normal(x.shape[1:], x.dtype)
        for n in numbers
    ]
    return x + amount * np.stack(noise)


def _blur(x: Images, amount: float, drawn: Draw) -> Images:
    del drawn
    return ndimage.gaussian_filter(x, (0, amount, amount, 0), mode="nearest")


_Corruption = tuple[Callable[[Images, float, Draw], Images], tuple[float, ...]]
CORRUPTIONS: Mapping[str, _Corruption] = MappingProxyType(
    {
        "contrast": (_contrast, _CONTRAST),
        "brightness": (lambda x, amount, _: x + amount, _BRIGHTNESS),
        "scale": (lambda x, amount, _: x * amount, _SCALE),
        "noise": (_noise, _NOISE),
        "blur": (_blur, _BLUR),
    }
)
"""Name -> (what it does to images in [0, 1], how much of it at strengths 1 to 5)."""
