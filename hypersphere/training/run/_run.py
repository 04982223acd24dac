"""One run: its loop over steps, from its newest checkpoint to its end."""

import collections
import dataclasses
import time
from collections.abc import Callable, Mapping
from pathlib import Path
from typing import Any, NoReturn

import jax
import jax.numpy as jnp
import numpy as np

from hypersphere.training.checkpoints._checkpoint import Checkpoints
from hypersphere.training.checkpoints._graft import graft
from hypersphere.training.compute._head import of_params
from hypersphere.training.compute._program import Program
from hypersphere.training.compute._step import TrainState
from hypersphere.training.machine._stop import StoppedError, StopSign
from hypersphere.training.run._cadence import Evaluator, due_at, steps_per_call
from hypersphere.training.run._feed import Feed, Split
from hypersphere.training.run._guard import REMEDY, DivergedError, Guard, SpikeError
from hypersphere.training.run._judge import Judge
from hypersphere.training.run._logging import Reporter, make_console
from hypersphere.training.run._profile import Profile
from hypersphere.training.run._progress import Progress, score
from hypersphere.training.run._saver import Saver
from hypersphere.training.run._stepper import Stepper
from hypersphere.training.settings._config import TrainConfig

_LONG_WAIT = 0.02  # share of the time at which waiting for data is worth a line


class Run:
    """A run from its newest checkpoint, or its beginning, to its end.

    It steps, judges and saves, each by an object of its own, when that is due.

    Args:
        config: What to train, its durations in steps.
        folder: Where its files go.
        feed: The images.
        evaluators: What to evaluate on, by name; `test` is one of them.
        program: The compiled functions.
        checkpoints: Where states are kept.
        donor: () -> parameters and running averages to start from; None for fresh.
        own: What its checkpoints say of the parts that are not the config's.
        allow_changes: Whether it may go on with other images than it was begun with.
        despite_damage: Whether it may begin where all checkpoints are damaged.
    """

    def __init__(
        self,
        config: TrainConfig,
        folder: Path,
        feed: Feed,
        evaluators: Mapping[str, Evaluator],
        program: Program,
        checkpoints: Checkpoints,
        donor: Callable[[], tuple[Any, Any]] | None = None,
        own: dict[str, Any] | None = None,
        *,
        allow_changes: bool = False,
        despite_damage: bool = False,
    ):
        self._config, self._folder, self._feed = config, folder, feed
        self._evaluators, self._program, self._donor = evaluators, program, donor
        self._sign = StopSign()
        must_save = config.guard.full_disk == "stop"
        self._judge = Judge(evaluators, program, self._sign, patience=config.patience)
        self._saver = Saver(
            checkpoints,
            feed.images,
            own or {},
            config=config,
            folder=folder,
            must_save=must_save,
            allow_changes=allow_changes,
            despite_damage=despite_damage,
        )
        self._has_warned = False
        self._begin()

    @property
    def state(self) -> TrainState:
        """All that training has changed so far."""
        return self._stepper.state

    @property
    def step(self) -> int:
        """Updates so far."""
        return self._stepper.step

    @property
    def last(self) -> dict[str, dict[str, float]]:
        """The values of the last evaluations, by their names; none before one."""
        return self._judge.last

    def advance(self) -> None:
        """Trains to the end, logging, evaluating and saving on the way.

        Raises:
            StoppedError: If a signal asked to stop; everything is saved.
            DivergedError: If training goes wrong for good.
        """
        with self._sign.listening():
            while True:
                try:
                    return self._advance()
                except SpikeError as spike:
                    self._rewind(spike)

    def evaluate(self, split: Split) -> dict[str, float]:
        """What `Judge.evaluate` says of the state."""
        return self._judge.evaluate(self.state, split)

    def timing(self) -> dict[str, float]:
        """Seconds in all, examples per second of training, and share of useful time."""
        examples, busy = self._stepper.meter.total()
        # Clocks are set back; then nothing is known but that time has passed.
        wall = max(time.time() - self._progress.began, busy, 1e-9)
        return {
            "seconds": round(self._seconds(), 2),
            "examples_per_second": round(examples / busy, 1) if busy else 0.0,
            "goodput": round(busy / wall, 4),
        }

    def _begin(self) -> None:
        self._clock = time.perf_counter()
        state, self._progress = self._saver.restore(
            self._program.template, self._program.padded
        )
        self._stepper = Stepper(
            self._feed,
            self._program,
            self._fresh() if state is None else state,
            self._progress,
            batch_size=self._config.batch_size,
        )
        self._guard = Guard(self._config.guard, self._progress.losses)
        self._windows: collections.deque[tuple[int, list[Any]]] = collections.deque()

    def _fresh(self) -> TrainState:
        state = self._program.init()
        if self._donor is None:
            return state
        (params, stats), patterns = self._donor(), self._config.init_fresh
        given = {
            "params": graft(
                state.params, params, patterns, padded=of_params(self._program.padded)
            ),
            "stats": graft(state.stats, stats, patterns, must_fit=False),
        }
        average = state.average and jax.tree.map(jnp.copy, given)
        return state._replace(**given, average=average)

    def _is_over(self) -> bool:
        is_done = self.step >= self._config.steps
        return is_done or bool(self._judge.out_of_patience(self._progress))

    def _advance(self) -> None:
        # No other name for the stepper: a spike's traceback would keep its state.
        config = self._config
        with (
            Reporter(
                self._folder,
                name=self._folder.name,
                start=self.step,
                logged=self._progress.logged,
                steps=config.steps,
                project=config.wandb,
                must_write=config.guard.full_disk == "stop",
            ) as self._reporter,
            Profile(self._folder / "profile", config.profile) as profile,
        ):
            if self.step:
                self._catch_up()
            self._stepper.meter.resume()
            window: list[Any] = []
            while not self._is_over():
                profile.after(self.step, self.state)
                count = steps_per_call(config, self._evaluators, self.step)
                window.append(self._stepper.advance(count))
                stops = self._sign.is_up()
                due = due_at(config, self._evaluators, self.step)
                if stops or due:
                    self._windows.append((self.step, window))
                    window = []
                    self._settle(due, stops=stops)
            profile.after(self.step, self.state)
            self._saver.wait(self._say, is_last=True)

    def _catch_up(self) -> None:
        """Evaluates what a signal has cut short after the state was saved."""
        before = dict(self._progress.evaluated)
        is_whole = self._evaluate_due()
        if self._progress.evaluated != before:
            self._saver.judged(
                self.step, self._until_now(), self._say, score=self._score()
            )
        if not is_whole:
            self._stop()

    def _settle(self, due: set[str], *, stops: bool) -> None:
        """Tells, evaluates and saves; a log alone waits for nothing."""
        self._saver.check(self._say)
        if due == {"log"} and not stops:
            self._tell(keep=1)
            return
        meter = self._stepper.meter
        meter.restart()
        self._tell(keep=0)
        before = self._progress.best
        if not stops:
            stops = not self._evaluate_due()
        is_best = self._config.keep_best and self._progress.best != before
        if "save" in due or is_best or stops or self._is_over():
            self._save()
        if stops:
            self._stop()
        meter.resume()

    def _stop(self) -> NoReturn:
        """Ends the run when its state is on disk."""
        self._saver.wait(self._say, is_last=self._is_over())
        newest = self._saver.newest()
        is_saved = newest == self.step
        raise StoppedError(
            f"Stopped{' and saved' if is_saved else ''} at step {self.step:,} of "
            f"{self._config.steps:,}; the same command resumes"
            + ("." if is_saved else f" at step {newest:,}."),
            self._sign.status,
        )

    def _tell(self, *, keep: int) -> None:
        """Looks at the windows of steps but the newest ones, and logs them."""
        speed = self._speed() if len(self._windows) > keep else {}
        while len(self._windows) > keep:
            last, window = self._windows.popleft()
            joined = self._program.by_name(np.concatenate(jax.device_get(window)))
            self._guard.check(last - len(joined["loss"]) + 1, joined)
            values = {
                name: float(np.mean(series[np.isfinite(series)]))
                for name, series in joined.items()
                if np.isfinite(series).any()
            }
            if "loss" not in values:  # all were left out
                continue
            if not self._config.guard.max_skipped:
                del values["skipped"]
            self._reporter.trained(last, self._seconds(), values | speed)

    def _speed(self) -> dict[str, float]:
        values = self._stepper.speed()
        is_slow = self._config.data.stream and values.get("data_wait", 0) > _LONG_WAIT
        if is_slow and not self._has_warned:
            self._has_warned = True
            self._say(
                f"Waiting for images takes {values['data_wait']:.0%} of the time. "
                "Give more `config.data.threads`, or prepare smaller images "
                "(python -m hypersphere.data prepare --help)."
            )
        return values

    def _evaluate_due(self) -> bool:
        """Evaluates what is due at this step and not done yet; False if cut short."""
        chooses = self._judge.chooses
        step, judged = self.step, self._progress.evaluated.get(chooses)

        def tell(split: str, values: dict[str, float]) -> None:
            self._reporter.evaluated(step, self._seconds(), split, values)

        due = due_at(self._config, self._evaluators, step)
        is_whole = self._judge.evaluate_due(due, self.state, step, self._progress, tell)
        if self._progress.evaluated.get(chooses) != judged:
            if why := self._judge.out_of_patience(self._progress):
                self._say(why)
        return is_whole

    def _save(self) -> None:
        self._reporter.sync()  # a checkpoint relies on what was logged before it
        self._saver.save(
            self.step,
            self.state,
            self._until_now(),
            self._say,
            score=self._score(),
            is_last=self._is_over(),
        )

    def _until_now(self) -> Progress:
        examples, busy = self._stepper.meter.total()
        return dataclasses.replace(
            self._progress,
            seconds=self._seconds(),
            examples=examples,
            busy=busy,
            losses=list(self._guard.losses),
            logged=self._reporter.logged,
        )

    def _score(self) -> float | None:
        """What is highest at the best state; None if this one was not judged."""
        chooses = self._judge.chooses
        is_judged = self._progress.evaluated.get(chooses) == self.step
        values = self.last.get(chooses)
        return score(values) if is_judged and values else None

    def _rewind(self, spike: SpikeError) -> None:
        """Goes back to the newest checkpoint, and past the batches up to the spike."""
        progress, guard = self._progress, self._config.guard
        if progress.rewinds >= guard.max_rewinds:
            raise DivergedError(
                f"After {progress.rewinds} rewinds, {spike}. The newest checkpoint is "
                f"from before. {REMEDY}"
            )
        seconds = self._seconds()
        beyond = self._stepper.position - (self.step - spike.step)
        del self._stepper  # there may be no room for two states
        self._begin()
        self._progress = dataclasses.replace(
            self._progress,
            began=progress.began,
            seconds=seconds,
            rewinds=progress.rewinds + 1,
        )
        self._stepper.skip_to(beyond)
        make_console().print(
            f"Rewound to step {self.step:,}: {spike}. Training goes on with the "
            "batches after it.",
            highlight=False,
        )

    def _say(self, line: str) -> None:
        self._reporter.say(line)

    def _seconds(self) -> float:
        return self._progress.seconds + time.perf_counter() - self._clock
