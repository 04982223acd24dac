from collections.abc import Callable

import numpy as np
import pytest


@pytest.fixture
def numbers() -> Callable[[tuple[int, ...]], np.ndarray]:
    """`draw` as NumPy arrays, whose arithmetic compiles nothing either."""
    generator = np.random.default_rng(20171103)
    return lambda shape: generator.standard_normal(shape).astype(np.float32)
