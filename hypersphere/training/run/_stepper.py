"""Where a run stands, and its steps."""

from typing import Any

import jax
import numpy as np

from hypersphere._peaks import peak_flops
from hypersphere.training.compute._program import Program
from hypersphere.training.compute._step import TrainState
from hypersphere.training.machine import _mesh
from hypersphere.training.run._feed import Feed
from hypersphere.training.run._meter import Meter, memory_gib
from hypersphere.training.run._progress import Progress


class Stepper:
    """A state, and what makes the next one of it.

    Args:
        feed: The images.
        program: The compiled functions.
        state: Where it begins.
        progress: How far the run has come.
        batch_size: Images per step.
    """

    def __init__(
        self,
        feed: Feed,
        program: Program,
        state: TrainState,
        progress: Progress,
        *,
        batch_size: int,
    ):
        self._feed, self._program = feed, program
        self.state = state
        self.step, self.position = int(state.step), int(state.position)
        self.meter = Meter(batch_size, examples=progress.examples, busy=progress.busy)
        self._flops = 0.0

    def advance(self, count: int) -> Any:
        """Makes some steps; their metrics are still on the device."""
        with self.meter.waiting():
            batches = self._feed.take(self.position, count)
        self._latest = batches
        self.state, metrics = self._program.train(self.state, *batches)
        self.meter.submitted(metrics, count)
        self.step += count
        self.position += count
        return metrics

    def skip_to(self, position: int) -> None:
        """Goes on with the batches from a position on."""
        self.position = position
        place = _mesh.everywhere(self._program.task.mesh, np.int32(position))
        self.state = self.state._replace(position=place)

    def speed(self) -> dict[str, float]:
        """Speed and memory since the last call of this method."""
        values = self.meter.window()
        if memory := memory_gib():
            values["memory_gib"] = round(memory, 3)
        peak = peak_flops(jax.devices()[0].device_kind) * jax.device_count()
        if peak and "step_ms_p50" in values:
            if not self._flops:
                self._flops = self._program.flops(self.state, *self._latest)
            per_second = self._flops / (values["step_ms_p50"] / 1e3)
            values["flop_utilization"] = round(per_second / peak, 4)
        return values
