"""How far a run has come, besides its arrays."""

import dataclasses
import math
import sys
from collections.abc import Mapping


@dataclasses.dataclass
class Progress:
    """What a checkpoint keeps besides the arrays.

    Args:
        began: When the run was first started, in seconds since 1970.
        seconds: How long its processes have run until here.
        examples: Images trained on until here, but for the first call of a process.
        busy: Seconds that they took.
        losses: The latest losses, for the guard.
        rewinds: How often a spike led back.
        best: The highest score on the images that say which state is the best; None
            before one.
        since_best: Evaluations since then.
        evaluated: The step of the last evaluation of each kind.
        logged: The last step whose training metrics are in the log.
    """

    began: float
    seconds: float = 0.0
    examples: int = 0
    busy: float = 0.0
    losses: list[float] = dataclasses.field(default_factory=list)
    rewinds: int = 0
    best: float | None = None
    since_best: int = 0
    evaluated: dict[str, int] = dataclasses.field(default_factory=dict)
    logged: int = 0


def score(values: Mapping[str, float]) -> float:
    """What is highest at the best checkpoint: the accuracy, or else minus the loss.

    A loss that is not finite is worse than any other.
    """
    found = values.get("accuracy", -values["loss"])
    return found if math.isfinite(found) else -sys.float_info.max
