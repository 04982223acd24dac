"""Settings and fixtures of every test."""

import os
import pathlib
from collections.abc import Callable, Iterator

import jax
import jaxtyping
import pytest

CACHE = pathlib.Path(__file__).parents[1] / ".cache" / "jax"
jax.config.update("jax_compilation_cache_dir", os.environ.get("JAX_CACHE", str(CACHE)))
jax.config.update("jax_persistent_cache_min_compile_time_secs", 0.0)
jax.config.update("jax_numpy_rank_promotion", "raise")


@pytest.fixture
def getkey() -> Callable[[], jax.Array]:
    """A function that returns a new random key at each call, the same in every run."""
    keys = iter(range(1_000))
    return lambda: jax.random.fold_in(jax.random.key(20171103), next(keys))


@pytest.fixture
def as_a_user() -> Iterator[None]:
    """Without the shape checks of the test run, which would hide our own messages."""
    jaxtyping.config.update("jaxtyping_disable", True)
    yield
    jaxtyping.config.update("jaxtyping_disable", False)
