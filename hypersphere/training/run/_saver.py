"""What a run keeps of itself on disk, and takes up again."""

import contextlib
import dataclasses
import time
from collections.abc import Callable, Iterator, Mapping
from typing import Any

from hypersphere.training.checkpoints._checkpoint import Checkpoints, SaveError
from hypersphere.training.compute._parts import Images
from hypersphere.training.compute._step import TrainState
from hypersphere.training.run._logging import make_console
from hypersphere.training.run._progress import Progress

Say = Callable[[str], Any]


class Saver:
    """Saves states with how far the run has come, and restores them.

    Args:
        checkpoints: Where they are kept.
        images: What is trained on, which must not change.
        own: What a checkpoint says of the parts that are not the config's.
        folder: The run's, for messages.
        must_save: Whether a full disk ends the run.
    """

    def __init__(
        self,
        checkpoints: Checkpoints,
        images: Images,
        own: dict[str, Any],
        *,
        folder: Any,
        must_save: bool,
    ):
        self._checkpoints, self._images, self._own = checkpoints, images, own
        self._folder, self._must_save = folder, must_save

    def restore(
        self, template: TrainState, padded: Mapping[str, int]
    ) -> tuple[TrainState | None, Progress]:
        """The newest state that is whole, None without one, and how far it had come."""
        restored = self._checkpoints.restore(template, padded=padded)
        if restored is None:
            return None, Progress(began=time.time())
        self._check_data(restored.meta["dataset"])
        console = make_console()
        for complaint in restored.complaints:
            console.print(f"Set aside: {complaint}.", highlight=False)
        console.print(
            f"Resuming {self._folder} at step {int(restored.state.step):,}.",
            highlight=False,
        )
        return restored.state, Progress(**restored.meta["progress"])

    def save(
        self,
        step: int,
        state: TrainState,
        progress: Progress,
        say: Say,
        *,
        score: float | None,
        is_last: bool,
    ) -> None:
        """Begins to save a state; `wait` sees to its end.

        Args:
            step: Its step.
            state: The state.
            progress: How far the run has come.
            say: Is told of a full disk that does not end the run.
            score: What is highest at the best state; None if it was not judged.
            is_last: Whether the run ends here.
        """
        self.wait(say)  # what is wrong with the one before
        meta = {
            "progress": dataclasses.asdict(progress),
            "dataset": self._images.facts(),
        }
        if self._own.get("given"):
            meta["own"] = self._own
        with self._tolerating(say, is_last=is_last):
            self._checkpoints.save(step, state, meta, score=score)

    def check(self, say: Say) -> None:
        """Tells of a checkpoint that failed, without waiting for one."""
        with self._tolerating(say):
            self._checkpoints.check()

    def wait(self, say: Say, *, is_last: bool = False) -> None:
        """Waits until all is on disk."""
        with self._tolerating(say, is_last=is_last):
            self._checkpoints.wait()

    def newest(self) -> int:
        """The step of the newest checkpoint; 0 without one."""
        return max(self._checkpoints.steps(), default=0)

    @contextlib.contextmanager
    def _tolerating(self, say: Say, *, is_last: bool = False) -> Iterator[None]:
        """A full disk ends the run or is told, as configured.

        Without its last checkpoint a run is not finished: that one is never given up.
        """
        try:
            yield
        except SaveError as error:
            if is_last or self._must_save:
                raise
            say(f"{error} Training goes on.")

    def _check_data(self, then: dict[str, Any]) -> None:
        here = self._images.facts()
        if {**then, "name": ""} != {**here, "name": ""}:
            raise ValueError(
                f"The data have changed since {self._folder} was begun: {then} then, "
                f"{here} now. Put them back, or choose another --workdir."
            )
