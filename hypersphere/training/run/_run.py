"""One run: its loop over steps, from its newest checkpoint to its end."""

import collections
import dataclasses
import functools
import time
from collections.abc import Callable, Mapping
from pathlib import Path
from typing import Any, NoReturn

import jax
import jax.numpy as jnp
import numpy as np

from hypersphere._peaks import peak_flops
from hypersphere.training.checkpoints._checkpoint import Checkpoints, SaveError
from hypersphere.training.checkpoints._graft import graft
from hypersphere.training.compute._program import Program
from hypersphere.training.compute._step import TrainState
from hypersphere.training.machine import _mesh
from hypersphere.training.machine._stop import StoppedError, StopSign
from hypersphere.training.run._cadence import Evaluator, due_at, steps_per_call
from hypersphere.training.run._feed import Feed, Split
from hypersphere.training.run._guard import REMEDY, DivergedError, Guard, SpikeError
from hypersphere.training.run._logging import Reporter, make_console
from hypersphere.training.run._meter import Meter, memory_gib
from hypersphere.training.run._profile import Profile
from hypersphere.training.run._progress import Progress, score
from hypersphere.training.settings._config import TrainConfig

_AHEAD = 4  # batches of an evaluation that the host is ahead at most
_LONG_WAIT = 0.02  # share of the time at which waiting for data is worth a line


class Run:
    """A run from its newest checkpoint, or its beginning, to its end.

    Args:
        config: What to train, its durations in steps.
        folder: Where its files go.
        feed: The images.
        evaluators: What to evaluate on, by name; `test` is one of them.
        program: The compiled functions.
        checkpoints: Where states are kept.
        donor: () -> parameters and running averages to start from; None for fresh.
        own: What its checkpoints say of the parts that are not the config's.
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
    ):
        self._config, self._folder, self._feed = config, folder, feed
        self._own = own
        self._evaluators, self._program = evaluators, program
        self._checkpoints, self._donor = checkpoints, donor
        self._sign = StopSign()
        self._flops = 0.0
        self._has_warned = False
        self.last_test: dict[str, float] = {}
        self._begin()

    @property
    def state(self) -> TrainState:
        """All that training has changed so far."""
        return self._state

    @property
    def step(self) -> int:
        """Updates so far."""
        return self._step

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

    def evaluate(
        self, split: Split, *, statistics: str = "running", averaged: bool = True
    ) -> dict[str, float]:
        """Means over images, every one counted once.

        Args:
            split: The images.
            statistics: Which of `STATISTICS` batch normalization uses.
            averaged: Whether to judge the averaged weights, if there are any.

        Returns:
            `loss` in nats, `accuracy` in [0, 1] where there are scores of classes, and
            what else the run evaluates; nothing if asked to stop.
        """
        state = self._state if averaged else self._state._replace(average=())
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

    def timing(self) -> dict[str, float]:
        """Seconds in all, examples per second of training, and share of useful time."""
        examples, busy = self._meter.total()
        wall = time.time() - self._progress.began
        return {
            "seconds": round(self._seconds(), 2),
            "examples_per_second": round(examples / busy, 1) if busy else 0.0,
            "goodput": round(min(1.0, busy / wall), 4),
        }

    def _begin(self) -> None:
        self._clock = time.perf_counter()
        restored = self._checkpoints.restore(self._program.template)
        self._progress = Progress(began=time.time())
        if restored is None:
            self._state = self._fresh()
        else:
            self._state = restored.state
            self._check_data(restored.meta["dataset"])
            self._progress = Progress(**restored.meta["progress"])
            console = make_console()
            for complaint in restored.complaints:
                console.print(f"Set aside: {complaint}.", highlight=False)
            console.print(
                f"Resuming {self._folder} at step {int(self._state.step):,}.",
                highlight=False,
            )
        self._step, self._position = int(self._state.step), int(self._state.position)
        self._guard = Guard(self._config.guard, self._progress.losses)
        self._meter = Meter(
            self._config.batch_size,
            examples=self._progress.examples,
            busy=self._progress.busy,
        )
        self._windows: collections.deque[tuple[int, list[Any]]] = collections.deque()

    def _fresh(self) -> TrainState:
        state = self._program.init()
        if self._donor is None:
            return state
        (params, stats), patterns = self._donor(), self._config.init_fresh
        given = {
            "params": graft(state.params, params, patterns),
            "stats": graft(state.stats, stats, patterns, must_fit=False),
        }
        average = state.average and jax.tree.map(jnp.copy, given)
        return state._replace(**given, average=average)

    def _check_data(self, then: dict[str, Any]) -> None:
        here = self._feed.images.facts()
        if {**then, "name": ""} != {**here, "name": ""}:
            raise ValueError(
                f"The data have changed since {self._folder} was begun: {then} then, "
                f"{here} now. Put them back, or choose another --workdir."
            )

    def _is_over(self) -> bool:
        patience = self._config.patience
        is_patient = not patience or self._progress.since_best < patience
        return self._step >= self._config.steps or not is_patient

    def _advance(self) -> None:
        config = self._config
        with (
            Reporter(
                self._folder,
                name=self._folder.name,
                start=self._step,
                steps=config.steps,
                project=config.wandb,
                must_write=config.guard.full_disk == "stop",
            ) as self._reporter,
            Profile(self._folder / "profile", config.profile) as profile,
        ):
            # A signal may have cut an evaluation short, and may do so again.
            if self._step and not self._evaluate_due():
                self._stop()
            self._meter.resume()
            window: list[Any] = []
            while not self._is_over():
                profile.after(self._step, self._state)
                count = steps_per_call(config, self._evaluators, self._step)
                window.append(self._train(count))
                stops = self._sign.is_up()
                due = due_at(config, self._evaluators, self._step)
                if stops or due:
                    self._windows.append((self._step, window))
                    window = []
                    self._settle(due, stops=stops)
            profile.after(self._step, self._state)
            self._wait()

    def _train(self, count: int) -> Any:
        with self._meter.waiting():
            batches = self._feed.take(self._position, count)
        self._latest = batches
        self._state, metrics = self._program.train(self._state, *batches)
        self._meter.submitted(metrics, count)
        self._step += count
        self._position += count
        return metrics

    def _settle(self, due: set[str], *, stops: bool) -> None:
        """Tells, evaluates and saves; a log alone waits for nothing."""
        self._tolerating(self._checkpoints.check)
        if due == {"log"} and not stops:
            self._tell(keep=1)
            return
        self._meter.restart()
        self._tell(keep=0)
        before = self._progress.best
        if not stops:
            stops = not self._evaluate_due()
        is_best = self._config.keep_best and self._progress.best != before
        if "save" in due or is_best or stops or self._is_over():
            self._save()
        if stops:
            self._stop()
        self._meter.resume()

    def _stop(self) -> NoReturn:
        """Ends the run when its state is on disk."""
        self._wait()
        newest = max(self._checkpoints.steps(), default=0)
        is_saved = newest == self._step
        raise StoppedError(
            f"Stopped{' and saved' if is_saved else ''} at step {self._step:,} of "
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
        values = self._meter.window()
        if memory := memory_gib():
            values["memory_gib"] = round(memory, 3)
        peak = peak_flops(jax.devices()[0].device_kind) * jax.device_count()
        if peak and values:
            if not self._flops:
                self._flops = self._program.flops(self._state, *self._latest)
            per_second = self._flops / (values["step_ms_p50"] / 1e3)
            values["flop_utilization"] = round(per_second / peak, 4)
        is_slow = self._config.data.stream and values.get("data_wait", 0) > _LONG_WAIT
        if is_slow and not self._has_warned:
            self._has_warned = True
            self._reporter.say(
                f"Waiting for images takes {values['data_wait']:.0%} of the time. "
                "Give more `config.data.threads`, or prepare smaller images "
                "(python -m hypersphere.data prepare --help)."
            )
        return values

    def _evaluate_due(self) -> bool:
        """Evaluates what is due at this step and not done yet; False if cut short."""
        due = due_at(self._config, self._evaluators, self._step)
        for name, evaluator in self._evaluators.items():
            is_done = self._progress.evaluated.get(name) == self._step
            if f"on {name}" not in due or is_done:
                continue
            judge = functools.partial(
                self.evaluate, evaluator.split, statistics=evaluator.statistics
            )
            found = {name: judge()}
            if self._state.average:
                raw = judge(averaged=False)
                found[f"{name}_raw"] = raw
            if not all(found.values()):
                return False
            for split, values in found.items():
                self._reporter.evaluated(self._step, self._seconds(), split, values)
            self._progress.evaluated[name] = self._step
            if name == "test":
                self._note_test(found[name])
        return True

    def _note_test(self, values: dict[str, float]) -> None:
        self.last_test = values
        progress = self._progress
        progress.since_best += 1
        if progress.best is None or score(values) > progress.best:
            progress.best, progress.since_best = score(values), 0
        if self._config.patience and progress.since_best >= self._config.patience:
            did = (
                f"accuracy has not risen above {progress.best:.4f}"
                if "accuracy" in values
                else f"loss has not fallen below {-progress.best:.4f}"
            )
            self._reporter.say(
                f"The test {did} for {progress.since_best} evaluations: training ends "
                "here."
            )

    def _save(self) -> None:
        self._tolerating(self._checkpoints.wait)  # what is wrong with the one before
        examples, busy = self._meter.total()
        progress = dataclasses.replace(
            self._progress,
            seconds=self._seconds(),
            examples=examples,
            busy=busy,
            losses=list(self._guard.losses),
        )
        meta = {
            "progress": dataclasses.asdict(progress),
            "dataset": self._feed.images.facts(),
        }
        if self._own and self._own["given"]:
            meta["own"] = self._own
        is_judged = self._progress.evaluated.get("test") == self._step
        reached = score(self.last_test) if is_judged and self.last_test else None
        self._tolerating(
            lambda: self._checkpoints.save(
                self._step, self._state, meta, score=reached
            ),
            is_last=self._is_over(),
        )

    def _wait(self) -> None:
        self._tolerating(self._checkpoints.wait, is_last=self._is_over())

    def _tolerating(self, write: Any, *, is_last: bool = False) -> None:
        """Writes; a full disk ends the run or is told, as configured.

        Without its last checkpoint a run is not finished: that one is never given up.
        """
        try:
            write()
        except SaveError as error:
            if is_last or self._config.guard.full_disk == "stop":
                raise
            self._reporter.say(f"{error} Training goes on.")

    def _rewind(self, spike: SpikeError) -> None:
        """Goes back to the newest checkpoint, and past the batches up to the spike."""
        progress, guard = self._progress, self._config.guard
        if progress.rewinds >= guard.max_rewinds:
            raise DivergedError(
                f"After {progress.rewinds} rewinds, {spike}. The newest checkpoint is "
                f"from before. {REMEDY}"
            )
        beyond, seconds = self._position - (self._step - spike.step), self._seconds()
        del self._state  # there may be no room for two
        self._begin()
        self._progress = dataclasses.replace(
            self._progress,
            began=progress.began,
            seconds=seconds,
            rewinds=progress.rewinds + 1,
        )
        self._position = beyond
        place = _mesh.everywhere(self._program.task.mesh, np.int32(beyond))
        self._state = self._state._replace(position=place)
        make_console().print(
            f"Rewound to step {self._step:,}: {spike}. Training goes on with the "
            "batches after it.",
            highlight=False,
        )

    def _seconds(self) -> float:
        return self._progress.seconds + time.perf_counter() - self._clock
