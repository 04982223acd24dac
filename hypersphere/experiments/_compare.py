"""Is one arm of a family better than another? Differences with their intervals."""

import math
from collections.abc import Mapping, Sequence
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
    within: Sequence[str] = (),
    statistics: str = "recalibrated",
    margin: float = 1.0,
) -> list[Difference]:
    """Every arm against one, by the accuracy on test images after the last step.

    Args:
        records: Of one family and scale.
        by: The parameter that arms differ in.
        to: The arm that all are measured by.
        within: Parameters of which each combination is compared by itself; all
            comparisons are corrected together. Further parameters are pooled.
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
    groups: dict[str, dict[str, list[float]]] = {}
    for record in records:
        for name in (by, *within):
            if name not in record.choices:
                raise ValueError(
                    f"`compare` needs a parameter that the runs have, got {name!r}; "
                    f"there are {', '.join(record.choices)}."
                )
        group = ", ".join(f"{name}={record.choices[name]}" for name in within)
        arms = groups.setdefault(group, {})
        value = 100 * record.accuracy(statistics)
        arms.setdefault(str(record.choices[by]), []).append(value)
    of = f" with an accuracy by {statistics!r} statistics"
    return compare_arms(groups, to=to, margin=margin, of=of)


def compare_arms(
    groups: Mapping[str, Mapping[str, Sequence[float]]],
    *,
    to: str,
    margin: float = 1.0,
    of: str = "",
) -> list[Difference]:
    """Within each group every arm against one, all comparisons corrected together.

    Args:
        groups: Name -> arm -> a number of each run, in points; what is not finite is
            left out. The names, which may be empty, go before those of the arms.
        to: The arm that all are measured by.
        margin: The difference that would matter, in points, declared before.
        of: What the numbers are, for an error.

    Returns:
        A difference for each other arm, group by group, in the order of their names.

    Raises:
        ValueError: If a group has no such arm, or an arm fewer than two numbers.

    Example:
        >>> from hypersphere import experiments
        >>> arms = {"plain": [60.1, 60.3, 59.8], "linear": [62.0, 62.4, 62.1]}
        >>> (found,) = experiments.compare_arms({"": arms}, to="plain")
        >>> found.arm, round(found.mean, 1), found.verdict
        ('linear', 2.1, 'more')
    """
    names, tests = [], []
    for group, found in groups.items():
        arms = {k: [x for x in v if math.isfinite(x)] for k, v in found.items()}
        few = [name for name, each in arms.items() if len(each) < 2]
        if to not in arms or few or len(arms) < 2:
            what = (
                f"no arm {to!r}" if to not in arms else f"fewer than two runs of {few}"
            )
            raise ValueError(
                f"`compare` needs two arms of two runs each{of}, got {what}"
                f"{group and f' in {group}'}; the arms are {', '.join(arms)}."
            )
        for name in sorted(set(arms) - {to}):
            names.append((f"{group}: {name}" if group else name, arms[name], arms[to]))
            tests.append(_welch(arms[name], arms[to], margin))
    different = holm([p for *_, p, _ in tests])
    equivalent = holm([p for *_, p in tests])
    return [
        Difference(
            name,
            (len(arm), len(other)),
            mean,
            low,
            high,
            p,
            p_holm,
            p_same,
            _verdict(mean, low, high, p_holm, p_same, margin),
        )
        for (name, arm, other), (mean, low, high, p, _), p_holm, p_same in zip(
            names, tests, different, equivalent, strict=True
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
    """A table in Markdown, with a row for each arm.

    Args:
        found: From `compare` or `compare_arms`.
        to: The arm that all are measured by.

    Returns:
        The lines, the last one ended.

    Example:
        >>> from hypersphere import experiments
        >>> arms = {"plain": [60.1, 60.3, 59.8], "linear": [62.0, 62.4, 62.1]}
        >>> found = experiments.compare_arms({"": arms}, to="plain")
        >>> print(experiments.comparison_to_markdown(found, to="plain").splitlines()[2])
        | linear | 3, 3 | +2.1 (+1.6 to +2.6) | 0.00045 | 0.00045 | more |
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
