"""Settings and fixtures of every test."""

import fcntl
import os
import pathlib
import tempfile
from collections.abc import Callable, Iterator

import jax
import jaxtyping
import numpy as np
import pytest

from tests.compile_budget import Compilations

CACHE = pathlib.Path(__file__).parents[1] / ".cache" / "jax"
jax.config.update("jax_compilation_cache_dir", os.environ.get("JAX_CACHE", str(CACHE)))
jax.config.update("jax_persistent_cache_min_compile_time_secs", 0.0)
jax.config.update("jax_numpy_rank_promotion", "raise")


def pytest_addoption(parser: pytest.Parser) -> None:
    parser.addoption(
        "--compilations",
        action="store_true",
        help="tell how many programs each file of tests has compiled",
    )


class Optimizations:
    """Which tests XLA compiles with all of its optimizations.

    In the folders of `LOGIC`, and in the examples of docstrings, the question is what a
    program does, not how XLA rounds and fuses it: without most optimizations it
    compiles in three quarters of the time. The slow tests, the operators and the losses
    have them.
    """

    LOGIC = {"training", "experiments", "data", "nn", "linen", "models"}

    @pytest.hookimpl(tryfirst=True)
    def pytest_runtest_setup(self, item: pytest.Item) -> None:
        is_example = isinstance(item, pytest.DoctestItem)
        is_logic = is_example or item.path.parent.name in self.LOGIC
        is_slow = item.get_closest_marker("slow") is not None
        jax.config.update("jax_disable_most_optimizations", is_logic and not is_slow)


def pytest_configure(config: pytest.Config) -> None:
    counting = Compilations(is_told=config.getoption("compilations"))
    config.pluginmanager.register(counting, "compilations")
    # Not hooks of this file, which examples outside of its folder would not meet.
    config.pluginmanager.register(Optimizations(), "optimizations")


@pytest.fixture
def draw() -> Callable[[tuple[int, ...]], jax.Array]:
    """Standard normal float32 numbers of a shape; the same in every run.

    Drawn and rounded by NumPy, because JAX would compile for every new shape.
    """
    generator = np.random.default_rng(20171103)
    return lambda shape: jax.device_put(
        generator.standard_normal(shape).astype(np.float32)
    )


@pytest.fixture
def shared_memory() -> Iterator[pathlib.Path]:
    """The machine's shared memory, which no other test of worker processes uses now."""
    lock = pathlib.Path(tempfile.gettempdir()) / "hypersphere-shared-memory.lock"
    with lock.open("w") as file:
        fcntl.flock(file, fcntl.LOCK_EX)
        yield pathlib.Path("/dev/shm")


@pytest.fixture
def as_a_user() -> Iterator[None]:
    """Without the shape checks of the test run, which would hide our own messages."""
    jaxtyping.config.update("jaxtyping_disable", True)
    yield
    jaxtyping.config.update("jaxtyping_disable", False)
