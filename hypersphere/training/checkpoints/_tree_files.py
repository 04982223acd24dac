"""Named arrays in files, as Orbax writes them."""

import contextlib
import logging
import os
import re
import shutil
import tempfile
from collections.abc import Iterator, Mapping
from pathlib import Path
from typing import Any

import numpy as np
import orbax.checkpoint as ocp
from etils import epath

# What a library takes for a pattern, or for the address of another kind of storage.
_MISREAD = re.compile(r"[\[\]*?\\]|:/")


class TreeFiles:
    """Writes and reads the arrays of folders below one, whatever that is called.

    Args:
        folder: The folder, absolute. It need not be there yet.
    """

    def __init__(self, folder: Path):
        self._folder = folder
        self._checkpointer = ocp.StandardCheckpointer()
        self._link = ""

    def write(self, path: Path, arrays: Mapping[str, Any]) -> None:
        """Begins to write arrays; `wait` returns when they are in their folder."""
        self._checkpointer.save(self._plain(path), dict(arrays))

    def wait(self) -> None:
        """Waits for what was begun; raises what has gone wrong with it."""
        self._checkpointer.wait_until_finished()

    def read(self, path: Path, templates: Mapping[str, Any]) -> dict[str, Any]:
        """The arrays in a folder, placed as their templates say."""
        # The handler itself: a checkpointer would wait for processes that have failed.
        return ocp.StandardCheckpointHandler().restore(
            epath.Path(self._plain(path)),
            args=ocp.args.StandardRestore(dict(templates)),
        )

    def check(self, path: Path, name: str, template: Any) -> None:
        """Reads one of the arrays in a folder.

        Args:
            path: The folder.
            name: Of the array.
            template: Its shape and dtype.

        Raises:
            OSError: If a reader does not find it there.
        """
        try:
            with quiet():
                ocp.PyTreeCheckpointHandler().restore(
                    epath.Path(self._plain(path)),
                    args=ocp.args.PyTreeRestore(
                        item={name: template},
                        transforms={},
                        restore_args={name: ocp.RestoreArgs(restore_type=np.ndarray)},
                    ),
                )
        except Exception as error:  # Orbax and TensorStore raise many
            raise OSError(
                f"what was written cannot be read back: {str(error).splitlines()[0]}"
            ) from error

    def close(self) -> None:
        """Frees threads."""
        self._checkpointer.close()
        if self._link:
            shutil.rmtree(self._link, ignore_errors=True)

    def _plain(self, path: Path) -> Path:
        """The same folder by a path that nothing takes for a pattern."""
        if not _MISREAD.search(str(self._folder)):
            return path
        if not self._link:
            self._link = tempfile.mkdtemp(prefix="hypersphere-")
            os.symlink(self._folder, Path(self._link, "folder"))
        return Path(self._link, "folder", path.relative_to(self._folder))


@contextlib.contextmanager
def quiet() -> Iterator[None]:
    """Keeps pages about an error off the console; it is reported in one line."""
    loggers = [logging.getLogger(name) for name in ("absl", "asyncio")]

    def is_other(record: logging.LogRecord) -> bool:
        return record.name == "absl" and "orbax" not in record.pathname

    for logger in loggers:
        logger.addFilter(is_other)
    try:
        yield
    finally:
        for logger in loggers:
            logger.removeFilter(is_other)
