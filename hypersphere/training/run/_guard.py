"""When training goes wrong: numbers that are not finite, and losses that leap."""

import collections

import numpy as np

from hypersphere.training.compute._step import WATCHED
from hypersphere.training.settings._config import GuardConfig

REMEDY = "Lower `config.optim.learning_rate` in a new --workdir, or look at the data."


class DivergedError(FloatingPointError):
    """Training stopped because it went wrong for good."""


class SpikeError(Exception):
    """The loss of a step was far above those before it."""

    def __init__(self, step: int, loss: float, mean: float, deviation: float):
        super().__init__(
            f"the loss of step {step:,} is {loss:.4g}, after {mean:.4g} on average "
            f"(standard deviation {deviation:.2g})"
        )
        self.step = step


class Guard:
    """Looks at the losses and norms of all steps, in order.

    Args:
        config: What is allowed.
        losses: The latest losses of an earlier process of the same run.
    """

    def __init__(self, config: GuardConfig, losses: list[float]):
        self._config = config
        self.losses = collections.deque(losses, maxlen=config.window)

    def check(self, first: int, metrics: dict[str, np.ndarray]) -> None:
        """Looks at the steps from `first` on.

        Raises:
            DivergedError: If more steps than allowed were not finite.
            SpikeError: If a loss leaps.
        """
        self._check_finite(first, metrics)
        if self._config.spike:
            for index, loss in enumerate(metrics["loss"].tolist()):
                if np.isfinite(loss):
                    self._check_spike(first + index, loss)

    def _check_finite(self, first: int, metrics: dict[str, np.ndarray]) -> None:
        wrong = {what: ~np.isfinite(metrics[name]) for name, what in WATCHED.items()}
        any_wrong = np.flatnonzero(np.any(list(wrong.values()), axis=0))
        allowed = self._config.max_skipped
        if not len(any_wrong) or (allowed and metrics["skipped"][-1] <= allowed):
            return
        worst = any_wrong[-1 if allowed else 0]
        what = next(name for name, where in wrong.items() if where[worst])
        last = first + len(metrics["loss"]) - 1
        verb = "were" if what == "parameters" else "was"
        raise DivergedError(
            f"The {what} {verb} not finite at step "
            f"{first + int(worst):,} (in steps {first:,} to {last:,})"
            + (f", after {allowed} other steps that were left out" if allowed else "")
            + f". The newest checkpoint is from before. {REMEDY}"
        )

    def _check_spike(self, step: int, loss: float) -> None:
        if len(self.losses) == self.losses.maxlen:
            mean, deviation = np.mean(self.losses), np.std(self.losses)
            if loss > mean + self._config.spike * deviation:
                raise SpikeError(step, loss, float(mean), float(deviation))
        self.losses.append(loss)
