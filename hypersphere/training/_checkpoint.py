"""Checkpoints: written atomically by Orbax, verified when they are read."""

import shutil
import zlib
from pathlib import Path
from typing import Any

import jax
import numpy as np
import orbax.checkpoint as ocp

FOLDER = "checkpoints"


class Checkpoints:
    """The checkpoints of one run.

    Args:
        workdir: The run's folder.
        keep: How many are kept, the newest ones.
        read_only: Whether to leave unfinished files of a killed run alone.
    """

    def __init__(self, workdir: Path, *, keep: int = 2, read_only: bool = False):
        self._folder = (workdir / FOLDER).absolute()
        self._read_only = read_only
        options = ocp.CheckpointManagerOptions(
            max_to_keep=keep,
            create=not read_only,
            read_only=read_only,
            cleanup_tmp_directories=not read_only,
        )
        self._manager = ocp.CheckpointManager(self._folder, options=options)

    def steps(self) -> list[int]:
        """The steps there are checkpoints of, in rising order."""
        return sorted(self._manager.all_steps())

    def save(self, step: int, state: Any, meta: dict[str, Any]) -> None:
        """Writes the state and some JSON, and returns while files are being written."""
        if step in self.steps():
            return
        leaves = {name: np.asarray(leaf) for name, leaf in _flat(state).items()}
        bad = [n for n, leaf in leaves.items() if not np.isfinite(leaf).all()]
        if bad:
            raise FloatingPointError(
                f"The state after step {step} is not finite, in {', '.join(bad[:5])}. "
                "It was not saved; the checkpoint before it is kept."
            )
        meta = meta | {
            "checksums": {name: _checksum(leaf) for name, leaf in leaves.items()},
            "kinds": {name: _kind(leaf) for name, leaf in leaves.items()},
        }
        saved = self._manager.save(
            step,
            args=ocp.args.Composite(
                state=ocp.args.StandardSave(leaves), meta=ocp.args.JsonSave(meta)
            ),
        )
        if not saved:
            raise RuntimeError(f"Orbax did not save step {step} in {self._folder}.")

    def restore(self, template: Any) -> tuple[Any, dict[str, Any], list[str]] | None:
        """The newest checkpoint that is whole, or None if there is none.

        Args:
            template: The state's tree, of arrays or `jax.ShapeDtypeStruct`.

        Returns:
            The state, the JSON saved with it, and a line for each damaged checkpoint,
            which is set aside under another name unless this was opened read-only.

        Raises:
            ValueError: If a checkpoint is of another model than the template.
            OSError: If there are checkpoints and all are damaged.
        """
        complaints: list[str] = []
        for step in reversed(self.steps()):
            try:
                state, meta = self._read(step, template)
            except _OtherModelError:
                raise
            except Exception as error:  # whatever a damaged file makes Orbax raise
                reason = str(error).splitlines()[0][:120] if str(error) else repr(error)
                complaints.append(f"checkpoint {step} is damaged ({reason})")
                continue
            self._set_aside([s for s in self.steps() if s > step])
            return state, meta, complaints
        if complaints:
            raise OSError(
                f"No checkpoint in {self._folder} can be read: "
                f"{'; '.join(complaints)}. Restore them from a copy, or delete the "
                "folder to start anew."
            )
        return None

    def meta(self) -> dict[str, Any]:
        """The JSON of the newest checkpoint that can be read.

        Raises:
            FileNotFoundError: If there is none.
        """
        for step in reversed(self.steps()):
            try:
                return self._read_meta(step)
            except Exception:
                continue
        raise FileNotFoundError(
            f"There is no checkpoint in {self._folder}. Train first, or name the "
            "folder that a run was given as --workdir."
        )

    def wait(self) -> None:
        """Returns when everything is on disk."""
        self._manager.wait_until_finished()

    def close(self) -> None:
        """Waits, and frees threads."""
        self._manager.close()

    def _read(self, step: int, template: Any) -> tuple[Any, dict[str, Any]]:
        meta = self._read_meta(step)
        wanted = {name: _shape(leaf) for name, leaf in _flat(template).items()}
        kinds = {(name, _kind(leaf)) for name, leaf in wanted.items()}
        differing = sorted({name for name, _ in kinds ^ set(meta["kinds"].items())})
        if differing:
            raise _OtherModelError(
                f"The checkpoint of step {step} in {self._folder} holds another model: "
                f"they differ in {', '.join(differing[:3])}. Have the data or the code "
                "changed? Choose another --workdir."
            )
        args = ocp.args.Composite(state=ocp.args.StandardRestore(wanted))
        leaves = self._manager.restore(step, args=args)["state"]
        for name, leaf in leaves.items():
            if _checksum(np.asarray(leaf)) != meta["checksums"][name]:
                raise OSError(f"the bytes of {name} have changed since they were saved")
        paths, tree = jax.tree_util.tree_flatten_with_path(template)
        ordered = [leaves[jax.tree_util.keystr(path)] for path, _ in paths]
        return jax.tree.unflatten(tree, ordered), meta

    def _read_meta(self, step: int) -> dict[str, Any]:
        args = ocp.args.Composite(meta=ocp.args.JsonRestore())
        return self._manager.restore(step, args=args)["meta"]

    def _set_aside(self, steps: list[int]) -> None:
        if self._read_only or not steps:
            return
        for step in steps:
            shutil.move(self._folder / str(step), self._folder / f"{step}.damaged")
        self._manager.reload()


class _OtherModelError(ValueError):
    """A whole checkpoint, but of a model with other parameters."""


def _flat(tree: Any) -> dict[str, Any]:
    leaves, _ = jax.tree_util.tree_flatten_with_path(tree)
    return {jax.tree_util.keystr(path): leaf for path, leaf in leaves}


def _kind(leaf: Any) -> str:
    return f"{leaf.dtype}{list(leaf.shape)}"


def _shape(leaf: Any) -> jax.ShapeDtypeStruct:
    device = jax.sharding.SingleDeviceSharding(jax.devices()[0])
    return jax.ShapeDtypeStruct(leaf.shape, leaf.dtype, sharding=device)


def _checksum(leaf: np.ndarray) -> int:
    return zlib.crc32(leaf.tobytes(), zlib.crc32(_kind(leaf).encode()))
