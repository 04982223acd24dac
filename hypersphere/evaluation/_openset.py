"""Is it something that has never been seen?"""

from typing import NamedTuple

import numpy as np
from numpy.typing import ArrayLike
from scipy import special

from hypersphere._checks import check_among
from hypersphere.evaluation._pairs import directions, group_sums
from hypersphere.evaluation._search import nearest
from hypersphere.evaluation._verification import area_under, checked, roc


class Detection(NamedTuple):
    """How well scores tell known things, which score higher, from unknown ones.

    Attributes:
        auroc: The chance that a known one scores higher; equal scores count half.
        fpr_at_95: The share of unknown ones accepted where 95 % of the known ones are.
        aupr_known: Average precision with the known ones as what is looked for.
        aupr_unknown: The same for the unknown ones, by low scores.
        error: The least mean of both error rates over thresholds.
    """

    auroc: float
    fpr_at_95: float
    aupr_known: float
    aupr_unknown: float
    error: float


def detection(known: ArrayLike, unknown: ArrayLike, *, fpr: str = "first") -> Detection:
    """Known against unknown, by a score that is higher for the known.

    Args:
        known: Scores of shape (n,), finite.
        unknown: Scores of shape (m,).
        fpr: "first", at the strictest threshold that accepts at least 95 % of the known
            ones; "linear" between thresholds.

    Returns:
        Five numbers in [0, 1].

    Raises:
        ValueError: If one of both is empty or a score is not finite.

    Example:
        >>> from hypersphere import evaluation
        >>> evaluation.detection([0.9, 0.8, 0.4], [0.5, 0.1]).auroc.__round__(3)
        0.833

    References:
        Yang et al., OpenOOD, NeurIPS 2022. https://arxiv.org/abs/2210.07242
    """
    check_among("detection", "fpr", fpr, ("first", "linear"))
    known, unknown = np.ravel(known), np.ravel(unknown)
    scores = np.concatenate([known, unknown]).astype(np.float64)
    is_known = np.arange(len(scores)) < len(known)
    curve = roc(*checked("detection", scores, is_known))
    if fpr == "first":
        at_95 = curve.far[np.argmax(curve.tar >= 0.95)]
    else:
        at_95 = np.interp(0.95, curve.tar, curve.far)
    return Detection(
        area_under(curve),
        float(at_95),
        average_precision(scores, is_known),
        average_precision(-scores, ~is_known),
        float(np.min(1 - curve.tar + curve.far) / 2),
    )


def average_precision(scores: ArrayLike, wanted: ArrayLike) -> float:
    """The mean precision over recalls, without interpolation.

    Args:
        scores: Of shape (n,), higher for what is wanted.
        wanted: Booleans of shape (n,).

    Returns:
        A number in [0, 1]; equal scores are one threshold.

    Raises:
        ValueError: If all are of one kind.

    Example:
        >>> from hypersphere import evaluation
        >>> evaluation.average_precision([3.0, 2.0, 1.0], [True, False, True])
        0.8333333333333333
    """
    curve = roc(scores, wanted)
    positives = np.asarray(wanted, bool).sum()
    found = curve.tar[1:] * positives
    precision = found / (found + curve.far[1:] * curve.different)
    return float(np.sum(np.diff(curve.tar) * precision))


def oscr(known: ArrayLike, right: ArrayLike, unknown: ArrayLike) -> float:
    """Open-set classification: known ones must be accepted and classified rightly.

    Args:
        known: Scores of shape (n,), higher for what is accepted.
        right: Whether each is classified rightly, booleans of shape (n,).
        unknown: Scores of shape (m,).

    Returns:
        The area under the share of known ones that are accepted and right, against the
        share of unknown ones that are accepted, in [0, accuracy].

    Raises:
        ValueError: If shapes do not fit, or one of both is empty.

    Example:
        >>> from hypersphere import evaluation
        >>> evaluation.oscr([0.9, 0.8], [True, False], [0.1])
        0.5

    References:
        Dhamija et al., Reducing Network Agnostophobia, NeurIPS 2018.
        https://arxiv.org/abs/1811.04110
    """
    fpr, ccr = _ccr_curve("oscr", known, right, unknown)
    return float(np.trapezoid(ccr, fpr))


def ccr_at_fpr(
    known: ArrayLike, right: ArrayLike, unknown: ArrayLike, fpr: ArrayLike | float
) -> np.ndarray:
    """The share of known ones accepted and right where so few unknown ones are.

    Args:
        known: Scores of shape (n,), higher for what is accepted.
        right: Whether each is classified rightly, booleans of shape (n,).
        unknown: Scores of shape (m,).
        fpr: Shares of unknown ones that may be accepted, in (0, 1].

    Returns:
        float64 of the shape of `fpr`; NaN where one unknown one is a larger share.

    Raises:
        ValueError: If shapes do not fit, or one of both is empty.

    Example:
        >>> from hypersphere import evaluation
        >>> print(evaluation.ccr_at_fpr([0.9, 0.2], [True, True], [0.5], [1.0]))
        [1.]
    """
    rates = np.asarray(fpr, np.float64)
    points, ccr = _ccr_curve("ccr_at_fpr", known, right, unknown)
    found = ccr[np.searchsorted(points, rates * (1 + 1e-12), side="right") - 1]
    return np.where(rates * np.size(unknown) < 1 - 1e-9, np.nan, found)


def _ccr_curve(
    who: str, known: ArrayLike, right: ArrayLike, unknown: ArrayLike
) -> tuple[np.ndarray, np.ndarray]:
    known, right, unknown = np.ravel(known), np.ravel(right), np.ravel(unknown)
    if known.shape != right.shape:
        raise ValueError(
            f"`{who}` needs a `right` for each known score, got {len(right)} and "
            f"{len(known)}."
        )
    scores = np.concatenate([known, unknown]).astype(np.float64)
    checked(who, scores, np.arange(len(scores)) < len(known))
    thresholds = np.unique(scores)[::-1]
    accepted = np.sort(known[right.astype(bool)])
    ccr = (len(accepted) - np.searchsorted(accepted, thresholds)) / len(known)
    others = np.sort(unknown)
    fpr = (len(others) - np.searchsorted(others, thresholds)) / len(others)
    return np.append(0.0, fpr), np.append(0.0, ccr)


def energy_score(logits: ArrayLike, *, temperature: float = 1.0) -> np.ndarray:
    """T log-sum-exp of scores over T: minus the free energy, high for the known.

    Args:
        logits: Of shape (n, classes).
        temperature: T, positive.

    Returns:
        float64 of shape (n,).

    Example:
        >>> from hypersphere import evaluation
        >>> print(evaluation.energy_score([[0.0, 0.0]]).round(4))
        [0.6931]

    References:
        Liu et al., Energy-based Out-of-distribution Detection, NeurIPS 2020.
        https://arxiv.org/abs/2010.03759
    """
    x = np.asarray(logits, np.float64) / temperature
    return temperature * special.logsumexp(x, axis=1)


def class_means(
    features: ArrayLike, labels: ArrayLike
) -> tuple[np.ndarray, np.ndarray]:
    """The direction of each class: the mean of unit features, made a unit again.

    Args:
        features: Of shape (n, features), of any lengths.
        labels: Of shape (n,).

    Returns:
        Unit vectors of shape (classes, features), and the classes, sorted.

    Raises:
        ValueError: If shapes do not fit.

    Example:
        >>> from hypersphere import evaluation
        >>> means, classes = evaluation.class_means([[2.0, 0.0], [0.0, 1.0]], [0, 0])
        >>> print(means.round(3), classes)
        [[0.707 0.707]] [0]
    """
    x, labels = directions("class_means", features), np.asarray(labels)
    if labels.shape != (len(x),):
        raise ValueError(
            f"`class_means` needs a label for each feature, got shapes {x.shape} and "
            f"{labels.shape}."
        )
    classes, place = np.unique(labels, return_inverse=True)
    total = group_sums(x, place, len(classes))
    return directions("class_means", total), classes


def cosine_score(features: ArrayLike, means: ArrayLike) -> np.ndarray:
    """The largest cosine to a class, high for the known.

    Args:
        features: Of shape (n, features).
        means: Directions of classes, of shape (classes, features).

    Returns:
        Of shape (n,), in [-1, 1].

    Example:
        >>> from hypersphere import evaluation
        >>> print(evaluation.cosine_score([[0.0, 3.0]], [[1.0, 0.0], [0.0, 1.0]]))
        [1.]
    """
    x = directions("cosine_score", features)
    cosines = x @ directions("cosine_score", means, "means").T
    return np.clip(np.max(cosines, axis=1), -1, 1)


def mahalanobis_score(
    features: ArrayLike, train: ArrayLike, labels: ArrayLike
) -> np.ndarray:
    """Minus the squared Mahalanobis distance to the nearest class, of unit features.

    Args:
        features: Of shape (n, features).
        train: Features of the known classes, of shape (m, features); they give the
            means and one covariance for all, inverted where it has a variance.
        labels: Their classes, of shape (m,).

    Returns:
        float64 of shape (n,), at most zero, high for the known.

    Example:
        >>> import numpy as np
        >>> from hypersphere import evaluation
        >>> train = np.eye(3)[[0, 0, 1, 1]] + np.arange(12).reshape(4, 3) / 50
        >>> scores = evaluation.mahalanobis_score(train[:1], train, [0, 0, 1, 1])
        >>> bool(scores[0] <= 0)
        True

    References:
        Lee et al., A Simple Unified Framework for Detecting Out-of-Distribution
        Samples, NeurIPS 2018. https://arxiv.org/abs/1807.03888
        Differs: features are unit vectors.
    """
    x = directions("mahalanobis_score", features).astype(np.float64)
    t = directions("mahalanobis_score", train, "train").astype(np.float64)
    _, place = np.unique(np.asarray(labels), return_inverse=True)
    count = np.bincount(place)
    means = group_sums(t, place, len(count)) / count[:, None]
    spread = t - means[place]
    values, vectors = np.linalg.eigh(spread.T @ spread / len(t))
    kept = values > 1e-10 * values.max()
    whiten = vectors[:, kept] / np.sqrt(values[kept])
    a, b = x @ whiten, means @ whiten
    squares = (a**2).sum(axis=1)[:, None] - 2 * a @ b.T + (b**2).sum(axis=1)
    return -np.maximum(squares.min(axis=1), 0)


def knn_score(features: ArrayLike, train: ArrayLike, *, k: int = 50) -> np.ndarray:
    """The cosine to the k-th nearest feature of the known classes.

    Args:
        features: Of shape (n, features).
        train: Features of the known classes, of shape (m, features).
        k: At least 1; m where there are fewer.

    Returns:
        float32 of shape (n,), in [-1, 1], high for the known; its order is that of
        minus the distance of unit features.

    Example:
        >>> from hypersphere import evaluation
        >>> print(evaluation.knn_score([[1.0, 0.0]], [[2.0, 0.0], [0.0, 1.0]], k=1))
        [1.]

    References:
        Sun et al., Out-of-Distribution Detection with Deep Nearest Neighbors, ICML
        2022. https://arxiv.org/abs/2204.06507
    """
    found = nearest(features, train, min(k, len(np.asarray(train))))
    return found.scores[:, -1]


class NovelClasses(NamedTuple):
    """Accuracy of the nearest class mean, of classes seen in training and of others.

    Attributes:
        known: Of images of known classes.
        novel: Of images of novel classes.
        harmonic: The harmonic mean of both.
    """

    known: float
    novel: float
    harmonic: float


def novel_classes(
    features: ArrayLike,
    labels: ArrayLike,
    means: ArrayLike,
    classes: ArrayLike,
    novel: ArrayLike,
) -> NovelClasses:
    """Images of known and novel classes, each assigned to the nearest of all means.

    Args:
        features: Of test images, of shape (n, features).
        labels: Their classes, of shape (n,).
        means: Directions of all classes, known and novel, as `class_means` makes them
            of support images that are not tested; of shape (classes, features).
        classes: Which class each mean is of.
        novel: The classes that were not trained on.

    Returns:
        Shares in [0, 1].

    Raises:
        ValueError: If the test images are all of one kind, or of a class without mean.

    Example:
        >>> from hypersphere import evaluation
        >>> means = [[1.0, 0.0], [0.0, 1.0]]
        >>> x = [[0.9, 0.1], [0.1, 0.9], [0.9, 0.1]]
        >>> evaluation.novel_classes(x, [0, 1, 1], means, [0, 1], novel=[1])
        NovelClasses(known=1.0, novel=0.5, harmonic=0.6666666666666666)
    """
    x, classes = directions("novel_classes", features), np.asarray(classes)
    labels = np.asarray(labels)
    if missing := set(labels.tolist()) - set(classes.tolist()):
        raise ValueError(
            f"`novel_classes` needs a mean for every class, and there is none for "
            f"{sorted(missing)[0]!r}."
        )
    is_novel = np.isin(labels, np.asarray(novel))
    if is_novel.all() or not is_novel.any():
        kind = "novel" if is_novel.all() else "known"
        raise ValueError(
            f"`novel_classes` needs both kinds, and all images are {kind}."
        )
    towards = x @ directions("novel_classes", means, "means").T
    right = classes[towards.argmax(axis=1)] == labels
    known, new = float(right[~is_novel].mean()), float(right[is_novel].mean())
    harmonic = 2 * known * new / (known + new) if known + new else 0.0
    return NovelClasses(known, new, harmonic)
