"""Settings and fixtures of every test."""

import fcntl
import gc
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
# Writing the many small programs would take longer than it saves.
jax.config.update("jax_persistent_cache_min_compile_time_secs", 0.15)
jax.config.update("jax_numpy_rank_promotion", "raise")


def pytest_addoption(parser: pytest.Parser) -> None:
    parser.addoption(
        "--compilations",
        action="store_true",
        help="tell how many programs each file of tests has compiled",
    )
    parser.addoption(
        "--optimized",
        action="store_true",
        help="compile every test with all of XLA's optimizations",
    )


class Optimizations:
    """Which tests XLA compiles with all of its optimizations.

    Most ask what a program does, not how XLA rounds and fuses it: without most
    optimizations it compiles in two thirds of the time, in this process and in those
    that it starts. Those marked `optimized` have them; with `--optimized`, all.
    """

    def __init__(self, *, for_all: bool) -> None:
        self.for_all = for_all

    @pytest.hookimpl(tryfirst=True)
    def pytest_runtest_setup(self, item: pytest.Item) -> None:
        marked = item.get_closest_marker("optimized") is not None
        is_disabled = not (self.for_all or marked)
        jax.config.update("jax_disable_most_optimizations", is_disabled)
        os.environ["JAX_DISABLE_MOST_OPTIMIZATIONS"] = str(int(is_disabled))


def pytest_configure(config: pytest.Config) -> None:
    counting = Compilations(is_told=config.getoption("compilations"))
    config.pluginmanager.register(counting, "compilations")
    # Not hooks of this file, which examples outside of its folder would not meet.
    optimizations = Optimizations(for_all=config.getoption("optimized"))
    config.pluginmanager.register(optimizations, "optimizations")


# What is imported stays: looking for garbage meanwhile finds none.
gc.disable()


def pytest_collection_finish() -> None:
    """What is imported stays: garbage collection need not look at it every time.

    Tracing makes objects by the hundred thousand, few of which are garbage in a cycle:
    looking for these as often as Python does takes an eighth of the time.
    """
    gc.collect()
    gc.freeze()
    gc.set_threshold(100_000, 50, 100)
    gc.enable()


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
