"""Settings and fixtures of every test."""

import os
import pathlib
from collections.abc import Callable, Iterator

import jax
import jax.numpy as jnp
import jaxtyping
import numpy as np
import pytest

CACHE = pathlib.Path(__file__).parents[1] / ".cache" / "jax"
jax.config.update("jax_compilation_cache_dir", os.environ.get("JAX_CACHE", str(CACHE)))
jax.config.update("jax_persistent_cache_min_compile_time_secs", 0.0)
jax.config.update("jax_numpy_rank_promotion", "raise")


@pytest.fixture
def draw() -> Callable[[tuple[int, ...]], jax.Array]:
    """Standard normal float32 numbers of a shape; the same in every run.

    NumPy's, because JAX would compile for every new shape.
    """
    generator = np.random.default_rng(20171103)
    return lambda shape: jnp.asarray(generator.standard_normal(shape), jnp.float32)


@pytest.fixture
def as_a_user() -> Iterator[None]:
    """Without the shape checks of the test run, which would hide our own messages."""
    jaxtyping.config.update("jaxtyping_disable", True)
    yield
    jaxtyping.config.update("jaxtyping_disable", False)
