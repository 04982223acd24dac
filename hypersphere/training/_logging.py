"""What a run tells: a file for programs, TensorBoard, and a person at a terminal."""

import json
import os
import sys
from pathlib import Path
from types import TracebackType
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
from tensorboardX import SummaryWriter


class Reporter:
    """Writes metrics to files and shows them, with a bar where there is a terminal.

    Args:
        workdir: The run's folder, which gets `metrics.jsonl` and TensorBoard's events.
        name: What the run is called.
        start: The step it starts at.
        steps: The step it ends at.
    """

    def __init__(self, workdir: Path, *, name: str, start: int, steps: int):
        self.console = make_console()
        metrics = workdir / "metrics.jsonl"
        _forget_after(metrics, start)
        self._file = open(metrics, "a", encoding="utf-8")
        self._events = SummaryWriter(
            str(workdir), purge_step=start + 1 if start else None
        )
        self._steps = steps
        self._bar = Progress(
            TextColumn("[bold]{task.description}"),
            BarColumn(),
            MofNCompleteColumn(),
            TextColumn("{task.fields[numbers]}"),
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

    def __exit__(
        self,
        kind: type[BaseException] | None,
        error: BaseException | None,
        trace: TracebackType | None,
    ) -> None:
        self._bar.stop()
        self._events.close()
        self._file.close()

    def say(self, line: str) -> None:
        """Shows one line."""
        self.console.print(line, highlight=False)

    def trained(self, step: int, seconds: float, values: dict[str, float]) -> None:
        """Records the training metrics of the steps since the last call."""
        self._record(step, seconds, "train", values)
        rate = values["examples_per_second"]
        numbers = (
            f"loss {values['loss']:.4f}  accuracy {values['accuracy']:.4f}  "
            f"{rate:,.0f} examples/s"
        )
        if self.console.is_terminal:
            self._bar.update(self._task, completed=step, numbers=numbers)
        else:
            self.say(f"step {step:,} of {self._steps:,}  {numbers}  {seconds:.0f} s")

    def evaluated(self, step: int, seconds: float, values: dict[str, float]) -> None:
        """Records an evaluation on the test images."""
        self._record(step, seconds, "test", values)
        self.say(
            f"step {step:,}: test loss {values['loss']:.4f}, "
            f"test accuracy {values['accuracy']:.4f}"
        )

    def _record(
        self, step: int, seconds: float, split: str, values: dict[str, float]
    ) -> None:
        line = {"step": step, "time": round(seconds, 3), "split": split} | values
        self._file.write(json.dumps(line) + "\n")
        self._file.flush()
        for name, value in values.items():
            self._events.add_scalar(f"{split}/{name}", value, step)


def _forget_after(metrics: Path, step: int) -> None:
    """Drops the lines that a resumed run will write again, and a half-written one."""
    if not metrics.is_file():
        return
    kept = []
    for line in metrics.read_text(encoding="utf-8").splitlines():
        try:
            if json.loads(line)["step"] <= step:
                kept.append(line + "\n")
        except ValueError:
            continue
    write_atomically(metrics, "".join(kept).encode())


def write_atomically(path: Path, content: bytes) -> None:
    """Writes a file so that a reader sees the old one or the new one, whole."""
    path.parent.mkdir(parents=True, exist_ok=True)
    partial = path.with_name(path.name + ".part")
    partial.write_bytes(content)
    os.replace(partial, path)


def make_console() -> Console:
    """A console on standard output; wide in a file, so that lines stay whole."""
    return Console(width=None if sys.stdout.isatty() else 200)


def show_summary(
    console: Console, result: dict[str, Any], workdir: Path, pictures: list[Path]
) -> None:
    """The closing table: what was reached, and where it is."""
    table = Table(show_header=False, title=f"Finished: {workdir}", title_justify="left")
    table.add_row("test accuracy", f"[bold]{result['test_accuracy']:.4f}")
    table.add_row("test loss", f"{result['test_loss']:.4f}")
    table.add_row("steps", f"{result['steps']:,}")
    table.add_row("time", f"{result['seconds']:.1f} s")
    table.add_row("speed", f"{result['examples_per_second']:,.0f} examples/s")
    table.add_row("parameters", f"{result['parameters']:,}")
    table.add_row("pictures", "\n".join(str(path) for path in pictures))
    console.print(table)
