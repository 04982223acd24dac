"""Which class is it?"""

import numpy as np
from numpy.typing import ArrayLike

from hypersphere.evaluation._calibration import classified


def top_k_accuracy(scores: ArrayLike, labels: ArrayLike, *, k: int = 1) -> float:
    """The share of examples whose class is among the k with the highest scores.

    Args:
        scores: Of shape (n, classes).
        labels: Classes of shape (n,).
        k: From 1 to the number of classes.

    Returns:
        A share in [0, 1]. Of equal scores those of lower classes are higher.

    Raises:
        ValueError: If shapes do not fit, or `k` is out of range.

    Example:
        >>> from hypersphere import evaluation
        >>> scores = [[0.1, 0.7, 0.2], [0.5, 0.3, 0.2]]
        >>> evaluation.top_k_accuracy(scores, [2, 0], k=2)
        1.0
    """
    scores, labels = classified("top_k_accuracy", scores, labels)
    if not 1 <= k <= scores.shape[1]:
        raise ValueError(
            f"`top_k_accuracy` needs `1 <= k <= {scores.shape[1]}`, got `k={k!r}`."
        )
    rows = np.arange(len(labels))
    own = scores[rows, labels][:, None]
    earlier = np.arange(scores.shape[1]) < labels[:, None]
    rank = np.sum((scores > own) | ((scores == own) & earlier), axis=1)
    return float(np.mean(rank < k))


def confusion_matrix(
    predicted: ArrayLike, labels: ArrayLike, *, num_classes: int
) -> np.ndarray:
    """How often each class is taken for each.

    Args:
        predicted: Classes of shape (n,).
        labels: The true ones, of shape (n,).
        num_classes: All are below it.

    Returns:
        int64 of shape (classes, classes): a row for the truth, a column for the
        prediction.

    Raises:
        ValueError: If shapes do not fit, or a class is out of range.

    Example:
        >>> from hypersphere import evaluation
        >>> evaluation.confusion_matrix([0, 1, 1], [0, 1, 0], num_classes=2)
        array([[1, 1],
               [0, 1]])
    """
    predicted, labels = np.asarray(predicted), np.asarray(labels)
    if predicted.ndim != 1 or predicted.shape != labels.shape:
        raise ValueError(
            "`confusion_matrix` needs a prediction for each label, got shapes "
            f"{predicted.shape} and {labels.shape}."
        )
    both = np.append(predicted, labels)
    if len(both) and not 0 <= both.min() <= both.max() < num_classes:
        raise ValueError(
            f"`confusion_matrix` needs classes from 0 to {num_classes - 1}, got "
            f"{both.min()} to {both.max()}."
        )
    flat = labels * num_classes + predicted
    return np.bincount(flat, minlength=num_classes**2).reshape(num_classes, -1)


def per_class_accuracy(confusion: ArrayLike) -> np.ndarray:
    """The share of each class that is recognized (recall).

    Args:
        confusion: What `confusion_matrix` returns.

    Returns:
        float64 of shape (classes,), in [0, 1]; NaN for a class without an example.

    Example:
        >>> from hypersphere import evaluation
        >>> print(evaluation.per_class_accuracy([[1, 1], [0, 1]]))
        [0.5 1. ]
    """
    confusion = np.asarray(confusion, np.float64)
    count = confusion.sum(axis=1)
    return np.where(count > 0, np.diagonal(confusion) / np.maximum(count, 1), np.nan)
