"""`python -m hypersphere.data` prepares image sets for training, and checks them."""

import argparse
import contextlib
import sys
import time
from collections.abc import Iterator, Sequence
from typing import TYPE_CHECKING, NoReturn

from hypersphere.data._memory import MAX_PIXELS

if TYPE_CHECKING:
    from rich.console import Console

    from hypersphere.data._prepare import Prepared, Progress

_PREPARE = """\
Writes an image classification set as array_record files, which training can read at
random and stream: `tfds:NAME`, with the folder OUT as `data.data_dir`.

sources:
  cifar:PATH   the binary versions of CIFAR-10 or CIFAR-100, unpacked or .tar.gz
  idx:PATH     MNIST-format files, plain or gzipped
  folder:PATH  PATH/train/CLASS/* and PATH/test/CLASS/*, or PATH/CLASS/*
  tar:PATH     train.tar and val.tar of CLASS/NAME.jpg, or train/CLASS.tar and
               val/CLASS.tar, or ImageNet's two archives as published

Started again after an interruption, the same command goes on where it was.

example:
  python -m hypersphere.data prepare tar:~/imagenet --out=~/sets --name=imagenet256 \\
      --max_side=256
"""


def main(arguments: Sequence[str] | None = None) -> None:
    """Runs the command; a user's mistake ends in one line."""
    parser = _parser()
    chosen = parser.parse_args(arguments)
    command = f"{parser.prog} {chosen.command}"
    try:
        chosen.run(chosen)
    except KeyboardInterrupt:
        raise SystemExit(f"{command}: stopped; the same command goes on.") from None
    except ModuleNotFoundError as error:
        raise SystemExit(
            f"{command}: the package `{error.name}` is not installed; "
            "`pip install 'hypersphere-jax[train]'` brings it."
        ) from error
    except (ValueError, OSError) as error:
        raise SystemExit(f"{command}: {error}") from error


class _Parser(argparse.ArgumentParser):
    """Says what is wrong in one line."""

    def error(self, message: str) -> NoReturn:
        self.exit(2, f"{self.prog}: {message}; --help explains.\n")


def _parser() -> argparse.ArgumentParser:
    parser = _Parser(prog="python -m hypersphere.data", description=__doc__)
    commands = parser.add_subparsers(
        dest="command", required=True, metavar="prepare|check"
    )
    prepare = commands.add_parser(
        "prepare",
        help="write a set as array_record files, for streaming",
        description=_PREPARE,
        formatter_class=argparse.RawDescriptionHelpFormatter,
    )
    prepare.set_defaults(run=_prepare)
    _add_options(prepare)
    check = commands.add_parser(
        "check",
        help="compare a prepared set with its checksums",
        description="Compare every file of a prepared set with its checksum.",
    )
    check.set_defaults(run=_check)
    check.add_argument("folder", metavar="DATA_DIR/NAME", help="the set's folder")
    return parser


def _add_options(parser: argparse.ArgumentParser) -> None:
    add = parser.add_argument
    add("source", metavar="SOURCE", help="where the images are; see above")
    add("--out", required=True, help="folder of prepared sets, the `data.data_dir`")
    add("--name", required=True, help="what to call the set, as in `tfds:NAME`")
    add(
        "--max_side",
        type=int,
        default=0,
        metavar="PIXELS",
        help="make images smaller whose shorter side is longer; 0 (default) never",
    )
    add(
        "--quality",
        type=int,
        default=90,
        help="JPEG quality of images made smaller, 1 to 100 (default %(default)s)",
    )
    add(
        "--shards",
        type=int,
        default=0,
        metavar="N",
        help="files of the training part (default one per 10,000 images)",
    )
    add(
        "--test_fraction",
        type=float,
        default=0.2,
        metavar="SHARE",
        help="test part of a folder that has none (default %(default)s of each class)",
    )
    add("--seed", type=int, default=0, help="of that draw and of the images' order")
    add(
        "--max_bad",
        type=float,
        default=0.01,
        metavar="SHARE",
        help="share of images that may be unreadable (default %(default)s); looked at "
        "with --max_side only",
    )
    add(
        "--max_pixels",
        type=int,
        default=MAX_PIXELS,
        metavar="N",
        help="a larger image counts as unreadable (default %(default)s)",
    )
    add(
        "--no_orient",
        action="store_true",
        help="do not turn images made smaller the way that their EXIF data tell",
    )
    add("--threads", type=int, default=0, metavar="N", help="default one per core")


def _prepare(chosen: argparse.Namespace) -> None:
    from rich.console import Console

    from hypersphere.data._encode import Options
    from hypersphere.data._prepare import prepare

    options = Options(
        max_side=chosen.max_side,
        quality=chosen.quality,
        shards=chosen.shards,
        test_fraction=chosen.test_fraction,
        seed=chosen.seed,
        orient=not chosen.no_orient,
        max_pixels=chosen.max_pixels,
    )
    # Wide in a file, so that lines stay whole.
    console = Console(width=None if sys.stdout.isatty() else 1000)
    started = time.monotonic()
    with _progress(console, chosen.name) as progress:
        prepared = prepare(
            chosen.source,
            out=chosen.out,
            name=chosen.name,
            options=options,
            max_bad=chosen.max_bad,
            threads=chosen.threads,
            progress=progress,
        )
    _summarize(prepared, chosen.out, time.monotonic() - started)


@contextlib.contextmanager
def _progress(console: "Console", name: str) -> "Iterator[Progress]":
    """A bar on a terminal, and a line per file elsewhere."""
    from rich import progress

    bar = progress.Progress(
        progress.TextColumn("[bold]{task.description}"),
        progress.BarColumn(),
        progress.MofNCompleteColumn(),
        progress.TimeRemainingColumn(),
        console=console,
        disable=not console.is_terminal,
    )
    task = bar.add_task(name, total=None)
    last = ""

    def advance(total: int, file: str) -> None:
        nonlocal last
        if file != last and not console.is_terminal:
            sys.stdout.write(f"{file}\n")
        last = file
        bar.update(task, total=total, advance=1)

    with bar:
        yield advance


def _summarize(prepared: "Prepared", out: str, seconds: float) -> None:
    if prepared.skipped:
        few = ", ".join(prepared.skipped[:5])
        sys.stdout.write(
            f"Skipped {len(prepared.skipped):,} unreadable images: {few}"
            f"{', ...' if len(prepared.skipped) > 5 else ''}\n"
        )
    sys.stdout.write(
        f"{prepared.folder}: {prepared.images:,} images, "
        f"{prepared.size / 1e6:,.1f} MB, {seconds:.1f} s, "
        f"{prepared.written / seconds:,.0f} images/s\n"
        f"To use it: --config.data.source={prepared.source} "
        f"--config.data.data_dir={out}\n"
    )


def _check(chosen: argparse.Namespace) -> None:
    from hypersphere.data._shards import check_set

    folder, files, damages = check_set(chosen.folder)
    if damages:
        raise ValueError(
            f"{' '.join(damages)} Delete {folder} and prepare the set again."
        )
    images = sum(facts.get("records", 0) for facts in files.values())
    sys.stdout.write(f"{folder}: {len(files)} files, {images:,} images, all whole.\n")


if __name__ == "__main__":
    main()
