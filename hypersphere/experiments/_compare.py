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

    What cannot be told of fewer than two runs is NaN.

    Attributes:
        arm: Its name.
        n: Runs of the arm, and of the other one, that have a number.
        lost: How many have none, because they diverged.
        mean: Of the arm less that of the other one.
        low: Where the 95 % interval of this difference alone begins (Welch).
        high: Where it ends.
        p: Of no difference (Welch, two-sided).
        p_holm: The same, of all comparisons taken together (Holm).
        p_equivalent: Of a difference of at least the margin (two one-sided Welch
            tests), Holm.
        verdict: What these carry, in words; none where runs are lost or too few.
    """

    arm: str
    n: tuple[int, int]
    lost: tuple[int, int]
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
    training: tuple[int, int] | None = None,
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
            `recalibrated`; networks without it have one accuracy for all of these.
        training: First and last step: by the mean accuracy of the training batches
            between them, in training mode, instead of that on test images.
        margin: The difference that would matter, in points, declared before.

    Returns:
        A difference for each other arm, by the combinations in the order of the records
        and the arms in that of their names.

    Raises:
        ValueError: If there is no such parameter, or a combination has no such arm, or
            no other one; if no run has such an accuracy, though none diverged.

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
        value = 100 * (
            record.train_accuracy(*training)
            if training
            else _test_accuracy(record, statistics)
        )
        if math.isnan(value) and not record.diverged:
            raise ValueError(
                "`compare` needs runs with an accuracy "
                + (f"at steps {training}" if training else f"by {statistics!r}")
                + f", got seed {record.seed} of {dict(record.choices)}, which has "
                f"{', '.join(record.curves)}."
            )
        group = ", ".join(f"{name}={record.choices[name]}" for name in within)
        arms = groups.setdefault(group, {})
        arms.setdefault(str(record.choices[by]), []).append(value)
    return compare_arms(groups, to=to, margin=margin)


def _test_accuracy(record: Record, statistics: str) -> float:
    is_bare = not record.config.get("model", {}).get("batch_norm", True)
    return record.accuracy("running" if is_bare else statistics)


def compare_arms(
    groups: Mapping[str, Mapping[str, Sequence[float]]],
    *,
    to: str,
    margin: float = 1.0,
) -> list[Difference]:
    """Within each group every arm against one, all comparisons corrected together.

    Args:
        groups: Name -> arm -> a number of each run, in points; NaN for a run that
            diverged. The names, which may be empty, go before those of the arms.
        to: The arm that all are measured by.
        margin: The difference that would matter, in points, declared before.

    Returns:
        A difference for each other arm, group by group as they come, the arms in the
        order of their names.

    Raises:
        ValueError: If there is no group, or one has no such arm, or no other one.

    Example:
        >>> from hypersphere import experiments
        >>> arms = {"plain": [60.1, 60.3, 59.8], "linear": [62.0, 62.4, 62.1]}
        >>> (found,) = experiments.compare_arms({"": arms}, to="plain")
        >>> found.arm, round(found.mean, 1), found.verdict
        ('linear', 2.1, 'more')
    """
    if not groups:
        raise ValueError("A comparison needs runs, got none.")
    pairs = []
    for group, arms in groups.items():
        others = sorted(set(arms) - {to})
        if to not in arms or not others:
            raise ValueError(
                f"A comparison needs an arm {to!r} and another one"
                f"{group and f' in {group}'}, got {', '.join(arms)}."
            )
        for name in others:
            told = f"{group}: {name}" if group else name
            pairs.append((told, _known(arms[name]), _known(arms[to])))
    tests = [_welch(arm, other, margin) for _, (arm, _), (other, _) in pairs]
    different = holm([p for *_, p, _ in tests])
    equivalent = holm([p for *_, p in tests])
    found = []
    for (name, (arm, lost), (other, lost_there)), test, p_holm, p_same in zip(
        pairs, tests, different, equivalent, strict=True
    ):
        mean, low, high, p, _ = test
        if lost or lost_there:
            verdict = "none: runs diverged"
        elif math.isnan(p):
            verdict = "none: too few runs"
        else:
            verdict = _verdict(mean, low, high, p_holm, p_same, margin)
        n, losses = (len(arm), len(other)), (lost, lost_there)
        row = (name, n, losses, mean, low, high, p, p_holm, p_same, verdict)
        found.append(Difference(*row))
    return found


def _known(values: Sequence[float]) -> tuple[list[float], int]:
    """The finite ones, and how many are not."""
    known = [value for value in values if math.isfinite(value)]
    return known, len(values) - len(known)


def _welch(
    arm: Sequence[float], other: Sequence[float], margin: float
) -> tuple[float, float, float, float, float]:
    """Mean, interval, p of no difference, p of one of at least the margin."""
    if not arm or not other:
        return (math.nan,) * 5
    mean = float(np.mean(arm) - np.mean(other))
    if min(len(arm), len(other)) < 2:
        return mean, *(math.nan,) * 4
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
        p: Of each alone; NaN of one that could not be made, which does not count.

    Example:
        >>> from hypersphere.experiments._compare import holm
        >>> [round(each, 3) for each in holm([0.01, 0.04, 0.03])]
        [0.03, 0.06, 0.06]
    """
    made = [place for place in np.argsort(p) if math.isfinite(p[place])]
    found, highest = [math.nan] * len(p), 0.0
    for rank, place in enumerate(made):
        highest = max(highest, min(1.0, (len(made) - rank) * p[place]))
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
        counts = [
            f"{n} of {n + lost}" if lost else str(n)
            for n, lost in zip(each.n, each.lost, strict=True)
        ]
        is_test = math.isfinite(each.p)
        interval = f" ({each.low:+.1f} to {each.high:+.1f})" if is_test else ""
        cells = [
            each.arm,
            ", ".join(counts),
            f"{each.mean:+.1f}{interval}",
            f"{each.p:.2g}" if is_test else "–",
            f"{each.p_holm:.2g}" if is_test else "–",
            each.verdict,
        ]
        lines.append("| " + " | ".join(cells) + " |")
    return "\n".join(lines) + "\n"
