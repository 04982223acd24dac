"""The folders of checkpoints: which are whole, and which may go."""

import contextlib
import itertools
import math
import os
import re
import shutil
from pathlib import Path
from typing import Any

from hypersphere._files import flush
from hypersphere.training.checkpoints._seal import (
    SEAL,
    read_seal,
    replace_seal,
    write_seal,
)


class StepFolders:
    """Folders named after steps, which get that name when all in them is on disk.

    Until then a folder is `STEP.part`; so is one that is being deleted. What is found
    under that name is worth nothing.

    Args:
        folder: Where they are. It need not be there yet.

    Example:
        >>> import tempfile
        >>> from hypersphere.training.checkpoints._step_folders import StepFolders
        >>> with tempfile.TemporaryDirectory() as name:
        ...     folders = StepFolders(Path(name))
        ...     for step, score in [(1, 0.7), (2, 0.5), (3, 0.6)]:
        ...         _ = (folders.begin(step) / "data").write_bytes(b"1234")
        ...         folders.finish(step, {"score": score})
        ...     folders.delete_old(keep=1, keep_best=1)
        ...     print(folders.whole(), folders.best())
        [1, 3] [1, 3]
    """

    def __init__(self, folder: Path):
        self.folder = folder

    def path(self, step: int) -> Path:
        """Where the checkpoint of a step is, or would be."""
        return self.folder / str(step)

    def part(self, step: int) -> Path:
        """Where it is as long as it is not whole."""
        return self.folder / f"{step}.part"

    def numbered(self) -> list[int]:
        """The steps that have a folder, in rising order."""
        if not self.folder.is_dir():
            return []
        names = [path.name for path in self.folder.iterdir() if path.is_dir()]
        return sorted(int(n) for n in names if re.fullmatch("0|[1-9][0-9]*", n))

    def whole(self) -> list[int]:
        """The steps whose folder has a seal, in rising order."""
        return [s for s in self.numbered() if (self.path(s) / SEAL).is_file()]

    def best(self) -> list[int]:
        """The steps with a score, the best first, and of equals the newest."""
        scores: dict[int, float] = {}
        for step in self.whole():
            with contextlib.suppress(OSError, ValueError):
                score = read_seal(self.path(step)).get("score")
                if score is not None and not math.isnan(score):
                    scores[step] = score
        return sorted(scores, key=lambda step: (scores[step], step), reverse=True)

    def clear(self) -> None:
        """Makes the folder, and deletes what a killed run has left in it."""
        self.folder.mkdir(parents=True, exist_ok=True)
        for pattern in ("*.part", "*.orbax-checkpoint-tmp*"):
            for path in self.folder.glob(pattern):
                shutil.rmtree(path, ignore_errors=True)

    def begin(self, step: int) -> Path:
        """An empty folder for the files of a step."""
        if self.path(step).exists():
            self.set_aside(step, "damaged")
        self.discard(step)
        self.part(step).mkdir()
        return self.part(step)

    def finish(self, step: int, content: dict[str, Any]) -> None:
        """Seals what was written since `begin`. A kill leaves all of it or nothing."""
        write_seal(self.part(step), content)
        self.part(step).rename(self.path(step))
        flush(self.folder)

    def amend(self, step: int, content: dict[str, Any]) -> None:
        """Replaces some of what the seal of a whole checkpoint says, or nothing."""
        replace_seal(self.path(step), read_seal(self.path(step)) | content)

    def damaged(self) -> list[str]:
        """The names of what was set aside."""
        return sorted(path.name for path in self.folder.glob("*.damaged*"))

    def why_full(self) -> str:
        """Of what a full disk has no more."""
        files = os.statvfs(self.folder)
        if files.f_files and not files.f_favail:
            return "the disk has no room for more files: it is out of inodes"
        return "the disk is full"

    def discard(self, step: int) -> None:
        """Deletes what was written since `begin`."""
        shutil.rmtree(self.part(step), ignore_errors=True)

    def delete_old(self, *, keep: int, keep_best: int) -> None:
        """Deletes all whole ones but the newest and those with the highest scores."""
        steps = self.whole()
        for step in {*steps} - {*steps[-keep:], *self.best()[:keep_best]}:
            # Renamed first: a folder with some files gone must not be called whole.
            self.discard(step)
            self.path(step).rename(self.part(step))
            self.discard(step)

    def set_aside(self, step: int, word: str) -> None:
        """Renames a folder to `STEP.word`, or `STEP.word.2` where that is taken."""
        aside = self.folder / f"{step}.{word}"
        for number in itertools.count(2):
            if not aside.exists():
                break
            aside = self.folder / f"{step}.{word}.{number}"
        self.path(step).rename(aside)
