"""python -m hypersphere.training export WORKDIR OUT."""

import argparse
import sys

from hypersphere.training._export import export
from hypersphere.training.compute._parts import own_of


def main() -> None:
    """Runs a command on a run's folder."""
    parser = argparse.ArgumentParser(
        prog="python -m hypersphere.training", description="Works on a run's folder."
    )
    commands = parser.add_subparsers(dest="command", required=True)
    exporting = commands.add_parser(
        "export", help="write the trained model for use without this package"
    )
    exporting.add_argument("workdir", help="the run's folder")
    exporting.add_argument("out", help="the folder to write to")
    exporting.add_argument(
        "--best", action="store_true", help="the best checkpoint, not the newest"
    )
    exporting.add_argument(
        "--config", help="the config file of a run that has parts of its own"
    )
    options = parser.parse_args()
    try:
        parts = own_of(options.config).get("parts") if options.config else None
        folder = export(options.workdir, options.out, best=options.best, parts=parts)
    except (OSError, ValueError, ArithmeticError, ModuleNotFoundError) as error:
        parser.exit(1, f"{parser.prog}: {error}\n")
    for file in sorted(folder.iterdir()):
        sys.stdout.write(f"{file}  {file.stat().st_size:,} bytes\n")


if __name__ == "__main__":
    main()
