"""Times, memory and costs of compiled functions, each as a ratio to the first."""

import platform
import statistics
import time
from collections.abc import Callable, Sequence
from typing import Any, NamedTuple

import flax
import jax

jax.config.update("jax_enable_compilation_cache", False)  # compile times are real


class Candidate(NamedTuple):
    """A function to compile, and what to call it with."""

    name: str
    function: Callable[..., Any]
    arguments: tuple[Any, ...]


def compare(candidates: Sequence[Candidate], *, rounds: int) -> list[dict[str, Any]]:
    """One row per candidate; what ends in `_ratio` is divided by the first one's.

    After compilation the candidates run in turn, `rounds` times in one process; a time
    is the median, a time's ratio the median over rounds of the ratio within a round.
    """
    rows, calls = [], []
    for candidate in candidates:
        row, call = _compile(candidate)
        rows.append(row)
        calls.append(call)
    times = _interleaved(calls, rounds)
    for row, own in zip(rows, times, strict=True):
        row["milliseconds"] = round(1e3 * statistics.median(own), 3)
        pairs = [mine / first for mine, first in zip(own, times[0], strict=True)]
        row["time_ratio"] = round(statistics.median(pairs), 3)
        for name in ("compile_seconds", "temporary_bytes", "bytes_accessed", "flops"):
            if rows[0][name]:
                ratio = row[name] / rows[0][name]
                row[name.split("_")[0] + "_ratio"] = round(ratio, 3)
    return rows


def _compile(candidate: Candidate) -> tuple[dict[str, Any], Callable[[], Any]]:
    _timed_compilation(candidate)  # warms up what all compilations share
    runs = [_timed_compilation(candidate) for _ in range(2)]
    best, compiled = min(seconds for seconds, _ in runs), runs[-1][1]
    memory, cost = compiled.memory_analysis(), compiled.cost_analysis()
    row = {
        "name": candidate.name,
        "compile_seconds": round(best, 3),
        "temporary_bytes": memory.temp_size_in_bytes,
        "bytes_accessed": int(cost.get("bytes accessed", 0)),
        "flops": int(cost.get("flops", 0)),
        "kernels": compiled.as_text().count(" fusion("),
    }
    return row, lambda: compiled(*candidate.arguments)


def _timed_compilation(candidate: Candidate) -> tuple[float, Any]:
    """Seconds from the Python function to the executable, and that."""
    jax.clear_caches()
    start = time.perf_counter()
    compiled = jax.jit(candidate.function).lower(*candidate.arguments).compile()
    return time.perf_counter() - start, compiled


def _interleaved(calls: Sequence[Callable[[], Any]], rounds: int) -> list[list[float]]:
    times: list[list[float]] = [[] for _ in calls]
    for call in calls:
        jax.block_until_ready(call())
    for _ in range(rounds):
        for call, own in zip(calls, times, strict=True):
            start = time.perf_counter()
            jax.block_until_ready(call())
            own.append(time.perf_counter() - start)
    return times


def setting(**arguments: Any) -> dict[str, Any]:
    """What a figure depends on."""
    return {
        **arguments,
        "device": jax.devices()[0].device_kind,
        "machine": platform.machine(),
        "versions": {"jax": jax.__version__, "flax": flax.__version__},
    }
