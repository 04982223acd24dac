"""What a run keeps of itself on disk, and takes up again."""

import contextlib
import dataclasses
import json
import time
from collections.abc import Callable, Iterator, Mapping
from typing import Any

from hypersphere.training.checkpoints._checkpoint import (
    AllDamagedError,
    Checkpoints,
    SaveError,
)
from hypersphere.training.compute._parts import Images
from hypersphere.training.compute._step import TrainState
from hypersphere.training.run._logging import make_console
from hypersphere.training.run._progress import Progress
from hypersphere.training.settings._config import TrainConfig
from hypersphere.training.settings._text import to_json

Say = Callable[[str], Any]


def _progress(meta: dict[str, Any], console: Any) -> Progress:
    """How far a run had come; what a newer release has noted besides is told."""
    known = {field.name for field in dataclasses.fields(Progress)}
    if unknown := sorted(meta.keys() - known):
        console.print(
            f"Of the checkpoint {', '.join(unknown)} is not known here: a newer "
            "release has written it. What that does is left out."
        )
    return Progress(**{name: meta[name] for name in known & meta.keys()})


class Saver:
    """Saves states with how far the run has come, and restores them.

    Args:
        checkpoints: Where they are kept.
        images: What is trained on, which must not change.
        own: What a checkpoint says of the parts that are not the config's.
        config: The run's, which is sealed with its states.
        folder: The run's, for messages.
        must_save: Whether a full disk ends the run.
        allow_changes: Whether the images may be others than the run was begun with.
        despite_damage: Whether to begin where all checkpoints are damaged.
    """

    def __init__(
        self,
        checkpoints: Checkpoints,
        images: Images,
        own: dict[str, Any],
        *,
        config: TrainConfig,
        folder: Any,
        must_save: bool,
        allow_changes: bool,
        despite_damage: bool,
    ):
        self._checkpoints, self._images, self._own = checkpoints, images, own
        self._config, self._folder = config, folder
        self._must_save, self._allow_changes = must_save, allow_changes
        self._despite_damage = despite_damage

    def restore(
        self, template: TrainState, padded: Mapping[str, int]
    ) -> tuple[TrainState | None, Progress]:
        """The newest state that is whole, None without one, and how far it had come."""
        console = make_console()
        with contextlib.suppress(FileNotFoundError):
            self._check_data(self._checkpoints.meta()["dataset"], console)
        try:
            restored = self._checkpoints.restore(template, padded=padded)
        except AllDamagedError:
            if not self._despite_damage:
                raise
            restored = None
        if restored is None:
            self._begin_afresh(console)
            return None, Progress(began=time.time())
        for complaint in restored.complaints:
            console.print(f"Set aside: {complaint}.", highlight=False)
        console.print(
            f"Resuming {self._folder} at step {int(restored.state.step):,}.",
            highlight=False,
        )
        return restored.state, _progress(restored.meta["progress"], console)

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
        with self._tolerating(say, is_last=is_last):
            self._checkpoints.save(step, state, self._meta(progress), score=score)

    def judged(
        self, step: int, progress: Progress, say: Say, *, score: float | None
    ) -> None:
        """Notes what an evaluation has found of a state that was saved before it.

        Args:
            step: Its step.
            progress: How far the run has come, with that evaluation.
            say: Is told of a full disk that does not end the run.
            score: What is highest at the best state; None if it was not judged.
        """
        with self._tolerating(say):
            self._checkpoints.amend(step, self._meta(progress), score=score)

    def _meta(self, progress: Progress) -> dict[str, Any]:
        meta = {
            "progress": dataclasses.asdict(progress),
            "dataset": self._images.facts(),
            "config": json.loads(to_json(self._config)),
        }
        return meta | ({"own": self._own} if self._own.get("given") else {})

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

    def _begin_afresh(self, console: Any) -> None:
        """Tells what is given up, or raises where that is a state."""
        damaged = self._checkpoints.damaged()
        if damaged and not self._despite_damage:
            raise OSError(
                f"{self._folder} has no whole checkpoint, but damaged ones: "
                f"{', '.join(damaged)}. Restore one from a copy and give it its number "
                "as name, delete the folder, or begin at step 0 with --despite_damage."
            )
        metrics = self._folder / "metrics.jsonl"
        if damaged or (metrics.is_file() and metrics.stat().st_size):
            console.print(
                f"{self._folder} was begun before, and has no "
                f"{'whole ' * bool(damaged)}checkpoint: it begins at step 0 again.",
                highlight=False,
            )

    def _check_data(self, facts: dict[str, Any], console: Any) -> None:
        changes = self._images.differences(Images.of(facts))
        told = "; ".join(changes)
        if changes and "contents" not in facts:
            told += (
                " (an older release passed over images in folders below a class, and "
                "some by their endings, and counted repeated files of archives)"
            )
        if changes and not self._allow_changes:
            raise ValueError(
                f"The data have changed since {self._folder} was begun: {told}. Put "
                "them back, choose another --workdir, or go on with --allow_changes."
            )
        if changes:
            console.print(f"With other data than before: {told}.", markup=False)
        elif self._images.contents and "contents" not in facts:
            console.print(
                f"{self._folder} is of an older release, which did not note what its "
                "images and classes are: those of today are taken for them.",
                markup=False,
            )
