"""`python -m hypersphere.viz WORKDIR` redraws a run; of several, their features."""

import argparse
import sys
from collections.abc import Sequence
from pathlib import Path

from hypersphere.viz._draw import draw, draw_comparison


def main(arguments: Sequence[str] | None = None) -> None:
    """Draw the runs named on the command line and list the files written."""
    parser = argparse.ArgumentParser(
        prog="python -m hypersphere.viz",
        description="Redraw the pictures of a finished or running run, or draw the "
        "features of several, two numbers each, side by side.",
    )
    parser.add_argument("workdir", nargs="+", help="a run's folder")
    parser.add_argument(
        "--out",
        metavar="PNG",
        default="features.png",
        help="the picture of several runs (default: %(default)s)",
    )
    chosen = parser.parse_args(arguments)
    try:
        if len(chosen.workdir) == 1:
            paths = draw(chosen.workdir[0])
        else:
            paths = [draw_comparison(_by_name(chosen.workdir), chosen.out)]
    except (FileNotFoundError, ValueError) as error:
        parser.error(str(error))
    sys.stdout.writelines(f"{path}\n" for path in paths)


def _by_name(workdirs: Sequence[str]) -> dict[str, str]:
    """Folders by their own names, or by their paths where these are alike."""
    named = {Path(workdir).resolve().name: workdir for workdir in workdirs}
    return named if len(named) == len(workdirs) else {w: w for w in workdirs}


if __name__ == "__main__":
    main()
