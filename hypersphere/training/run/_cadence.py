"""What is due at which step, and how many steps one call may make."""

import dataclasses
import math
from collections.abc import Mapping

import jax

from hypersphere.training.run._feed import Split
from hypersphere.training.settings._config import TrainConfig


@dataclasses.dataclass(frozen=True)
class Evaluator:
    """Images to evaluate on, and how often.

    Args:
        split: The images.
        every: Steps between evaluations.
        statistics: Which of `STATISTICS` batch normalization uses.
        calibration: Images that its `recalibrated` statistics are taken over, else
            None.
    """

    split: Split
    every: int
    statistics: str = "running"
    calibration: Split | None = None


def due_at(
    config: TrainConfig, evaluators: Mapping[str, Evaluator], step: int
) -> set[str]:
    """What is to be done after a step: `log`, `save`, and `on NAME` evaluations.

    Args:
        config: The run, its durations in steps.
        evaluators: What is evaluated, with its cadences.
        step: The steps made so far.
    """
    cadences = {
        "log": config.log_every,
        "save": config.checkpoint_every,
        **{f"on {name}": e.every for name, e in evaluators.items()},
    }
    is_last = step >= config.steps
    return {what for what, every in cadences.items() if is_last or step % every == 0}


def steps_per_call(
    config: TrainConfig, evaluators: Mapping[str, Evaluator], step: int
) -> int:
    """How many steps to make at once.

    One on a CPU, for streams, up to the end of a profile, and where a larger number
    would not end at the next cadence or the last step.

    Args:
        config: The run.
        evaluators: What is evaluated, with its cadences.
        step: The steps made so far.
    """
    is_profiled = bool(config.profile) and step < config.profile[1]
    if jax.default_backend() == "cpu" or config.data.stream or is_profiled:
        return 1
    every = [evaluator.every for evaluator in evaluators.values()]
    whole = math.gcd(config.log_every, config.checkpoint_every, *every)
    most = min(whole, config.max_steps_per_call)
    count = max(n for n in range(1, most + 1) if whole % n == 0)
    return count if step % count == 0 and step + count <= config.steps else 1
