"""Images made from a seed, for tests and benchmarks."""

import re
from typing import NamedTuple

import numpy as np

from hypersphere.data._dataset import Dataset, ImageSet
from hypersphere.data._memory import check_memory
from hypersphere.data._order import philox

_CONTRAST = 80  # largest distance of a pattern from middle gray
_NOISE = 40  # largest change of a pixel


class Spec(NamedTuple):
    """Images by their shape and number."""

    shape: tuple[int, int, int]
    classes: int
    examples: int


def load_synthetic(spec: str, *, seed: int) -> Dataset:
    """Every class is a smooth random pattern; its images shift it and add noise."""
    who = f"synthetic:{spec}"
    shape, classes, examples = parse_spec(spec, who)
    tests = max(classes, examples // 5)
    check_memory(who, examples + tests, shape)
    patterns = [_pattern(shape, _random(seed, label)) for label in range(classes)]
    train = _draw(patterns, examples, _random(seed, classes))
    test = _draw(patterns, tests, _random(seed, classes + 1))
    return Dataset(who, train, test, tuple(str(label) for label in range(classes)))


def parse_spec(spec: str, who: str) -> Spec:
    """Reads `HxWxC,classes=K,examples=N`.

    Args:
        spec: The text.
        who: What is shown of it in a message.

    Returns:
        The shape of an image, the number of classes, and that of examples.

    Raises:
        ValueError: If it is written otherwise, or a class would have no example.

    Example:
        >>> from hypersphere import data
        >>> data.parse_spec("8x8x1,classes=3,examples=48", "--images")
        Spec(shape=(8, 8, 1), classes=3, examples=48)
    """
    size, *pairs = spec.split(",")
    values = {key: value for key, _, value in (pair.partition("=") for pair in pairs)}
    unknown = sorted(values.keys() - {"classes", "examples"})
    numbers = [*size.split("x"), values.get("classes", ""), values.get("examples", "")]
    if unknown or len(numbers) != 5 or not all(map(_is_positive, numbers)):
        raise ValueError(
            "A synthetic set needs `synthetic:HxWxC,classes=K,examples=N` with "
            f"positive integers, got `{who}`"
            + (f" with the unknown keys {unknown}." if unknown else ".")
        )
    height, width, channels, classes, examples = map(int, numbers)
    if examples < classes:
        raise ValueError(
            f"A synthetic set needs `examples >= classes`, got `classes={classes}` and "
            f"`examples={examples}`."
        )
    return Spec((height, width, channels), classes, examples)


def _is_positive(text: str) -> bool:
    return re.fullmatch("0*[1-9][0-9]*", text) is not None


def _random(seed: int, stream: int) -> np.random.Generator:
    return np.random.Generator(philox(seed, stream))


def _pattern(shape: tuple[int, int, int], rng: np.random.Generator) -> np.ndarray:
    """A sum of slow waves, periodic so that a shift leaves no seam; int16."""
    height, width, channels = shape
    down, right = (
        np.exp(2j * np.pi * np.outer(np.arange(size) / size, np.arange(3)))
        for size in (height, width)
    )
    weights = rng.standard_normal((2, 3, 3, channels))
    waves = np.einsum(
        "yu,xv,uvc->yxc", down, right, weights[0] + 1j * weights[1], optimize=True
    ).real
    return np.rint(128 + _CONTRAST * waves / np.abs(waves).max()).astype(np.int16)


def _draw(patterns: list[np.ndarray], count: int, rng: np.random.Generator) -> ImageSet:
    """Balanced classes in random order, each image its pattern, shifted and noisy."""
    shape = patterns[0].shape
    labels = rng.permutation(np.arange(count, dtype=np.int32) % len(patterns))
    images = np.empty((count, *shape), np.uint8)
    reach = np.array(shape[:2]) // 8
    shifts = rng.integers(-reach, reach + 1, (count, 2))
    for index, (label, shift) in enumerate(zip(labels, shifts, strict=True)):
        noise = rng.integers(-_NOISE, _NOISE + 1, shape, dtype=np.int16)
        moved = np.roll(patterns[label], shift, (0, 1))
        images[index] = np.clip(moved + noise, 0, 255)
    return ImageSet(images, labels)
