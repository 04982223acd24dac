"""What the entries of `config.evaluators` ask for."""

import difflib
import re
from typing import NamedTuple

STATISTICS = ("running", "debiased", "batch")
"""What batch normalization divides by in an evaluation.

`running` averages as they are; `debiased`: those that started at zero, divided by how
full they are; those of the `batch` at hand, as in training.
"""


class Wanted(NamedTuple):
    """What an entry of `config.evaluators` asks for.

    Attributes:
        source: `train`, `test`, or a data source, of which the test part is meant.
        statistics: One of `STATISTICS`.
        most: How many images, evenly spaced; 0 for all.
    """

    source: str
    statistics: str
    most: int


def parse_wanted(name: str) -> Wanted:
    """Reads `SOURCE`, `SOURCE@STATISTICS`, and both with ` of NUMBER` behind.

    Args:
        name: The text before ` every ` of an entry of `config.evaluators`.

    Returns:
        Its parts.

    Raises:
        ValueError: If there are no such statistics, or it is about no image.

    Example:
        >>> from hypersphere.training._evaluators import parse_wanted
        >>> parse_wanted("test@batch of 1000")
        Wanted(source='test', statistics='batch', most=1000)
    """
    parts = re.fullmatch(r"(.+?)(?:@(\w+))?(?: of (\d+))?", name)
    source, statistics, most = parts.groups() if parts else (name, None, None)
    statistics = statistics or "running"
    if statistics not in STATISTICS and source not in ("train", "test"):
        source, statistics = f"{source}@{statistics}", "running"  # a folder's name
    if most is not None and int(most) == 0:
        raise ValueError(
            f"`config.evaluators` needs at least one image, got {name!r}. For all of "
            "them leave ` of 0` out."
        )
    if statistics not in STATISTICS:
        close = difflib.get_close_matches(statistics, STATISTICS, n=1, cutoff=0.0)[0]
        raise ValueError(
            f"`config.evaluators` knows the statistics {', '.join(STATISTICS)}, got "
            f"{statistics!r} in {name!r}. Did you mean `{source}@{close}`?"
        )
    return Wanted(source, statistics, int(most or 0))
