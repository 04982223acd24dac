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
        n: Runs of the arm, and of the other one, that have a number; then those that
            a change is told from.
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
    n: tuple[int, ...]
    lost: tuple[int, ...]
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
    change_from: str = "",
    statistics: str = "recalibrated",
    training: tuple[int, int] | None = None,
    margin: float = 1.0,
) -> list[Difference]:
    """Every arm against one, by the accuracy on test images after the last step.

    Args:
        records: Of one scale.
        by: The parameter that arms differ in; `family` is the name of the config.
        to: The arm that all are measured by.
        within: Parameters of which each combination is compared by itself; all
            comparisons are corrected together. Further parameters are pooled.
        change_from: One of these combinations, as the rows name it (`depth=18`): how
            much each difference of the others changes from that one's on, in place of
            the differences themselves.
        statistics: Batch normalization's, of `running`, `debiased`, `batch` and
            `recalibrated`; networks without it have one accuracy for all of these.
        training: First and last step: by the mean accuracy of the training batches
            between them, in training mode, instead of that on test images.
        margin: The difference that would matter, in points, declared before.

    Returns:
        A difference for each other arm, by the combinations in the order of the records
        and the arms in that of their names.

    Raises:
        ValueError: If a run is there twice, or runs of several families or scales that
            are not told apart; if there is no such parameter or combination, or a
            combination has no such arm, or no other one; if no run has such an
            accuracy, though none diverged.

    Example:
        >>> from hypersphere import experiments
        >>> records = experiments.read_records("results/small/ablation_margin")
        >>> found = experiments.compare(
        ...     records, by="loss", to="softmax", statistics="running"
        ... )
        >>> found[0].arm, found[0].n
        ('adacos', (3, 3))

    References:
        Welch, Biometrika 1947; Satterthwaite, Biometrics 1946; Holm, Scandinavian
        Journal of Statistics 1979; Schuirmann, Journal of Pharmacokinetics and
        Biopharmaceutics 1987.
    """
    _refuse_mixtures(records, (by, *within))
    groups: dict[str, dict[str, list[float]]] = {}
    for record in records:
        choices = {**record.choices, "family": record.family}
        for name in (by, *within):
            if name not in choices:
                raise ValueError(
                    f"`compare` needs a parameter that the runs have, got {name!r}; "
                    f"there are {', '.join(choices)}."
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
        group = ", ".join(f"{name}={choices[name]}" for name in within)
        groups.setdefault(group, {}).setdefault(str(choices[by]), []).append(value)
    return compare_arms(groups, to=to, change_from=change_from, margin=margin)


def _refuse_mixtures(records: Sequence[Record], told: Sequence[str]) -> None:
    """Raises where runs would be counted twice, or as of one arm though they differ."""
    known = set()
    for record in records:
        run = (record.family, *sorted(record.choices.items()), record.seed)
        if run in known:
            raise ValueError(
                f"`compare` needs each run once, got seed {record.seed} of "
                f"{record.family}, {dict(record.choices)}, twice."
            )
        known.add(run)
    for name, values in (
        ("family", {record.family for record in records}),
        ("scale", {record.choices.get("scale") for record in records}),
    ):
        if len(values) > 1 and name not in told:
            raise ValueError(
                f"`compare` needs runs of one {name}, or `within={name}`, got "
                f"{', '.join(sorted(map(str, values)))}."
            )


def _test_accuracy(record: Record, statistics: str) -> float:
    is_bare = not record.config.get("model", {}).get("batch_norm", True)
    return record.accuracy("running" if is_bare else statistics)


def compare_arms(
    groups: Mapping[str, Mapping[str, Sequence[float]]],
    *,
    to: str,
    change_from: str = "",
    margin: float = 1.0,
) -> list[Difference]:
    """Within each group every arm against one, all comparisons corrected together.

    Args:
        groups: Name -> arm -> a number of each run, in points; NaN for a run that
            diverged. The names, which may be empty, go before those of the arms.
        to: The arm that all are measured by.
        change_from: The group from which the differences of the others are told as
            changes; it may have more arms than these.
        margin: The difference that would matter, in points, declared before.

    Returns:
        A difference for each other arm, group by group as they come, the arms in the
        order of their names.

    Raises:
        ValueError: If there is no group, or one has no such arm, or no other one; if
            changes are asked from a group that is not there, or lacks an arm.

    Example:
        >>> from hypersphere import experiments
        >>> arms = {"plain": [60.1, 60.3, 59.8], "linear": [62.0, 62.4, 62.1]}
        >>> (found,) = experiments.compare_arms({"": arms}, to="plain")
        >>> found.arm, round(found.mean, 1), found.verdict
        ('linear', 2.1, 'more')
    """
    _check(groups, to, change_from)
    compared = [
        (group, arm)
        for group, arms in groups.items()
        if not change_from or group != change_from
        for arm in sorted(set(arms) - {to})
    ]
    samples = [_samples(groups, group, arm, to, change_from) for group, arm in compared]
    tests = [_welch([_known(each) for each in every], margin) for every in samples]
    different = holm([p for *_, p, _ in tests])
    equivalent = holm([p for *_, p in tests])
    found = []
    for (group, arm), every, test, p_holm, p_same in zip(
        compared, samples, tests, different, equivalent, strict=True
    ):
        mean, low, high, p, _ = test
        n = [len(_known(each)) for each in every]
        lost = [len(each) - count for each, count in zip(every, n, strict=True)]
        if any(lost):
            verdict = "none: runs diverged"
        elif math.isnan(p):
            verdict = "none: too few runs"
        else:
            verdict = _verdict(mean, low, high, p_holm, p_same, margin)
        name = f"{group}: {arm}" if group else arm
        row = (name, tuple(n), tuple(lost), mean, low, high, p, p_holm, p_same, verdict)
        found.append(Difference(*row))
    return found


def _check(
    groups: Mapping[str, Mapping[str, Sequence[float]]], to: str, change_from: str
) -> None:
    if not groups:
        raise ValueError("A comparison needs runs, got none.")
    for group, arms in groups.items():
        if to not in arms or len(arms) < 2:
            raise ValueError(
                f"A comparison needs an arm {to!r} and another one"
                f"{group and f' in {group}'}, got {', '.join(arms)}."
            )
    if change_from and set(groups) == {""}:
        raise ValueError(
            f"`change_from={change_from!r}` needs `within`, the parameter that it is a "
            "value of."
        )
    if change_from and not (change_from in groups and len(groups) > 1):
        raise ValueError(
            "Changes need one of several combinations that are compared by themselves, "
            f"got {change_from!r}; there are {', '.join(map(repr, groups))}."
        )


def _samples(
    groups: Mapping[str, Mapping[str, Sequence[float]]],
    group: str,
    arm: str,
    to: str,
    change_from: str,
) -> list[Sequence[float]]:
    """What is added and taken away in turn: an arm, the other, the other before, it."""
    samples = [groups[group][arm], groups[group][to]]
    if change_from:
        before = groups[change_from]
        if arm not in before:
            raise ValueError(
                f"A change of {arm!r} from {change_from} needs this arm there, got "
                f"{', '.join(before)}."
            )
        samples += [before[to], before[arm]]
    return samples


def _known(values: Sequence[float]) -> list[float]:
    return [value for value in values if math.isfinite(value)]


def _welch(
    samples: Sequence[Sequence[float]], margin: float
) -> tuple[float, float, float, float, float]:
    """Of samples added and taken away in turn, by Satterthwaite's degrees of freedom.

    Returns:
        Mean, interval, p of no difference, p of one of at least the margin.
    """
    if not all(samples):
        return (math.nan,) * 5
    mean = sum((-1) ** place * float(np.mean(x)) for place, x in enumerate(samples))
    if min(map(len, samples)) < 2:
        return mean, *(math.nan,) * 4
    errors = [float(np.var(each, ddof=1)) / len(each) for each in samples]
    error = math.sqrt(sum(errors))
    if not error:  # which a test cannot say anything about
        return mean, mean, mean, float(mean == 0), float(abs(mean) >= margin)
    freedom = error**4 / sum(
        e**2 / (len(x) - 1) for e, x in zip(errors, samples, strict=True)
    )
    t = stats.t(freedom, scale=error)
    half = float(t.isf(LEVEL / 2))
    return (
        mean,
        mean - half,
        mean + half,
        float(2 * t.sf(abs(mean))),
        float(t.sf(margin - abs(mean))),
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
        told = "a point" if margin == 1 else f"{margin:g} points"
        return f"no difference of {told} or more"
    return f"not shown: between {low:+.1f} and {high:+.1f} points"


def comparison_to_markdown(
    found: Sequence[Difference], *, to: str, change_from: str = ""
) -> str:
    """A table in Markdown, with a row for each arm.

    Args:
        found: From `compare` or `compare_arms`.
        to: The arm that all are measured by.
        change_from: The combination from which the others' changes are told.

    Returns:
        The lines, the last one ended.

    Example:
        >>> from hypersphere import experiments
        >>> arms = {"plain": [60.1, 60.3, 59.8], "linear": [62.0, 62.4, 62.1]}
        >>> found = experiments.compare_arms({"": arms}, to="plain")
        >>> print(experiments.comparison_to_markdown(found, to="plain").splitlines()[2])
        | linear | 3, 3 | +2.1 (+1.6 to +2.6) | 0.00045 | 0.00045 | more |
    """
    told = f"points to {to}{change_from and f', change from {change_from}'} (95 %)"
    head = ["arm", "n", told, "p", "p, Holm", "verdict"]
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
