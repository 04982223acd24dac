"""Is one arm of a family better than another? Differences with their intervals."""

import math
from collections.abc import Sequence
from typing import NamedTuple

import numpy as np
from scipy import stats

from hypersphere.experiments._record import Record

LEVEL = 0.05


class Difference(NamedTuple):
    """An arm against the one that all are measured by, in points of accuracy.

    Attributes:
        arm: Its name.
        n: Runs of the arm, and of the other one.
        mean: Of the arm less that of the other one.
        low: Where the 95 % interval of this difference alone begins (Welch).
        high: Where it ends.
        p: Of no difference (Welch, two-sided).
        p_holm: The same, of all comparisons taken together (Holm).
        p_equivalent: Of a difference of at least the margin (two one-sided Welch
            tests), Holm.
        verdict: What these carry, in words.
    """

    arm: str
    n: tuple[int, int]
    mean: float
    low: float
    high: float
    p: float
    p_holm: float
    p_equivalent: float
    verdict: str


def compare(
    records: Sequence[Record],
    *,
    by: str,
    to: str,
    statistics: str = "recalibrated",
    margin: float = 1.0,
) -> list[Difference]:
    """Every arm against one, by the accuracy on test images after the last step.

    Args:
        records: Of one family and scale.
        by: The parameter that arms differ in; others are pooled.
        to: The arm that all are measured by.
        statistics: Batch normalization's, of `running`, `debiased`, `batch` and
            `recalibrated`.
        margin: The difference that would matter, in points, declared before.

    Returns:
        A difference for each other arm, in the order of their names. Runs that
        diverged count as NaN, and are left out.

    Raises:
        ValueError: If there is no such parameter or arm, or an arm has fewer than two
            runs.

    Example:
        >>> from hypersphere import experiments
        >>> records = experiments.read_records("results/small/ablation_margin")
        >>> found = experiments.compare(
        ...     records, by="loss", to="softmax", statistics="running"
        ... )
        >>> found[0].arm, found[0].n
        ('adacos', (3, 3))

    References:
        Welch, Biometrika 1947; Holm, Scandinavian Journal of Statistics 1979;
        Schuirmann, Journal of Pharmacokinetics and Biopharmaceutics 1987.
    """
    arms: dict[str, list[float]] = {}
    for record in records:
        if by not in record.choices:
            raise ValueError(
                f"`compare` needs a parameter that the runs have, got {by!r}; there "
                f"are {', '.join(record.choices)}."
            )
        value = 100 * record.accuracy(statistics)
        arms.setdefault(str(record.choices[by]), []).append(value)
    arms = {name: [x for x in each if math.isfinite(x)] for name, each in arms.items()}
    few = [name for name, each in arms.items() if len(each) < 2]
    if to not in arms or few or len(arms) < 2:
        what = f"no arm {to!r}" if to not in arms else f"fewer than two runs of {few}"
        raise ValueError(
            f"`compare` needs two arms of two runs each with an accuracy by "
            f"{statistics!r} statistics, got {what}; the arms are {', '.join(arms)}."
        )
    others = sorted(set(arms) - {to})
    tests = [_welch(arms[name], arms[to], margin) for name in others]
    different = holm([p for *_, p, _ in tests])
    equivalent = holm([p for *_, p in tests])
    return [
        Difference(
            name,
            (len(arms[name]), len(arms[to])),
            mean,
            low,
            high,
            p,
            p_holm,
            p_same,
            _verdict(mean, low, high, p_holm, p_same, margin),
        )
        for name, (mean, low, high, p, _), p_holm, p_same in zip(
            others, tests, different, equivalent, strict=True
        )
    ]


def _welch(
    arm: Sequence[float], other: Sequence[float], margin: float
) -> tuple[float, float, float, float, float]:
    """Mean, interval, p of no difference, p of one of at least the margin."""
    mean = float(np.mean(arm) - np.mean(other))
    if np.std(arm) == np.std(other) == 0:  # which a test cannot say anything about
        return mean, mean, mean, float(mean == 0), float(abs(mean) >= margin)
    test = stats.ttest_ind(arm, other, equal_var=False)
    interval = test.confidence_interval(1 - LEVEL)
    sides = (
        stats.ttest_ind(
            np.asarray(arm) + shift, other, equal_var=False, alternative=side
        ).pvalue
        for shift, side in ((margin, "greater"), (-margin, "less"))
    )
    return (
        mean,
        float(interval.low),
        float(interval.high),
        float(test.pvalue),
        float(max(sides)),
    )


def holm(p: Sequence[float]) -> list[float]:
    """p-values of several tests taken together, in the order given.

    Args:
        p: Of each alone.

    Example:
        >>> from hypersphere.experiments._compare import holm
        >>> [round(each, 3) for each in holm([0.01, 0.04, 0.03])]
        [0.03, 0.06, 0.06]
    """
    order = np.argsort(p)
    found, highest = [0.0] * len(p), 0.0
    for rank, place in enumerate(order):
        highest = max(highest, min(1.0, (len(p) - rank) * p[place]))
        found[place] = highest
    return found


def _verdict(
    mean: float, low: float, high: float, p: float, p_same: float, margin: float
) -> str:
    if p < LEVEL:
        return "more" if mean > 0 else "less"
    if p_same < LEVEL:
        return f"no difference of {margin:g} points or more"
    return f"not shown: between {low:+.1f} and {high:+.1f} points"


def comparison_to_markdown(found: Sequence[Difference], *, to: str) -> str:
    """A row for each arm.

    Args:
        found: From `compare`.
        to: The arm that all are measured by.
    """
    head = ["arm", "n", f"points to {to} (95 %)", "p", "p, Holm", "verdict"]
    lines = ["| " + " | ".join(head) + " |", "|" + "---|" * len(head)]
    for each in found:
        cells = [
            each.arm,
            f"{each.n[0]}, {each.n[1]}",
            f"{each.mean:+.1f} ({each.low:+.1f} to {each.high:+.1f})",
            f"{each.p:.2g}",
            f"{each.p_holm:.2g}",
            each.verdict,
        ]
        lines.append("| " + " | ".join(cells) + " |")
    return "\n".join(lines) + "\n"
