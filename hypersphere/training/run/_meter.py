"""Where the time of a run goes."""

import collections
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from typing import Any

import jax
import numpy as np

_IN_FLIGHT = 4  # calls that the host is ahead of the device; one if of many steps


class Meter:
    """Counts steps, and times them without stopping the device.

    The host may be some calls ahead of the device. Before it goes on, it waits for an
    older call, and the times between these ends are the times of the steps.

    Args:
        batch_size: Images per step.
        examples: Images of earlier processes of the same run.
        busy: Seconds that they took.
        clock: What tells the time, in seconds.
    """

    def __init__(
        self,
        batch_size: int,
        *,
        examples: int = 0,
        busy: float = 0.0,
        clock: Callable[[], float] = time.perf_counter,
    ):
        self._batch_size, self._clock = batch_size, clock
        self._examples, self._busy = examples, busy
        self._flying: collections.deque[tuple[Any, int]] = collections.deque()
        self._first = (0, 0.0)  # the call that compiles
        self._mark = clock()
        self._forget()

    @contextmanager
    def waiting(self) -> Iterator[None]:
        """Times what is done inside as waiting for data."""
        start = self._clock()
        yield
        if self._first[0]:  # not while a stream begins
            self._waited += self._clock() - start

    def submitted(self, metrics: Any, steps: int) -> None:
        """Notes a call for some steps, and waits for an older one."""
        self._flying.append((metrics, steps))
        while len(self._flying) > (_IN_FLIGHT if steps == 1 else 1):
            self._land()

    def restart(self) -> None:
        """Waits for all calls; what comes until the next one is not counted."""
        while self._flying:
            self._land()

    def resume(self) -> None:
        """Counts from now on."""
        self._mark = self._clock()

    def window(self) -> dict[str, float]:
        """Speed since the last call of this method, with all calls that have ended."""
        seconds, steps = sum(self._seconds), sum(self._steps)
        if not steps:
            return {}
        per_step = np.repeat(
            np.divide(self._seconds, self._steps), np.array(self._steps)
        )
        values = {
            "examples_per_second": round(steps * self._batch_size / seconds, 1),
            "step_ms_p50": round(1e3 * float(np.percentile(per_step, 50)), 3),
            "step_ms_p95": round(1e3 * float(np.percentile(per_step, 95)), 3),
            "data_wait": round(min(1.0, self._waited / seconds), 4),
        }
        self._forget()
        return values

    def total(self) -> tuple[int, float]:
        """Examples and their seconds, without the first call if there are others."""
        return (self._examples, self._busy) if self._examples else self._first

    def _land(self) -> None:
        metrics, steps = self._flying.popleft()
        jax.block_until_ready(metrics)
        now = self._clock()
        seconds, self._mark = now - self._mark, now
        if not self._first[0]:
            self._first = (steps * self._batch_size, seconds)
        else:
            self._examples += steps * self._batch_size
            self._busy += seconds
        self._seconds.append(seconds)
        self._steps.append(steps)

    def _forget(self) -> None:
        self._seconds: list[float] = []
        self._steps: list[int] = []
        self._waited = 0.0


def memory_gib() -> float:
    """The most memory that a local device has used, in GiB; 0 where it is not told."""
    told = (device.memory_stats() or {} for device in jax.local_devices())
    return max(stats.get("peak_bytes_in_use", 0) for stats in told) / 2**30
