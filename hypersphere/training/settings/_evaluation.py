"""What `config.evaluators` asks for."""

import dataclasses
import difflib
import re
from collections.abc import Mapping
from typing import Annotated, Any

from hypersphere.training.settings._durations import Duration

# A tuple of them; Any to type checkers, because configs may have texts instead.
Evaluations = Annotated[Any, "evaluations, or their texts"]

STATISTICS = ("running", "debiased", "batch", "recalibrated")
"""What batch normalization divides by in an evaluation.

`running` averages as they are; `debiased`: those that started at zero, divided by how
full they are; those of the `batch` at hand, as in training; `recalibrated`: means over
10,000 training images with the weights as they are now, however the averages move.
"""

PARTS = ("train", "test", "validation")
"""The parts of the set that is trained on."""


@dataclasses.dataclass(frozen=True, kw_only=True)
class Evaluation:
    """A further evaluation, besides that of all test images.

    Args:
        source: `train` (training images as they are, as many as there are test images),
            `test`, `validation`, or a data source, of which the test part is taken.
        every: Duration between evaluations.
        statistics: What batch normalization uses: `running` averages, those of the
            `batch` at hand, `debiased` ones (running averages that started at zero,
            divided by how full they are), or `recalibrated` ones: means over 10,000
            training images, evenly spaced and as they are, or over all if there are
            fewer, in batches of `eval_batch_size`.
        most: How many images, evenly spaced; 0 for all.

    Raises:
        ValueError: If there are no such statistics, or it is about no image.

    Example:
        >>> from hypersphere import training
        >>> one = training.Evaluation.of("test@batch of 1000 every 5 epochs")
        >>> one.source, one.statistics, one.most, one.every
        ('test', 'batch', 1000, '5 epochs')
        >>> print(training.Evaluation(source="folder:sketches", every="10%"))
        folder:sketches every 10%
    """

    source: str
    every: Duration
    statistics: str = "running"
    most: int = 0

    def __post_init__(self) -> None:
        if self.statistics not in STATISTICS:
            close = difflib.get_close_matches(self.statistics, STATISTICS, 1, 0.0)[0]
            raise ValueError(
                f"`config.evaluators` knows the statistics {', '.join(STATISTICS)}, "
                f"got {self.statistics!r} in '{self}'. Did you mean "
                f"`{self.source}@{close}`?"
            )
        if self.most < 0:
            raise ValueError(
                f"`config.evaluators` needs at least one image, got {self.most} in "
                f"'{self}'."
            )

    @property
    def name(self) -> str:
        """What logs call it: its text without the duration."""
        statistics = "" if self.statistics == "running" else f"@{self.statistics}"
        most = f" of {self.most}" if self.most else ""
        return f"{self.source}{statistics}{most}"

    def __str__(self) -> str:
        return f"{self.name} every {self.every}"

    @classmethod
    def of(cls, entry: "Evaluation | str | Mapping[str, Any]") -> "Evaluation":
        """An entry of `config.evaluators` as such, as text, or as JSON has it.

        Args:
            entry: A text is `SOURCE every DURATION`, where behind the source, whose
                name may have spaces, `@STATISTICS` and ` of NUMBER` may stand.

        Returns:
            The evaluation.

        Raises:
            ValueError: If a part of the text is missing or wrong.
        """
        if isinstance(entry, cls):
            return entry
        if isinstance(entry, Mapping):
            return cls(**entry)
        name, _, duration = str(entry).rpartition(" every ")
        parts = re.fullmatch(r"(.+?)(?:@(\w+))?(?: of (\d+))?", name.strip())
        every = duration.strip()
        if not parts or not every:
            raise ValueError(
                "`config.evaluators` needs entries `NAME every DURATION`, such as "
                f"'train every 5 epochs', got {entry!r}."
            )
        source, statistics, most = parts.groups()
        if statistics not in (None, *STATISTICS) and source not in PARTS:
            source, statistics = f"{source}@{statistics}", None  # a folder's name
        if most is not None and int(most) == 0:
            raise ValueError(
                f"`config.evaluators` needs at least one image, got {entry!r}. For all "
                "of them leave ` of 0` out."
            )
        return cls(
            source=source,
            every=int(every) if every.isdecimal() else every,
            statistics=statistics or "running",
            most=int(most or 0),
        )
