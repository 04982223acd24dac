"""The limits on what is held in memory."""

import math

MAX_BYTES = 8 * 2**30
"""Largest set that is held in memory, in bytes of decoded pixels."""


MAX_PIXELS = 2**26
"""Pixels that one image may have by default: 8192 x 8192."""


def check_memory(who: str, count: int, shape: tuple[int, ...]) -> None:
    """Raises if `count` images of `shape` take more than `MAX_BYTES`."""
    needed = count * math.prod(shape)
    if needed > MAX_BYTES:
        raise ValueError(
            f"`{who}` needs at most {MAX_BYTES / 2**30:.3g} GiB for its decoded "
            f"images, got {count:,} of {'x'.join(map(str, shape))}, which take "
            f"{needed / 2**30:.3g} GiB. Use a smaller `data.image_size` or fewer "
            "images, or read them while training: `config.data.stream` for `tfds:`, "
            "`folder:` and `tar:`."
        )
