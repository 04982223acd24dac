"""`python -m hypersphere.experiments` runs families of configs and tells of them."""

import argparse
import sys
from collections.abc import Sequence
from typing import NoReturn

_RUN = """\
Makes every combination of a config's parameters, one seed after the other, and writes
one small JSON file for each, one table (Markdown, CSV) and one figure. What has a file
is not made again; what was interrupted resumes; several processes may share the work.

examples:
  python -m hypersphere.experiments run configs/ablation_loss.py:loss=w --seeds=5
  python -m hypersphere.experiments run configs/ablation_loss.py:scale=small,loss=ga
  python -m hypersphere.experiments run configs/cifar10_sphere.py --config.steps=8000
"""


def main(arguments: Sequence[str] | None = None) -> int:
    """Runs the command; a user's mistake ends in one line."""
    words = sys.argv[1:] if arguments is None else list(arguments)
    overrides = [word for word in words if word.startswith("--config.")]
    options = _parser().parse_args([word for word in words if word not in overrides])
    options.overrides = overrides
    try:
        return options.run(options)
    except (ValueError, OSError, ModuleNotFoundError) as error:
        raise SystemExit(f"python -m hypersphere.experiments: {error}") from error


class _Parser(argparse.ArgumentParser):
    """Says what is wrong in one line."""

    def error(self, message: str) -> NoReturn:
        self.exit(2, f"{self.prog}: {message}; --help explains.\n")


def _seeds_of(text: str) -> range:
    """The seeds that `3` or `20-22` means."""
    first, dash, last = text.partition("-")
    try:
        numbers = range(int(first), int(last) + 1) if dash else range(int(first))
    except ValueError:
        numbers = range(0)
    if not numbers:
        raise ValueError(
            "--seeds needs how many, such as 3, or FIRST-LAST, such as 20-22, got "
            f"{text!r}."
        )
    return numbers


def _steps_of(text: str) -> tuple[int, int]:
    """The steps that `600-1000` means."""
    try:
        first, last = map(int, text.split("-"))
    except ValueError as error:
        raise argparse.ArgumentTypeError(
            f"it takes two steps such as 600-1000, got {text!r}"
        ) from error
    return first, last


def _parser() -> argparse.ArgumentParser:
    parser = _Parser(prog="python -m hypersphere.experiments", description=__doc__)
    commands = parser.add_subparsers(required=True, metavar="COMMAND")
    running = commands.add_parser(
        "run",
        help="make the runs of a family",
        description=_RUN,
        formatter_class=argparse.RawDescriptionHelpFormatter,
    )
    running.add_argument("configs", nargs="+", metavar="CONFIG[:NAME=VALUE,...]")
    running.add_argument("--seeds", default="1", help="how many, from 0, or FIRST-LAST")
    running.add_argument("--out", default="results", help="for records and tables")
    running.add_argument("--workdir", default="runs", help="for the runs' own folders")
    running.add_argument("--list", action="store_true", help="only say which")
    running.set_defaults(run=_run)
    telling = commands.add_parser(
        "report", help="write tables and figures anew from the records in folders"
    )
    telling.add_argument(
        "folders", nargs="+", help="such as results/small/ablation_loss"
    )
    telling.set_defaults(run=_report)
    comparing = commands.add_parser(
        "compare", help="every arm against one: differences with their intervals"
    )
    add = comparing.add_argument
    add("folders", nargs="+", help="such as results/small/ablation_loss")
    add("--by", required=True, help="the parameter that arms differ in")
    add("--to", required=True, metavar="ARM", help="that all are measured by")
    add(
        "--within",
        default="",
        metavar="NAMES",
        help="parameters, with commas, of which each combination is compared by "
        "itself; of several folders `family`",
    )
    add(
        "--change_from",
        default="",
        metavar="NAME=VALUE",
        help="one of these combinations: how the differences change from there on",
    )
    add("--statistics", default="recalibrated", help="default %(default)s")
    add(
        "--training",
        type=_steps_of,
        metavar="FIRST-LAST",
        help="by training batches between two steps, instead of test images",
    )
    add(
        "--margin",
        type=float,
        default=1.0,
        metavar="POINTS",
        help="what would matter, declared before (default %(default)s)",
    )
    comparing.set_defaults(run=_compare)
    return parser


def _compare(options: argparse.Namespace) -> int:
    from hypersphere.experiments._compare import compare, comparison_to_markdown
    from hypersphere.experiments._record import read_records

    records = []
    for folder in options.folders:
        found = read_records(folder)
        if not found:
            raise ValueError(f"{folder} holds no records (seed*.json).")
        records += found
    differences = compare(
        records,
        by=options.by,
        to=options.to,
        within=[name for name in options.within.split(",") if name],
        change_from=options.change_from,
        statistics=options.statistics,
        training=options.training,
        margin=options.margin,
    )
    told = comparison_to_markdown(
        differences, to=options.to, change_from=options.change_from
    )
    _say(told.rstrip())
    return 0


def _say(line: object) -> None:
    sys.stdout.write(f"{line}\n")
    sys.stdout.flush()


def _report(options: argparse.Namespace) -> int:
    from hypersphere.experiments._report import report

    for folder in options.folders:
        files = report(folder)
        if not files:
            raise ValueError(f"{folder} holds no records (seed*.json).")
        for file in files:
            _say(file)
    return 0


def _run(options: argparse.Namespace) -> int:
    from absl import logging

    from hypersphere.experiments._runner import jobs_of, run
    from hypersphere.training import StoppedError, use_compilation_cache

    logging.set_verbosity(logging.WARNING)
    seeds = _seeds_of(options.seeds)
    try:
        jobs = [
            job
            for config in options.configs
            for job in jobs_of(config, seeds, options.overrides)
        ]
        if options.list:
            for job in jobs:
                _say(job.path)
            return 0
        use_compilation_cache()
        for file in run(jobs, out=options.out, workdir=options.workdir, say=_say):
            _say(file)
        return 0
    except StoppedError as stopped:
        _say(stopped)
        return stopped.status
    except KeyboardInterrupt:
        _say("Interrupted; the same command goes on.")
        return 130


if __name__ == "__main__":
    sys.exit(main())
