"""`python -m hypersphere.viz WORKDIR` redraws the pictures of a run."""

import argparse
import sys
from collections.abc import Sequence

from hypersphere.viz._draw import draw


def main(arguments: Sequence[str] | None = None) -> None:
    """Draw the run named on the command line and list the files written."""
    parser = argparse.ArgumentParser(
        prog="python -m hypersphere.viz",
        description="Redraw the pictures of a finished or running run.",
    )
    parser.add_argument("workdir", help="the run's folder")
    workdir = parser.parse_args(arguments).workdir
    try:
        paths = draw(workdir)
    except (FileNotFoundError, ValueError) as error:
        parser.error(str(error))
    sys.stdout.writelines(f"{path}\n" for path in paths)


if __name__ == "__main__":
    main()
