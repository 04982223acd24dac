"""What a run tells: a file for programs, TensorBoard, and a person at a terminal."""

import contextlib
import json
import math
import sys
import time
import uuid
from collections.abc import Mapping
from pathlib import Path
from typing import Any

from rich.console import Console
from rich.progress import (
    BarColumn,
    MofNCompleteColumn,
    Progress,
    TextColumn,
    TimeRemainingColumn,
)
from rich.table import Table
from rich.text import Text
from tensorboardX.event_file_writer import EventsWriter
from tensorboardX.proto.event_pb2 import (
    Event,  # pyrefly: ignore[missing-module-attribute]
    SessionLog,  # pyrefly: ignore[missing-module-attribute]
)
from tensorboardX.summary import scalar

from hypersphere._files import flush, write_atomically
from hypersphere.training.machine._distributed import is_first

_FLUSH_AFTER = 30.0  # seconds that TensorBoard's events may wait in memory


class Reporter:
    """Writes metrics to files and shows them, with a bar where there is a terminal.

    Of several processes only the first one writes and speaks.

    Args:
        workdir: The run's folder, which gets `metrics.jsonl` and TensorBoard's events.
        name: What the run is called.
        start: The step it starts at; what was logged after it is forgotten.
        logged: The last step until there that the log has to tell of.
        steps: The step it ends at.
        project: Project of Weights & Biases to log to as well; empty for none.
        must_write: Whether a full disk ends the run, or only the writing.
    """

    def __init__(
        self,
        workdir: Path,
        *,
        name: str,
        start: int,
        logged: int = 0,
        steps: int,
        project: str = "",
        must_write: bool = True,
    ):
        self.console = make_console()
        self.logged = logged
        self._steps, self._must_write = steps, must_write
        self._sinks: list[Any] = []
        if is_first():
            wandb = _import_wandb() if project else None  # before a file is opened
            lines = _JsonLines(workdir, start)
            self._tell_of_holes(lines, logged)
            self._sinks = [lines, _Events(workdir, start)]
            if wandb:
                self._sinks.append(_WeightsAndBiases(wandb, project, workdir, name))
        self._bar = Progress(
            TextColumn("{task.description}", style="bold", markup=False),
            BarColumn(),
            MofNCompleteColumn(),
            TextColumn("{task.fields[numbers]}", markup=False),
            TimeRemainingColumn(),
            console=self.console,
            disable=not self.console.is_terminal,
        )
        self._task = self._bar.add_task(
            name, total=steps, completed=start, numbers="compiling"
        )

    def __enter__(self) -> "Reporter":
        self._bar.start()
        return self

    def __exit__(self, kind: type[BaseException] | None, *_: object) -> None:
        self._bar.stop()
        for sink in self._sinks:
            try:
                sink.close()
            except OSError as error:
                if kind is None and self._must_write:
                    raise OSError(
                        f"The log could not be written to its end ({error}). Make room "
                        "and start it again."
                    ) from error
                self.say(f"The log could not be written to its end ({error}).")

    def say(self, line: str) -> None:
        """Shows one line."""
        self.console.print(line, highlight=False, markup=False)

    def sync(self) -> None:
        """Returns when what was recorded would survive a power cut."""
        try:
            for sink in self._sinks:
                sink.sync()
        except OSError as error:
            self._complain(f"The log could not be written ({error}).", error)

    def _tell_of_holes(self, lines: "_JsonLines", logged: int) -> None:
        if lines.unreadable:
            self.say(
                f"{lines.path}: {lines.unreadable} lines cannot be read; left out."
            )
        if lines.newest < logged:
            self.say(
                f"{lines.path} has a hole: nothing of training from step "
                f"{lines.newest + 1:,} to {logged:,} is there any more."
            )

    def trained(self, step: int, seconds: float, values: Mapping[str, float]) -> None:
        """Records the training metrics of the steps since the last call."""
        self.logged = step
        self._record(step, seconds, "train", values)
        numbers = "  ".join(
            f"{name} {values[name]:.4f}"
            for name in ("loss", "accuracy")
            if name in values
        )
        if "examples_per_second" in values:
            numbers += f"  {values['examples_per_second']:,.0f} examples/s"
        if self.console.is_terminal:
            self._bar.update(self._task, completed=step, numbers=numbers)
        else:
            self.say(f"step {step:,} of {self._steps:,}  {numbers}  {seconds:.0f} s")

    def evaluated(
        self, step: int, seconds: float, split: str, values: Mapping[str, float]
    ) -> None:
        """Records an evaluation; one on training images as `train_eval`."""
        split = "train_eval" if split == "train" else split  # `train` is the steps' own
        self._record(step, seconds, split, values)
        numbers = (f"{split} {name} {value:.4f}" for name, value in values.items())
        self.say(f"step {step:,}: {', '.join(numbers)}")

    def _record(
        self, step: int, seconds: float, split: str, values: Mapping[str, float]
    ) -> None:
        try:
            for sink in self._sinks:
                sink.write(step, seconds, split, values)
        except OSError as error:
            self._complain(
                f"The log of step {step:,} could not be written ({error}).", error
            )

    def _complain(self, line: str, error: OSError) -> None:
        if self._must_write:
            raise OSError(
                f"{line} Make room and start it again: it resumes at its newest "
                "checkpoint."
            ) from error
        self.say(f"{line} Training goes on.")


class _JsonLines:
    """One JSON object a line; a line that a full disk cuts short is overwritten.

    Attributes:
        path: The file.
        newest: The last step of training that it tells of.
        unreadable: How many lines of it were none, but for one cut short at its end.
    """

    def __init__(self, workdir: Path, start: int):
        self.path = workdir / "metrics.jsonl"
        self.newest, self.unreadable = _forget_after(self.path, start)
        self.path.touch()
        self._end = self.path.stat().st_size

    def write(
        self, step: int, seconds: float, split: str, values: Mapping[str, float]
    ) -> None:
        numbers = {key: finite(value) for key, value in values.items()}
        line = {"step": step, "time": round(seconds, 3), "split": split, **numbers}
        content = (json.dumps(line) + "\n").encode()
        with open(self.path, "r+b") as file:
            file.truncate(self._end)
            file.seek(self._end)
            file.write(content)
        self._end += len(content)

    def sync(self) -> None:
        flush(self.path)

    def close(self) -> None:
        """Every line is written already."""


class _Events:
    """TensorBoard's files.

    Not by `SummaryWriter`: a full disk ends its thread, and then the run waits for
    ever. Here it raises an error, after which the next events get another file.
    """

    def __init__(self, workdir: Path, start: int):
        self._prefix, self._start = str(workdir / "events"), start
        self._writer: EventsWriter | None = None

    def write(
        self, step: int, seconds: float, split: str, values: Mapping[str, float]
    ) -> None:
        del seconds
        writer, self._writer = self._writer or self._opened(), None
        for name, value in values.items():
            summary = scalar(f"{split}/{name}", value)
            event = Event(wall_time=time.time(), step=step, summary=summary)
            writer.write_event(event)
        if time.monotonic() > self._flush_at:
            writer.flush()
            self._flush_at = time.monotonic() + _FLUSH_AFTER
        self._writer = writer

    def sync(self) -> None:
        """They may be lost: all of them are in the other file as well."""

    def close(self) -> None:
        if self._writer is not None:
            with contextlib.suppress(OSError):  # it has been told, or will be
                self._writer.close()

    def _opened(self) -> EventsWriter:
        writer = EventsWriter(self._prefix, f".{self._start}")
        self._flush_at = time.monotonic() + _FLUSH_AFTER
        if self._start:  # what an earlier process has told of later steps is void
            session = SessionLog(status=SessionLog.START)
            again = Event(
                wall_time=time.time(), step=self._start + 1, session_log=session
            )
            writer.write_event(again)
        return writer


class _WeightsAndBiases:
    """A run on wandb.ai, found again by a file in the folder."""

    def __init__(self, wandb: Any, project: str, workdir: Path, name: str):
        config = json.loads((workdir / "config.json").read_text(encoding="utf-8"))
        file = workdir / "wandb_id.txt"
        if not file.is_file():
            write_atomically(file, uuid.uuid4().hex.encode())
        self._run = wandb.init(
            project=project,
            name=name,
            id=file.read_text(encoding="utf-8"),
            resume="allow",
            config=config,
        )

    def write(
        self, step: int, seconds: float, split: str, values: Mapping[str, float]
    ) -> None:
        del seconds
        self._run.log({f"{split}/{key}": x for key, x in values.items()}, step=step)

    def sync(self) -> None:
        """They are not on this machine."""

    def close(self) -> None:
        self._run.finish()


def _import_wandb() -> Any:
    try:
        import wandb  # pyrefly: ignore[missing-import]
    except ModuleNotFoundError as error:
        raise ModuleNotFoundError(
            "`config.wandb` needs the package `wandb`, which is not installed. "
            "`pip install wandb` brings it.",
            name="wandb",
        ) from error
    return wandb


def finite(value: float) -> float | None:
    """The number, or None if it is not finite, for which JSON has no word."""
    return value if math.isfinite(value) else None


def _forget_after(metrics: Path, step: int) -> tuple[int, int]:
    """Drops the lines that a resumed run will write again, and those that are none.

    Returns:
        The last step of training that is left, and how many were none, but for one
        that was cut short at the end.
    """
    if not metrics.is_file():
        return 0, 0
    kept, newest, unreadable = [], 0, 0
    lines = metrics.read_bytes().splitlines(keepends=True)
    for line in lines:
        try:
            found = json.loads(line)
            if found["step"] > step:
                continue
            if found.get("split") == "train":
                newest = max(newest, found["step"])
            kept.append(line.rstrip(b"\n") + b"\n")
        except (ValueError, TypeError, KeyError):
            unreadable += line is not lines[-1] or line.endswith(b"\n")
    write_atomically(metrics, b"".join(kept))
    return newest, unreadable


def make_console() -> Console:
    """A console on standard output; wide in a file, so that lines stay whole."""
    return Console(
        width=None if sys.stdout.isatty() else 200,
        quiet=not is_first(),
        markup=False,  # which a path may look like
        emoji=False,
    )


def show_summary(
    console: Console, result: dict[str, Any], workdir: Path, pictures: list[Path]
) -> None:
    """The closing table: what was reached, and where it is."""
    title = Text(f"Finished: {workdir}", style="italic")
    table = Table(show_header=False, title=title, title_justify="left")
    if "test_accuracy" in result:
        accuracy = f"{result['test_accuracy']:.4f}"
        table.add_row("test accuracy", Text(accuracy, style="bold"))
    for name, value in result.items():
        if name.startswith(("test_", "validation_")) and name != "test_accuracy":
            text = "not finite" if value is None else f"{value:.4f}"
            table.add_row(name.replace("_", " "), text)
    table.add_row("steps", f"{result['steps']:,}")
    table.add_row("time", f"{result['seconds']:.1f} s")
    table.add_row("speed", f"{result['examples_per_second']:,.0f} examples/s")
    if "goodput" in result:
        table.add_row("goodput", f"{result['goodput']:.1%} of the time in steps")
    table.add_row("parameters", f"{result['parameters']:,}")
    table.add_row("pictures", "\n".join(str(path) for path in pictures))
    console.print(table)
