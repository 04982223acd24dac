"""A profile of chosen steps, for TensorBoard or Perfetto."""

from pathlib import Path
from typing import Any

import jax


class Profile:
    """Traces the chosen steps, or what is left of them when the `with` block ends.

    Args:
        folder: Where the trace goes.
        steps: First and last step, counted from 1; empty for no trace.
    """

    def __init__(self, folder: Path, steps: tuple[int, ...]):
        self._folder, self._steps = folder, steps
        self._is_on = False

    def __enter__(self) -> "Profile":
        return self

    def __exit__(self, *_: object) -> None:
        if self._is_on:
            jax.profiler.stop_trace()

    def after(self, step: int, state: Any) -> None:
        """Begins or ends the trace, if that is due after a step.

        Args:
            step: How many steps have been made.
            state: What to wait for at the end, so that the last step is in the trace.
        """
        if self._steps and step == self._steps[0] - 1:
            jax.profiler.start_trace(str(self._folder))
            self._is_on = True
        elif self._is_on and step == self._steps[1]:
            jax.block_until_ready(state)
            jax.profiler.stop_trace()
            self._is_on = False
