"""Do probabilities mean what they say?"""

import numpy as np
from numpy.typing import ArrayLike
from scipy import optimize, special

from hypersphere._checks import check_among


def calibration_error(
    probabilities: ArrayLike,
    labels: ArrayLike,
    *,
    bins: int = 15,
    binning: str = "width",
    norm: str = "l1",
) -> float:
    """How far confidence is from accuracy, over bins of confidence.

    Args:
        probabilities: Of shape (n, classes), each row with the sum one. Confidence is
            the largest.
        labels: Classes of shape (n,).
        bins: How many, at least one.
        binning: "width", of equal width, closed on the right, which weigh as many
            examples as they have; "mass", of equally many examples (adaptive), which
            weigh alike.
        norm: "l1", the mean gap (the expected calibration error); "l2", the root of
            its mean square; "max", the largest one.

    Returns:
        A number in [0, 1].

    Raises:
        ValueError: If shapes do not fit, or there is no such word.

    Example:
        >>> from hypersphere import evaluation
        >>> probabilities = [[0.9, 0.1], [0.9, 0.1]]
        >>> round(evaluation.calibration_error(probabilities, [0, 1]), 3)
        0.4

    References:
        Guo et al., On Calibration of Modern Neural Networks, ICML 2017.
        https://arxiv.org/abs/1706.04599
        Nguyen and O'Connor, EMNLP 2015, for bins of equal mass.
    """
    check_among("calibration_error", "binning", binning, ("width", "mass"))
    check_among("calibration_error", "norm", norm, ("l1", "l2", "max"))
    p, labels = classified("calibration_error", probabilities, labels)
    confidence, right = p.max(axis=1), p.argmax(axis=1) == labels
    return _gap(confidence, right, bins, binning, norm)


def classwise_calibration_error(
    probabilities: ArrayLike, labels: ArrayLike, *, bins: int = 15
) -> float:
    """The mean over classes of the gap between a class's probability and its share.

    Args:
        probabilities: Of shape (n, classes).
        labels: Classes of shape (n,).
        bins: Of equal width, at least one.

    Returns:
        A number in [0, 1].

    Raises:
        ValueError: If shapes do not fit.

    Example:
        >>> from hypersphere import evaluation
        >>> probabilities = [[0.9, 0.1], [0.9, 0.1]]
        >>> round(evaluation.classwise_calibration_error(probabilities, [0, 1]), 3)
        0.4

    References:
        Kull et al., Beyond Temperature Scaling, NeurIPS 2019.
        https://arxiv.org/abs/1910.12656
    """
    p, labels = classified("classwise_calibration_error", probabilities, labels)
    gaps = [
        _gap(p[:, label], labels == label, bins, "width", "l1")
        for label in range(p.shape[1])
    ]
    return float(np.mean(gaps))


def _gap(
    confidence: np.ndarray, right: np.ndarray, bins: int, binning: str, norm: str
) -> float:
    if bins < 1:
        raise ValueError(f"Calibration needs `bins >= 1`, got `bins={bins!r}`.")
    if binning == "width":
        edges = np.linspace(0, 1, bins + 1)
        place = np.clip(
            np.searchsorted(edges, confidence, side="left") - 1, 0, bins - 1
        )
    else:
        order = np.argsort(confidence, kind="stable")
        place = np.empty(len(order), int)
        for number, part in enumerate(np.array_split(order, bins)):
            place[part] = number
    count = np.bincount(place, minlength=bins)
    apart = np.bincount(place, confidence - right, minlength=bins)
    gap, share = np.abs(apart) / np.maximum(count, 1), count / len(place)
    if binning == "mass":
        share = (count > 0) / np.sum(count > 0)
    if norm == "max":
        return float(gap.max())
    return float(share @ gap if norm == "l1" else np.sqrt(share @ gap**2))


def brier_score(probabilities: ArrayLike, labels: ArrayLike) -> float:
    """The mean squared distance of probabilities from the truth, summed over classes.

    Args:
        probabilities: Of shape (n, classes).
        labels: Classes of shape (n,).

    Returns:
        A number in [0, 2].

    Raises:
        ValueError: If shapes do not fit.

    Example:
        >>> from hypersphere import evaluation
        >>> evaluation.brier_score([[1.0, 0.0], [0.5, 0.5]], [0, 1])
        0.25
    """
    p, labels = classified("brier_score", probabilities, labels)
    return float(np.mean(np.sum((p - np.eye(p.shape[1])[labels]) ** 2, axis=1)))


def negative_log_likelihood(logits: ArrayLike, labels: ArrayLike) -> float:
    """The mean negative log-probability of the right class.

    Args:
        logits: Of shape (n, classes), of a softmax.
        labels: Classes of shape (n,).

    Returns:
        A number at least zero, in nats.

    Raises:
        ValueError: If shapes do not fit.

    Example:
        >>> from hypersphere import evaluation
        >>> round(evaluation.negative_log_likelihood([[0.0, 0.0]], [1]), 4)
        0.6931
    """
    logits, labels = classified("negative_log_likelihood", logits, labels)
    return _nll(logits, labels)


def _nll(logits: np.ndarray, labels: np.ndarray) -> float:
    log_p = special.log_softmax(logits, axis=1)
    return float(-np.mean(log_p[np.arange(len(labels)), labels]))


def fit_temperature(logits: ArrayLike, labels: ArrayLike) -> float:
    """The temperature that makes scores over it most likely.

    Fit it on a part that is not judged. Scores of a margin head are scale times cosine,
    without the margin, and far too confident as they are.

    Args:
        logits: Of shape (n, classes).
        labels: Classes of shape (n,).

    Returns:
        A positive number, between 1e-3 and 1e3.

    Raises:
        ValueError: If shapes do not fit.

    Example:
        >>> from hypersphere import evaluation
        >>> logits = [[4.0, 0.0], [4.0, 0.0], [4.0, 0.0], [4.0, 0.0]]
        >>> round(evaluation.fit_temperature(logits, [0, 0, 0, 1]), 2)
        3.64

    References:
        Guo et al., On Calibration of Modern Neural Networks, ICML 2017.
        https://arxiv.org/abs/1706.04599
    """
    logits, labels = classified("fit_temperature", logits, labels)
    found = optimize.minimize_scalar(
        lambda log_t: _nll(logits * np.exp(-log_t), labels),
        bounds=(np.log(1e-3), np.log(1e3)),
        method="bounded",
        options={"xatol": 1e-10},
    )
    return float(np.exp(found.x))


def classified(
    who: str, scores: ArrayLike, labels: ArrayLike
) -> tuple[np.ndarray, np.ndarray]:
    """Finite float64 scores of classes, and labels among them.

    Raises:
        ValueError: If they are not.
    """
    scores, labels = np.asarray(scores, np.float64), np.asarray(labels)
    if scores.ndim != 2 or not len(scores) or labels.shape != scores.shape[:1]:
        raise ValueError(
            f"`{who}` needs scores of shape (n, classes) and labels of shape (n,), got "
            f"{scores.shape} and {labels.shape}."
        )
    if not np.isfinite(scores).all():
        raise ValueError(f"`{who}` needs finite scores, and some are not.")
    if not np.issubdtype(labels.dtype, np.integer):
        raise ValueError(f"`{who}` needs integer labels, got {labels.dtype}.")
    if labels.min() < 0 or labels.max() >= scores.shape[1]:
        raise ValueError(
            f"`{who}` needs labels from 0 to {scores.shape[1] - 1}, got "
            f"{labels.min()} to {labels.max()}."
        )
    return scores, labels
