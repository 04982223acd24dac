"""The evaluations of a run."""

from collections.abc import Collection, Mapping
from typing import Any

import jax

from hypersphere.training.compute._moments import mean_of
from hypersphere.training.compute._program import Program
from hypersphere.training.compute._step import TrainState
from hypersphere.training.machine._stop import StopSign
from hypersphere.training.run._cadence import Evaluator
from hypersphere.training.run._feed import Split
from hypersphere.training.run._progress import Progress, score

_AHEAD = 4  # batches of an evaluation that the host is ahead at most


class Judge:
    """Evaluates states, and notes which one was the best.

    Args:
        evaluators: What to evaluate on, by name; `test` is one of them.
        program: The compiled functions.
        sign: What tells that a signal asked to stop.
        patience: As `config.patience`.

    Attributes:
        chooses: The name of the evaluation that says which state is the best.
        last: The values of the last evaluations, by their names.
    """

    def __init__(
        self,
        evaluators: Mapping[str, Evaluator],
        program: Program,
        sign: StopSign,
        *,
        patience: int,
    ):
        self._evaluators, self._program, self._sign = evaluators, program, sign
        self._patience = patience
        self.chooses = "validation" if "validation" in evaluators else "test"
        self.last: dict[str, dict[str, float]] = {}

    def evaluate(
        self, state: TrainState, split: Split, statistics: str = "running"
    ) -> dict[str, float]:
        """Means over images, every one counted once.

        Args:
            state: What is judged: its averaged weights, if there are any.
            split: The images.
            statistics: Of `Evaluation.statistics`, one that needs no other images.

        Returns:
            `loss` in nats, `accuracy` in [0, 1] where there are scores of classes, and
            what else the run evaluates; nothing if asked to stop.
        """
        sums: list[Any] = []
        for batch in split:
            sums.append(self._program.judge(state, *batch, statistics=statistics))
            jax.block_until_ready(sums[-min(_AHEAD, len(sums))])
            if self._sign.is_up():
                return {}
        parts = jax.device_get(sums)
        told = sorted(parts[0], key=lambda name: (name != "loss", name))
        total = {name: sum(float(part[name]) for part in parts) for name in told}
        examples = total.pop("examples")
        return {name: value / examples for name, value in total.items()}

    def evaluate_due(
        self,
        due: Collection[str],
        state: TrainState,
        step: int,
        progress: Progress,
        tell: Any,
    ) -> bool:
        """Evaluates what is due and not done yet.

        Args:
            due: As `due_at` has it.
            state: What is judged.
            step: Its step.
            progress: Where it is noted.
            tell: (name of an evaluation, its values) -> None.

        Returns:
            False if it was cut short.
        """
        for name, evaluator in self._evaluators.items():
            is_done = progress.evaluated.get(name) == step
            if f"on {name}" not in due or is_done:
                continue
            found = {name: self._evaluated(evaluator, state)}
            if state.average:
                raw = state._replace(average=())
                found[f"{name}_raw"] = self._evaluated(evaluator, raw)
            if not all(found.values()):
                return False
            for split, values in found.items():
                tell(split, values)
            progress.evaluated[name] = step
            self.last[name] = found[name]
            if name == self.chooses:
                self._note(found[name], progress)
        return True

    def _evaluated(self, evaluator: Evaluator, state: TrainState) -> dict[str, float]:
        """The values of an evaluation; nothing if asked to stop."""
        if evaluator.calibration is None:
            return self.evaluate(state, evaluator.split, evaluator.statistics)
        moments: list[Any] = []
        for batch in evaluator.calibration:
            moments.append(self._program.moments(state, batch.pool, batch.order))
            jax.block_until_ready(moments[-min(_AHEAD, len(moments))])
            if self._sign.is_up():
                return {}
        again = self._program.recalibrated(state, mean_of(moments))
        return self.evaluate(again, evaluator.split)

    def out_of_patience(self, progress: Progress) -> str:
        """Why training ends here; empty if it does not."""
        if not self._patience or progress.since_best < self._patience:
            return ""
        best = progress.best or 0.0
        did = (
            f"accuracy has not risen above {best:.4f}"
            if "accuracy" in self.last.get(self.chooses, {})
            else f"loss has not fallen below {-best:.4f}"
        )
        return (
            f"The {self.chooses} {did} for {progress.since_best} evaluations: training "
            "ends here."
        )

    def _note(self, values: dict[str, float], progress: Progress) -> None:
        progress.since_best += 1
        if progress.best is None or score(values) > progress.best:
            progress.best, progress.since_best = score(values), 0
