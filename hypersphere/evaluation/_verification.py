"""Are two the same? Thresholds on the scores of pairs."""

from typing import NamedTuple

import numpy as np
from numpy.typing import ArrayLike

from hypersphere._checks import check_among


class Curve(NamedTuple):
    """What each threshold accepts, from the strictest to the laxest.

    Attributes:
        far: False accept rate, the share of different pairs that are accepted, rising
            from 0 to 1; float64 of shape (thresholds,).
        tar: True accept rate, the share of same pairs that are accepted, rising too.
        thresholds: What is accepted scores at least so much; falling, the first
            infinite.
        different: How many different pairs there are.
    """

    far: np.ndarray
    tar: np.ndarray
    thresholds: np.ndarray
    different: int


def roc(scores: ArrayLike, same: ArrayLike) -> Curve:
    """Every threshold that tells pairs apart; equal scores are one threshold.

    Args:
        scores: Of shape (pairs,), higher for what is more alike, finite.
        same: Booleans of shape (pairs,).

    Returns:
        The curve, of one more point than there are different scores.

    Raises:
        ValueError: If the shapes differ, a score is not finite, or all pairs are of one
            kind.

    Example:
        >>> from hypersphere import evaluation
        >>> curve = evaluation.roc([0.9, 0.4, 0.6, 0.1], [True, True, False, False])
        >>> print(curve.far, curve.tar)
        [0.  0.  0.5 0.5 1. ] [0.  0.5 0.5 1.  1. ]
    """
    scores, same = checked("roc", scores, same)
    order = np.argsort(-scores, kind="stable")
    scores, same = scores[order], same[order]
    last = np.append(np.flatnonzero(np.diff(scores)), len(scores) - 1)
    accepted = np.cumsum(same)[last]
    positives, negatives = int(same.sum()), int((~same).sum())
    tar = np.append(0.0, accepted / positives)
    far = np.append(0.0, (last + 1 - accepted) / negatives)
    return Curve(far, tar, np.append(np.inf, scores[last]), negatives)


def checked(
    who: str, scores: ArrayLike, same: ArrayLike
) -> tuple[np.ndarray, np.ndarray]:
    """Scores as float64 and labels as booleans, of both kinds.

    Raises:
        ValueError: If they are not.
    """
    scores, same = np.asarray(scores, np.float64), np.asarray(same)
    if scores.ndim != 1 or scores.shape != same.shape:
        raise ValueError(
            f"`{who}` needs one score and one label for each, of shape (n,), got "
            f"shapes {scores.shape} and {same.shape}."
        )
    same = same.astype(bool)
    if bad := int(np.sum(~np.isfinite(scores))):
        raise ValueError(
            f"`{who}` needs finite scores, and {bad} of {len(same)} are not."
        )
    if same.all() or not same.any():
        kind = "positive" if len(same) and same.all() else "negative"
        raise ValueError(
            f"`{who}` needs both kinds, and all {len(same)} are {kind}: there is "
            "nothing to tell apart."
        )
    return scores, same


def area_under(curve: Curve) -> float:
    """The area under TAR against FAR: the chance that a same pair scores higher.

    Args:
        curve: What `roc` returns.

    Returns:
        A number in [0, 1]; equal scores count half.

    Example:
        >>> from hypersphere import evaluation
        >>> curve = evaluation.roc([0.9, 0.4, 0.6, 0.1], [True, True, False, False])
        >>> evaluation.area_under(curve)
        0.75
    """
    return float(np.trapezoid(curve.tar, curve.far))


def equal_error_rate(curve: Curve, *, method: str = "interpolated") -> float:
    """The error at the threshold where false accepts and false rejects are as many.

    Args:
        curve: What `roc` returns.
        method: "interpolated", where the lines between thresholds cross; "nearest", the
            mean of both errors at the threshold where they are nearest.

    Returns:
        A share in [0, 1].

    Raises:
        ValueError: If there is no such method.

    Example:
        >>> from hypersphere import evaluation
        >>> curve = evaluation.roc([0.9, 0.4, 0.6, 0.1], [True, True, False, False])
        >>> evaluation.equal_error_rate(curve)
        0.5
    """
    check_among("equal_error_rate", "method", method, ("interpolated", "nearest"))
    apart = (1 - curve.tar) - curve.far  # falls from 1 to -1
    if method == "nearest":
        at = int(np.argmin(np.abs(apart)))
        return float((1 - curve.tar[at] + curve.far[at]) / 2)
    after = int(np.argmax(apart <= 0))
    before = after - 1
    share = apart[before] / (apart[before] - apart[after])
    return float(curve.far[before] + share * (curve.far[after] - curve.far[before]))


def tar_at_far(
    curve: Curve, far: ArrayLike | float, *, convention: str = "conservative"
) -> np.ndarray:
    """The share of same pairs accepted where so few different ones are.

    Args:
        curve: What `roc` returns.
        far: False accept rates, in (0, 1].
        convention: "conservative", the largest TAR whose FAR is at most this;
            "nearest", as InsightFace has it for IJB, at the FAR that is nearest, also
            above it, of equal ones the largest TAR; "linear" between thresholds.

    Returns:
        float64 of the shape of `far`; NaN where one different pair alone is a larger
        share: so few cannot tell. Ten times as many are needed for a number that means
        something.

    Raises:
        ValueError: If a rate is out of range, or there is no such convention.

    Example:
        >>> from hypersphere import evaluation
        >>> curve = evaluation.roc([0.9, 0.4, 0.6, 0.1], [True, True, False, False])
        >>> print(evaluation.tar_at_far(curve, [0.5, 0.01]))
        [ 1. nan]

    References:
        InsightFace, recognition/_evaluation_/ijb.
        https://github.com/deepinsight/insightface
    """
    conventions = ("conservative", "nearest", "linear")
    check_among("tar_at_far", "convention", convention, conventions)
    wanted = np.asarray(far, np.float64)
    if not np.all((wanted > 0) & (wanted <= 1)):
        raise ValueError(f"`tar_at_far` needs `0 < far <= 1`, got `far={far!r}`.")
    flat = wanted.ravel()
    if convention == "linear":
        # Of several points above one another the highest is meant.
        top = np.append(np.diff(curve.far) > 0, True)
        found = np.interp(flat, curve.far[top], curve.tar[top])
    elif convention == "nearest":
        gap = np.abs(curve.far - flat[:, None])
        best = gap == gap.min(axis=1, keepdims=True)
        found = np.max(np.where(best, curve.tar, -1), axis=1)
    else:
        at = np.searchsorted(curve.far, flat * (1 + 1e-12), side="right") - 1
        found = curve.tar[at]
    found = np.where(flat * curve.different < 1 - 1e-9, np.nan, found)
    return found.reshape(wanted.shape)


def min_dcf(
    curve: Curve, *, p_target: float = 0.01, c_miss: float = 1.0, c_false: float = 1.0
) -> float:
    """The smallest detection cost over thresholds, over that of a system without ears.

    Args:
        curve: What `roc` returns.
        p_target: The chance that a trial is of a same pair, in (0, 1).
        c_miss: What a missed same pair costs, positive.
        c_false: What an accepted different pair costs, positive.

    Returns:
        A number in [0, 1]; 1 where accepting or rejecting everything is as good.

    Raises:
        ValueError: If a number is out of range.

    Example:
        >>> from hypersphere import evaluation
        >>> curve = evaluation.roc([0.9, 0.4, 0.6, 0.1], [True, True, False, False])
        >>> evaluation.min_dcf(curve)
        0.5

    References:
        NIST, 2016 Speaker Recognition Evaluation Plan.
    """
    if not (0 < p_target < 1 and c_miss > 0 and c_false > 0):
        raise ValueError(
            "`min_dcf` needs `0 < p_target < 1` and positive costs, got "
            f"{p_target!r}, {c_miss!r} and {c_false!r}."
        )
    miss, false = c_miss * p_target, c_false * (1 - p_target)
    cost = miss * (1 - curve.tar) + false * curve.far
    return float(np.min(cost) / min(miss, false))


class Folds(NamedTuple):
    """Accuracy on each fold, at the threshold that was best on the others.

    Attributes:
        accuracy: Shares in [0, 1], float64 of shape (folds,).
        thresholds: A pair is accepted from this score on.
    """

    accuracy: np.ndarray
    thresholds: np.ndarray

    @property
    def mean(self) -> float:
        """The mean accuracy."""
        return float(np.mean(self.accuracy))

    @property
    def deviation(self) -> float:
        """Standard deviation over folds, of the population, as the field gives it."""
        return float(np.std(self.accuracy))


def fold_accuracy(
    scores: ArrayLike,
    same: ArrayLike,
    *,
    folds: int = 10,
    thresholds: str = "exact",
) -> Folds:
    """LFW's protocol: each fold is judged at the threshold that is best on the others.

    Args:
        scores: Cosines of shape (pairs,), in the order of the list; its folds are of
            equal size and follow one another.
        same: Booleans of shape (pairs,).
        folds: How many, at least two; they divide the pairs.
        thresholds: "exact", midpoints between the scores of the other folds, of equal
            ones the lowest; "insightface", squared distances from 0 to 3.99 in
            steps of 0.01, of equal ones the smallest: up to some tenths of a percent
            less.

    Returns:
        The folds.

    Raises:
        ValueError: If the folds do not divide the pairs, or there are no such
            thresholds.

    Example:
        >>> from hypersphere import evaluation
        >>> scores, same = [0.9, 0.1, 0.8, 0.2], [True, False, True, False]
        >>> evaluation.fold_accuracy(scores, same, folds=2).mean
        1.0

    References:
        Huang et al., Labeled Faces in the Wild, 2007.
    """
    check_among("fold_accuracy", "thresholds", thresholds, ("exact", "insightface"))
    scores, same = checked("fold_accuracy", scores, same)
    parts = folds_of(len(scores), folds)
    found = [_judged(scores, same, part, exact=thresholds == "exact") for part in parts]
    return Folds(*map(np.array, zip(*found, strict=True)))


def folds_of(pairs: int, folds: int) -> np.ndarray:
    """Indices of shape (folds, pairs / folds).

    Raises:
        ValueError: If that does not go.
    """
    if folds < 2 or pairs % folds:
        raise ValueError(
            "`fold_accuracy` needs at least 2 folds that divide the pairs, got "
            f"{pairs} pairs and `folds={folds!r}`."
        )
    return np.arange(pairs).reshape(folds, -1)


def _judged(
    scores: np.ndarray, same: np.ndarray, part: np.ndarray, *, exact: bool
) -> tuple[float, float]:
    """Accuracy on a part, and the threshold that is best elsewhere."""
    others = np.ones(len(scores), bool)
    others[part] = False
    if exact:
        values = np.unique(scores[others])
        middles = (values[1:] + values[:-1]) / 2
        grid = np.concatenate([[values[0] - 1], middles, [values[-1] + 1]])
        accuracy = _accuracies(scores[others], same[others], grid)
        best = grid[np.argmax(accuracy)]
        return float(np.mean((scores[part] >= best) == same[part])), float(best)
    # Squared distances of unit vectors below a threshold, which excludes its own.
    distance, grid = 2 - 2 * scores, np.arange(0, 4, 0.01)
    accuracy = 1 - _accuracies(distance[others], same[others], grid)
    best = grid[np.argmax(accuracy)]
    right = np.mean((distance[part] < best) == same[part])
    return float(right), float(1 - best / 2)


def _accuracies(scores: np.ndarray, same: np.ndarray, grid: np.ndarray) -> np.ndarray:
    """The share that "at least the threshold" gets right, for each of a grid."""
    order = np.argsort(scores, kind="stable")
    below = np.searchsorted(scores[order], grid, side="left")
    same_below = np.append(0, np.cumsum(same[order]))[below]
    return (same.sum() - same_below + below - same_below) / len(scores)
