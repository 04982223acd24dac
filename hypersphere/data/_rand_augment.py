"""RandAugment on the device: each image of each layer draws one of 14 operations.

A batch goes through three steps, each the identity for images that drew another: one
affine warp, one table from level to level for each image and channel, and one blend
with a gray or a smooth version. Fourteen branches would cost fourteen passes.
"""

import math

import jax
import jax.numpy as jnp
from jax import lax
from jaxtyping import Array, Float32, Int32, PRNGKeyArray, UInt8

OPERATIONS = (
    "identity",
    "autocontrast",
    "equalize",
    "rotate",
    "solarize",
    "color",
    "posterize",
    "contrast",
    "brightness",
    "sharpness",
    "shear_x",
    "shear_y",
    "translate_x",
    "translate_y",
)

_GRAY = 128  # pixels that come from outside the image
_LARGEST = 10.0  # magnitude at which an operation reaches the end of its range
_ROTATE = math.radians(30)
_SHEAR = 0.3
_TRANSLATE = 0.45
_ENHANCE = 0.9


def rand_augment(
    key: PRNGKeyArray,
    images: UInt8[Array, "batch height width channels"],
    *,
    layers: int = 2,
    magnitude: float = 9.0,
    magnitude_std: float = 0.5,
) -> UInt8[Array, "batch height width channels"]:
    """Applies `layers` random operations to each image, one after the other.

    Every image draws its own operations, each of the 14 equally likely, with its own
    magnitude `m`, normal around `magnitude` and clipped to `[0, 10]`:

    | operation                                | at `m = 0` | at `m = 10`             |
    | ---------------------------------------- | ---------- | ----------------------- |
    | identity, autocontrast, equalize         | no `m`     | no `m`                  |
    | rotate, around the middle                | 0          | 30 degrees either way   |
    | shear x, shear y, from the top left      | 0          | 0.3 either way          |
    | translate x, translate y                 | 0          | 0.45 sides either way   |
    | color, contrast, brightness, sharpness   | factor 1   | factor 0.1 or 1.9       |
    | solarize: invert levels from             | 256        | 0                       |
    | posterize: keep                          | 8 bits     | 4 bits, rounded between |

    Each operation gives the levels of Pillow's operation of that name, autocontrast
    within one level. Warps take the nearest pixel, and gray (128) from outside the
    image.

    Args:
        key: Random key. The same key gives the same result.
        images: uint8 images with 1 channel (gray, where color changes nothing) or 3
            (red, green, blue), at most 2048 pixels high and wide.
        layers: Operations per image, at least 0.
        magnitude: Mean strength of an operation, in `[0, 10]`.
        magnitude_std: Standard deviation of the strength before clipping, at least 0.

    Returns:
        uint8 images of the same shape.

    Raises:
        ValueError: If `images` have neither 1 nor 3 channels or are too large, `layers`
            is negative, `magnitude` is outside `[0, 10]`, or `magnitude_std` is
            negative or not finite.

    Example:
        >>> import jax
        >>> from hypersphere import data
        >>> images = jax.numpy.asarray(data.load("mnist5k").train.images[:8])
        >>> data.rand_augment(jax.random.key(0), images, magnitude=5.0).shape
        (8, 28, 28, 1)

    References:
        Cubuk et al., RandAugment: Practical Automated Data Augmentation with a Reduced
        Search Space, CVPR Workshops 2020. https://arxiv.org/abs/1909.13719
        Differs: every strength grows with the magnitude, where the authors' code has
        the blends at no change for 5 and more solarize and posterize for less; the
        share of the side in a translation stands for a fixed number of pixels; the
        strength varies by `magnitude_std`, as timm has it (zero turns that off).
    """
    _check(images, layers, magnitude, magnitude_std)
    drawn = _draw(key, (layers, len(images)), magnitude, magnitude_std)
    return lax.scan(
        lambda x, layer: (apply_operations(x, *layer), None), images, drawn
    )[0]


def _check(images: Array, layers: int, magnitude: float, magnitude_std: float) -> None:
    who = "rand_augment"
    _, height, width, channels = images.shape
    # Up to 2048 pixels, coordinates in 16.16 bits and sums of levels fit into int32.
    if channels not in (1, 3) or max(height, width) > 2048:
        raise ValueError(
            f"`{who}` needs images with 1 or 3 channels and sides of at most 2048 "
            f"pixels, got `images.shape={images.shape}`."
        )
    if layers < 0:
        raise ValueError(f"`{who}` needs `layers >= 0`, got `layers={layers!r}`.")
    if not 0 <= magnitude <= _LARGEST:
        raise ValueError(
            f"`{who}` needs `0 <= magnitude <= 10`, got `magnitude={magnitude!r}`. "
            "On a scale up to 30, divide by 3."
        )
    if not 0 <= magnitude_std < math.inf:
        raise ValueError(
            f"`{who}` needs a finite `magnitude_std >= 0`, got "
            f"`magnitude_std={magnitude_std!r}`."
        )


def _draw(
    key: PRNGKeyArray, shape: tuple[int, int], magnitude: float, magnitude_std: float
) -> tuple[Array, Array]:
    """Operations, and their strengths in [-1, 1]."""
    choice_key, noise_key, sign_key = jax.random.split(key, 3)
    chosen = jax.random.randint(choice_key, shape, 0, len(OPERATIONS), jnp.int32)
    noise = magnitude_std * jax.random.normal(noise_key, shape, jnp.float32)
    size = jnp.clip(magnitude + noise, 0, _LARGEST) / _LARGEST
    return chosen, size * jax.random.rademacher(sign_key, shape, jnp.float32)


def apply_operations(
    images: UInt8[Array, "batch height width channels"],
    chosen: Int32[Array, " batch"],
    strength: Float32[Array, " batch"],
) -> UInt8[Array, "batch height width channels"]:
    """Applies to each image one operation, without randomness.

    Args:
        images: uint8 images with 1 or 3 channels.
        chosen: Index of each image's operation in `OPERATIONS`. Not checked.
        strength: Magnitude over 10 with a sign, in `[-1, 1]`. The sign is the direction
            of a warp and whether a factor grows or shrinks; others ignore it.

    Returns:
        uint8 images of the same shape.
    """
    _, height, width, _ = images.shape
    images = _warp(images, _matrix(height, width, chosen, strength))
    images = _look_up(images, _table(images, chosen, strength))
    return _blend_neighbors(images, chosen, strength)


def _is(chosen: Array, name: str) -> Array:
    return chosen == OPERATIONS.index(name)


def _matrix(height: int, width: int, chosen: Array, strength: Array) -> Array:
    """Where output pixel (x, y) comes from: `(2, 3, batch)`, times (x, y, 1)."""

    def amount(name: str, largest: float) -> Array:
        return jnp.where(_is(chosen, name), largest * strength, 0.0)

    angle = amount("rotate", _ROTATE)
    cos, sin = jnp.cos(angle), jnp.sin(angle)
    right = (1 - cos) * width / 2 + sin * height / 2
    down = (1 - cos) * height / 2 - sin * width / 2
    across = [
        cos,
        amount("shear_x", _SHEAR) - sin,
        right + amount("translate_x", _TRANSLATE * width),
    ]
    along = [
        amount("shear_y", _SHEAR) + sin,
        cos,
        down + amount("translate_y", _TRANSLATE * height),
    ]
    return jnp.stack([jnp.stack(across), jnp.stack(along)])


def _warp(images: Array, matrix: Array) -> Array:
    """The nearest pixel of where each comes from, gray outside the image."""
    batch, height, width, channels = images.shape
    # Pillow's 16.16 fixed point: whole numbers agree on every device.
    steps = jnp.round(matrix[:, :2] * 65536).astype(jnp.int32)[..., None, None]
    middle = matrix[:, 2] + (matrix[:, 0] + matrix[:, 1]) / 2
    start = jnp.round(middle * 65536).astype(jnp.int32)[..., None, None]
    rows, columns = jnp.ogrid[:height, :width]
    rows, columns = rows[None, None], columns[None, None]
    x, y = (start + steps[:, 0] * columns + steps[:, 1] * rows) >> 16
    inside = (x >= 0) & (x < width) & (y >= 0) & (y < height)
    # The last pixel is gray. A mask after the gather would be computed again, with its
    # coordinates, by every later step that XLA fuses it into.
    source = jnp.where(inside, y * width + x, height * width).reshape(batch, -1, 1)
    pixels = images.reshape(batch, -1, channels)
    pixels = jnp.pad(pixels, ((0, 0), (0, 1), (0, 0)), constant_values=_GRAY)
    moved = jnp.take_along_axis(pixels, source, axis=1, mode="clip")
    return moved.reshape(images.shape)


def _table(images: Array, chosen: Array, strength: Array) -> Array:
    """The new level of each level, uint8 `(batch, 256, channels)`."""
    counts = _counts(images)
    levels = jnp.arange(256)[None, :, None]
    size = jnp.abs(strength)[:, None, None]
    factor = _factor(strength)[:, None, None]
    dropped = jnp.round(4 * size).astype(jnp.int32)
    tables = {
        "identity": levels,
        "autocontrast": _autocontrast(counts, levels),
        "equalize": _equalize(counts, levels),
        "solarize": jnp.where(levels < 256 * (1 - size), levels, 255 - levels),
        "posterize": (levels >> dropped) << dropped,
        "contrast": _blend(_mean_gray(images), levels, factor),
        "brightness": _blend(0, levels, factor),
    }
    names = list(tables)
    rows = jnp.array([names.index(n) if n in names else 0 for n in OPERATIONS])
    drawn = rows[chosen][:, None, None, None]
    choices = jnp.stack(jnp.broadcast_arrays(*tables.values(), counts)[:-1], axis=1)
    # XLA may fuse this into the look-up of each pixel, where `jnp.where` would compute
    # all tables and a gather computes one.
    return jnp.take_along_axis(choices, drawn, axis=1)[:, 0].astype(jnp.uint8)


def _look_up(images: Array, table: Array) -> Array:
    levels = images.reshape(len(images), -1, images.shape[-1]).astype(jnp.int32)
    changed = jnp.take_along_axis(table, levels, axis=1, mode="clip")
    return changed.reshape(images.shape)


def _counts(images: Array) -> Array:
    """How often each level occurs, int32 `(batch, 256, channels)`."""
    channels = images.shape[-1]
    slots = images.astype(jnp.int32) * channels + jnp.arange(channels)[None, None, None]

    def count(slots: Array) -> Array:
        return jnp.zeros(256 * channels, jnp.int32).at[slots].add(1)

    counts = jax.vmap(count)(slots.reshape(len(images), -1))
    return counts.reshape(-1, 256, channels)


def _autocontrast(counts: Array, levels: Array) -> Array:
    """Spreads the levels that occur over 0 to 255."""
    low = jnp.min(jnp.where(counts > 0, levels, 255), axis=1, keepdims=True)
    high = jnp.max(jnp.where(counts > 0, levels, 0), axis=1, keepdims=True)
    spread = jnp.clip((levels - low) * 255 // jnp.maximum(high - low, 1), 0, 255)
    return jnp.where(high > low, spread, levels)


def _equalize(counts: Array, levels: Array) -> Array:
    """Gives each level its rank among the pixels, as far as whole levels allow."""
    below = jnp.cumsum(counts, axis=1) - counts
    # The pixels at the highest level that occurs do not count.
    step = jnp.max(jnp.where(counts > 0, below, 0), axis=1, keepdims=True) // 255
    spread = (below + step // 2) // jnp.maximum(step, 1)
    return jnp.where(step > 0, jnp.clip(spread, 0, 255), levels)


def _mean_gray(images: Array) -> Array:
    """The mean gray level of each image, rounded, `(batch, 1, 1)`."""
    gray = _gray(images.astype(jnp.int32))
    pixels = math.prod(gray.shape[1:])
    return (2 * gray.sum((1, 2, 3)) + pixels)[:, None, None] // (2 * pixels)


def _gray(images: Array) -> Array:
    """ITU-R 601 luma of int32 images, in one channel."""
    if images.shape[-1] == 1:
        return images
    red, green, blue = (images[..., [channel]] for channel in range(3))
    return (19595 * red + 38470 * green + 7471 * blue + 32768) >> 16


def _blend_neighbors(images: Array, chosen: Array, strength: Array) -> Array:
    """Color and sharpness: blends with the gray and with the smoothed image."""
    color, sharpness = (
        _is(chosen, name)[:, None, None, None] for name in ("color", "sharpness")
    )
    levels = images.astype(jnp.int32)
    duller = jnp.where(color, _gray(levels), _smooth(levels))
    changed = _blend(duller, levels, _factor(strength)[:, None, None, None])
    return jnp.where(color | sharpness, changed.astype(jnp.uint8), images)


def _smooth(images: Array) -> Array:
    """The mean of 3x3 pixels, the middle counting five times; borders stay."""
    rows = images[:, :-2] + images[:, 1:-1] + images[:, 2:]
    box = rows[:, :, :-2] + rows[:, :, 1:-1] + rows[:, :, 2:]
    inner = (box + 4 * images[:, 1:-1, 1:-1] + 6) // 13
    return images.at[:, 1:-1, 1:-1].set(inner)


def _factor(strength: Array) -> Array:
    return 1 + _ENHANCE * strength


def _blend(dull: Array | int, levels: Array, factor: Array) -> Array:
    """From `dull` (factor 0) over `levels` (1) and beyond, cut to whole levels."""
    return jnp.clip(dull + factor * (levels - dull), 0, 255).astype(jnp.int32)
