"""Checkpoints: written by Orbax, sealed with fingerprints, verified when read.

A checkpoint is a folder named after its step. It gets that name by a rename, after all
files in it are on disk: until then it is `STEP.part`, which a killed run leaves behind
and the next one deletes. In it are `state/`, as Orbax writes it, and `seal.json`.
"""

import contextlib
import json
import shutil
from collections.abc import Iterator, Mapping
from concurrent import futures
from pathlib import Path
from types import MappingProxyType
from typing import Any, NamedTuple

import jax
import jax.numpy as jnp
import numpy as np

from hypersphere.training.checkpoints import _leaves
from hypersphere.training.checkpoints._fingerprint import fingerprints, finite
from hypersphere.training.checkpoints._seal import check_files, read_seal
from hypersphere.training.checkpoints._step_folders import StepFolders
from hypersphere.training.checkpoints._tree_files import TreeFiles, quiet
from hypersphere.training.machine._distributed import (
    barrier,
    everyones,
    is_first,
    is_so_everywhere,
    seen_by_all,
)

FOLDER = "checkpoints"


class SaveError(OSError):
    """A checkpoint could not be written, as on a full disk; older ones are whole."""


class AllDamagedError(OSError):
    """There are checkpoints, and none of them is whole."""


class Restored(NamedTuple):
    """What `Checkpoints.restore` has read.

    Attributes:
        state: The tree of arrays.
        meta: The JSON that was saved with it.
        complaints: A line for each damaged checkpoint that was passed over.
    """

    state: Any
    meta: dict[str, Any]
    complaints: list[str]


class Checkpoints:
    """The checkpoints of one run, of which a kill at any moment leaves the last whole.

    Where several processes train together, each calls every method in the same order;
    the folder is one they share, and the first of them seals, renames and deletes.

    Args:
        workdir: The run's folder.
        keep: How many of the newest are kept, at least 1.
        keep_best: How many of those with the highest scores are kept as well.
        read_only: Whether to change nothing: not even what a killed run left is
            cleared, and damaged checkpoints stay where they are.

    Raises:
        ValueError: If `keep < 1` or `keep_best < 0`.

    Example:
        >>> import pathlib, tempfile
        >>> import jax, jax.numpy as jnp
        >>> from hypersphere.training.checkpoints._checkpoint import Checkpoints
        >>> with tempfile.TemporaryDirectory() as folder:
        ...     checkpoints = Checkpoints(pathlib.Path(folder))
        ...     checkpoints.save(7, {"weight": jnp.ones(2)}, {"seconds": 1.5})
        ...     checkpoints.wait()
        ...     template = {"weight": jax.ShapeDtypeStruct((2,), jnp.float32)}
        ...     state, meta, complaints = checkpoints.restore(template)
        ...     print(checkpoints.steps(), state["weight"], meta, complaints)
        ...     checkpoints.close()
        [7] [1. 1.] {'seconds': 1.5} []
    """

    def __init__(
        self,
        workdir: Path,
        *,
        keep: int = 2,
        keep_best: int = 0,
        read_only: bool = False,
    ):
        if keep < 1 or keep_best < 0:
            raise ValueError(
                "`Checkpoints` needs `keep >= 1` and `keep_best >= 0`, got "
                f"`keep={keep}` and `keep_best={keep_best}`."
            )
        self._folders = StepFolders((workdir / FOLDER).absolute())
        self._keep, self._keep_best = keep, keep_best
        self._read_only = read_only
        self._files = TreeFiles(self._folders.folder)
        self._finisher = futures.ThreadPoolExecutor(1, thread_name_prefix="checkpoint")
        self._pending: futures.Future[None] | None = None
        if is_first() and not read_only:
            self._folders.clear()

    def steps(self) -> list[int]:
        """The steps there are whole checkpoints of, in rising order."""
        return self._folders.whole()

    def best_step(self) -> int | None:
        """The step of the highest score, the newest of equals; None without scores."""
        return next(iter(self._folders.best()), None)

    def meta(self) -> dict[str, Any]:
        """The JSON of the newest checkpoint whose seal can be read.

        Returns:
            What `save` was given as `meta`.

        Raises:
            FileNotFoundError: If there is none.
        """
        for step in reversed(self.steps()):
            with contextlib.suppress(OSError, ValueError):
                return read_seal(self._folders.path(step))["meta"]
        raise FileNotFoundError(
            f"There is no checkpoint in {self._folders.folder}. Train first, or name "
            "the folder that a run was given as --workdir."
        )

    def save(
        self,
        step: int,
        state: Any,
        meta: dict[str, Any],
        *,
        score: float | None = None,
    ) -> None:
        """Takes the state, and returns while its files are being written.

        The state may be donated to another computation at once. A step of which there
        is a whole checkpoint is not saved again. An unfinished save is waited for; if
        that one has failed, its error is raised after this one was begun.

        Args:
            step: The number of steps the state has been trained for.
            state: Any tree of arrays of the types `fingerprints` takes; if there are
                several processes, arrays of all of them.
            meta: What goes with it, of the types that JSON has.
            score: How good the state is, higher is better; None or NaN if it was not
                evaluated.

        Raises:
            SaveError: If this or the save before could not be written.
            FloatingPointError: If the state of the save before was not finite; that of
                this one is found out later and raised by `check`, `wait` or `save`.
            ValueError: If this was opened read-only.
            TypeError: If `meta` is not JSON.
        """
        self._refuse_read_only("save")
        try:
            self._join()
        finally:  # what went wrong then should not cost this one
            self._begin(step, state, meta, score)

    def restore(
        self,
        template: Any,
        *,
        step: int | None = None,
        padded: Mapping[str, int] = MappingProxyType({}),
    ) -> Restored | None:
        """The newest checkpoint that is whole, or that of one step.

        Args:
            template: The state's tree, of `jax.ShapeDtypeStruct` or arrays. An array is
                placed as the `sharding` of its template says, which need not be that
                it was saved with; without one, on the first device.
            step: Which checkpoint. None tries all, the newest first.
            padded: Path of an array, as `jax.tree_util.keystr` writes it -> how many
                entries of its last axis are no padding. There may be more or less
                padding than here.

        Returns:
            The state, what was saved with it, and complaints; None if there is no
            checkpoint at all. A damaged checkpoint is renamed to `STEP.damaged`, unless
            this was opened read-only, and has one line in the complaints.

        Raises:
            ValueError: If a checkpoint is of another model than the template, or if its
                arrays cannot be placed as the template says. Nothing is renamed.
            FileNotFoundError: If there is no checkpoint of `step`.
            OSError: If there are checkpoints and all that were tried are damaged; if
                a file cannot be read, or not all processes see the same. In these two
                cases nothing is renamed.
        """
        self._settle()
        wanted = jax.tree.map(_leaves.placed, _leaves.flatten(template))
        complaints: list[str] = []
        below = None if step is None else step + 1
        while (found := self._newest(below)) is not None and step in (None, found):
            answer = self._read(found, wanted, padded)
            if not isinstance(answer, str):
                leaves, meta = answer
                ordered = [leaves[name] for name in _leaves.flatten(template)]
                state = jax.tree.unflatten(jax.tree.structure(template), ordered)
                return Restored(state, meta, complaints)
            complaints.append(f"checkpoint {found} is damaged ({answer})")
            if not self._read_only:
                self._set_aside(found, "damaged")
            below = found
        folder, others = self._folders.folder, [s for s in self.steps() if s != step]
        if step is not None:
            missing = "; ".join(complaints) or f"there is no checkpoint of step {step}"
            kind_of_error = OSError if complaints else FileNotFoundError
            raise kind_of_error(f"In {folder} {missing}. Others there: {others}.")
        if complaints:
            raise AllDamagedError(
                f"No checkpoint in {folder} can be read: {'; '.join(complaints)}. "
                "Restore them from a copy, delete the folder to start anew, or begin "
                "at step 0 in it with --despite_damage."
            )
        return None

    def amend(self, step: int, meta: dict[str, Any], *, score: float | None) -> None:
        """Says anew what is kept with a state, which itself stays as it is.

        Args:
            step: Of a whole checkpoint; another one is left alone.
            meta: As for `save`.
            score: As for `save`; None leaves what is there.

        Raises:
            ValueError: If this was opened read-only.
            SaveError: If it could not be written; the old one is whole.
        """
        self._refuse_read_only("amend")
        self._settle()
        reason = None
        if is_first() and step in self.steps():
            try:
                scored = {} if score is None else {"score": float(score)}
                self._folders.amend(step, {"meta": meta, **scored})
            except (OSError, ValueError) as error:
                reason = error
        if not is_so_everywhere(reason is None):
            raise SaveError(
                f"Checkpoint {step} in {self._folders.folder} could not be given its "
                f"score ({_in_short(reason) if reason else 'by process 0'}). It is "
                "whole without."
            ) from reason

    def damaged(self) -> list[str]:
        """The names of the folders that were set aside as damaged."""
        return self._folders.damaged()

    def check(self) -> None:
        """Raises the error of a save that has failed since; does not wait.

        Raises:
            SaveError: If a checkpoint could not be written.
            FloatingPointError: If its state was not finite.
        """
        if self._pending is not None and self._pending.done():
            self._join()

    def wait(self) -> None:
        """Returns when everything is on disk; raises what `check` raises."""
        self._settle()
        self._join()

    def close(self) -> None:
        """Waits, and frees threads; raises what `check` raises."""
        try:
            self.wait()
        finally:
            self._finisher.shutdown()
            self._files.close()

    def __enter__(self) -> "Checkpoints":
        return self

    def __exit__(self, kind: object, *_: object) -> None:
        """Closes; when an error ends one of several processes, without the others."""
        if kind is None:
            self.close()
        elif jax.process_count() == 1:
            with contextlib.suppress(OSError):  # which would hide what ended the run
                self.close()
        else:  # they do not come to the barrier at which `close` would wait
            self._finisher.shutdown(wait=False)

    def _settle(self) -> None:
        """Waits until all processes see what was saved; leaves an error for later."""
        if self._pending is not None:
            futures.wait([self._pending])
        barrier("hypersphere checkpoint sealed")

    def _join(self) -> None:
        """Waits for this process alone. An error is raised only once."""
        pending, self._pending = self._pending, None
        if pending is not None:
            pending.result()

    def _begin(
        self, step: int, state: Any, meta: dict[str, Any], score: float | None
    ) -> None:
        if not is_so_everywhere(step not in self.steps()):
            return
        leaves = jax.tree.map(jnp.asarray, _leaves.flatten(state))
        content = {
            "kinds": jax.tree.map(_leaves.kind, leaves),
            "meta": json.loads(json.dumps(meta)),  # the caller may change it
            "score": None if score is None else float(score),
        }
        size = sum(leaf.nbytes for leaf in leaves.values())
        with self._cleared_on_failure(step, size):
            if is_first():
                self._folders.begin(step)
            files = jax.tree.map(_leaves.written, leaves)
            self._files.write(self._folders.part(step) / "state", files)
            smallest = min(files, key=lambda name: files[name].nbytes)
            like = jax.ShapeDtypeStruct(files[smallest].shape, files[smallest].dtype)
        found = fingerprints(leaves), finite(leaves)  # now: `state` may soon be donated
        job = step, content, found, size, (smallest, like)
        self._pending = self._finisher.submit(self._finish, *job)

    def _finish(
        self,
        step: int,
        content: dict[str, Any],
        found: Any,
        size: int,
        one: tuple[str, jax.ShapeDtypeStruct],
    ) -> None:
        """Seals what Orbax writes, as soon as that is done; runs in a thread."""
        with self._cleared_on_failure(step, size):
            self._files.wait()
            prints, whole = jax.device_get(found)
            bad = [name for name, is_finite in whole.items() if not is_finite]
            if bad:
                raise FloatingPointError(
                    f"The state after step {step} is not finite, in "
                    f"{', '.join(bad[:5])}. It was not saved; the checkpoint before it "
                    "is kept."
                )
            if jax.process_count() == 1:  # of several none reads alone
                self._files.check(self._folders.part(step) / "state", *one)
            if is_first():
                prints = {name: int(number) for name, number in prints.items()}
                self._folders.finish(step, {**content, "prints": prints})
        if is_first():
            with contextlib.suppress(OSError):  # tried again after the next save
                self._folders.delete_old(keep=self._keep, keep_best=self._keep_best)

    def _newest(self, below: int | None) -> int | None:
        """The newest checkpoint that all processes see; views of a disk may lag."""

        def views_now() -> list[int]:
            steps = [s for s in self._folders.numbered() if below is None or s < below]
            return everyones(np.int32(max(steps, default=-1))).tolist()

        views = seen_by_all(views_now, lambda views: len(set(views)) == 1)
        if len(set(views)) == 1:
            return None if views[0] < 0 else views[0]
        told = [f"{view}" if view >= 0 else "none" for view in views]
        raise OSError(
            f"The processes see different checkpoints in {self._folders.folder}; the "
            f"newest are, process by process, {', '.join(told)}. Is that folder shared "
            "and mounted on all hosts? Nothing was changed."
        )

    def _set_aside(self, step: int, word: str) -> None:
        if is_first():
            self._folders.set_aside(step, word)
        barrier(f"hypersphere checkpoint {word}")

    def _read(
        self,
        step: int,
        here: dict[str, jax.ShapeDtypeStruct],
        padded: Mapping[str, int],
    ) -> tuple[dict[str, jax.Array], dict[str, Any]] | str:
        """The arrays and the JSON, or in some words what is damaged.

        Once the files are known to be as they were written, an error of Orbax has
        another reason, such as too little memory: it is raised, and nothing renamed.
        """
        folder, seal, damage = self._folders.path(step), {}, ""
        unseen: OSError | None = None
        try:
            seal = read_seal(folder)
            if is_first():
                check_files(folder, seal)
        except OSError as error:  # which says nothing of what is there
            unseen = error
        except ValueError as error:
            damage = _in_short(error)
        if not is_so_everywhere(unseen is None):
            kind_of_error = ConnectionError if unseen is None else OSError
            why = f"({_in_short(unseen)})" if unseen else "by another process"
            raise kind_of_error(
                f"Checkpoint {step} in {self._folders.folder} cannot be read {why}. "
                "Nothing was changed. Try again; if it stays so, move that folder "
                "elsewhere, and the one before it will be used."
            ) from unseen
        views = everyones(np.bool_(damage))
        if views.any():
            if not views[0]:  # whole to the process that looks at every file
                raise OSError(
                    f"Checkpoint {step} in {self._folders.folder} is whole to process "
                    f"0, and not to process {int(views.argmax())}. Is that folder "
                    "shared and mounted on all hosts? Nothing was changed."
                )
            return damage or "as the first process sees it"
        wanted = here | {
            name: _leaves.as_there(here[name], seal["kinds"].get(name, ""), kept)
            for name, kept in padded.items()
        }
        kinds = jax.tree.map(_leaves.kind, wanted)
        if differing := _leaves.differences(seal["kinds"], kinds):
            raise ValueError(
                f"The checkpoint of step {step} in {self._folders.folder} holds "
                f"another model: they differ in {differing}. Have the data or the code "
                "changed? Choose another --workdir."
            )
        templates = jax.tree.map(_leaves.written, wanted)
        files = self._files.read(folder / "state", templates)
        leaves = jax.tree.map(_leaves.read, files, wanted)
        prints = jax.device_get(fingerprints(leaves))
        for name, leaf in leaves.items():
            there = seal["prints"][name], kinds[name]
            if (int(prints[name]), _leaves.kind(leaf)) != there:
                return f"the bits of {name} are not those that were saved"
        for name, kept in padded.items():
            leaves[name] = _leaves.padded(name, leaves[name], here[name], kept)
        return leaves, seal["meta"]

    def _refuse_read_only(self, method: str) -> None:
        if self._read_only:
            raise ValueError(
                f"`{method}` needs `read_only=False`, but {self._folders.folder} was "
                "opened to be read only."
            )

    @contextlib.contextmanager
    def _cleared_on_failure(self, step: int, size: int) -> Iterator[None]:
        """Removes what was written of a checkpoint of so many bytes, and says why."""
        try:
            with quiet():
                yield
        except Exception as error:  # whatever a full disk makes Orbax raise
            if is_first():
                self._folders.discard(step)
            if isinstance(error, FloatingPointError):
                raise
            last = max(self.steps(), default="none")
            free = shutil.disk_usage(self._folders.folder).free
            full = "No space left" in str(error)  # Orbax's has no errno
            reason = self._folders.why_full() if full else _in_short(error)
            raise SaveError(
                f"Checkpoint {step} could not be written to {self._folders.folder} "
                f"({reason}). It needs about {size / 1e6:.1f} MB, and "
                f"{free / 1e6:.1f} MB are free. The last good checkpoint: {last}."
            ) from error


def _in_short(error: Exception) -> str:
    return str(error).splitlines()[0][:120] if str(error) else repr(error)
