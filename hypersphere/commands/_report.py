"""What a command says, and writes."""

import contextlib
import json
import math
import os
import sys
from collections.abc import Iterable, Iterator, Mapping, Sequence
from pathlib import Path
from typing import Any, TypeVar

import numpy as np
from rich.console import Console
from rich.progress import (
    BarColumn,
    MofNCompleteColumn,
    Progress,
    TextColumn,
    TimeRemainingColumn,
)
from rich.table import Table

from hypersphere._files import write_atomically

T = TypeVar("T")


def say(line: str) -> None:
    """A line on what was skipped, renamed or assumed, beside the results."""
    sys.stderr.write(f"{line}\n")


def show(title: str, rows: Mapping[str, Any]) -> None:
    """Names and their values, one or several, below a title."""
    table = Table(show_header=False)
    for name, value in rows.items():
        values = value if isinstance(value, tuple) else (value,)
        table.add_row(name, *map(shown, values))
    for column in table.columns[1:]:
        column.justify = "right"
    console = Console(width=None if sys.stdout.isatty() else 120)
    console.print(title, highlight=False)
    console.print(table)


def shown(value: Any) -> str:
    """A number as people read it."""
    if isinstance(value, float):
        return "unknown" if math.isnan(value) else f"{value:.4f}"
    return f"{value:,}" if isinstance(value, int) else str(value)


def told_broken(lines: Sequence[str]) -> None:
    """Says which files could not be read."""
    for line in lines:
        say(f"Left out: {line}")


def progress(batches: Iterable[T], total: int, what: str) -> Iterator[T]:
    """Batches, with a bar on a terminal; each has a first item that has names."""
    bar = Progress(
        TextColumn("{task.description}"),
        BarColumn(),
        MofNCompleteColumn(),
        TimeRemainingColumn(),
        console=Console(stderr=True),
        disable=not sys.stderr.isatty(),
        transient=True,
    )
    with bar:
        task = bar.add_task(what, total=total)
        for batch in batches:
            yield batch
            bar.update(task, advance=len(batch[0].names))  # pyrefly: ignore


def plain(value: Any) -> Any:
    """What JSON has: lists, and null for what is not finite."""
    if isinstance(value, Mapping):
        return {str(key): plain(each) for key, each in value.items()}
    if isinstance(value, np.ndarray):
        return plain(value.tolist())
    if isinstance(value, list | tuple):
        return [plain(each) for each in value]
    if isinstance(value, np.generic):
        return plain(value.item())
    if isinstance(value, float) and not math.isfinite(value):
        return None
    return value


def write_json(file: str | os.PathLike[str], found: Mapping[str, Any]) -> Path:
    """Writes a result, whole or not at all."""
    path = Path(file).expanduser()
    text = json.dumps(plain(found), indent=2) + "\n"
    with naming(path):
        write_atomically(path, text.encode())
    return path


@contextlib.contextmanager
def naming(path: Path) -> Iterator[None]:
    """Says which file could not be written."""
    try:
        yield
    except OSError as error:
        raise OSError(
            error.errno, f"{error.strerror}: nothing is in", str(path)
        ) from error
