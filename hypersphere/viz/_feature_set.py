"""What a run's `features.npz` holds, checked once."""

from collections.abc import Sequence
from typing import NamedTuple

import numpy as np


class FeatureSet(NamedTuple):
    """Features of labeled examples, and where the head has its class centres.

    Attributes:
        features: float array of shape (n, d), in the unit of the network's output.
        labels: Integer array of shape (n,), in `[0, classes)`.
        class_names: One name a class.
        centres: float array of shape (d, classes) of any lengths, or None.
        accuracy: Share of the test examples named right, in `[0, 1]`, or None.
    """

    features: np.ndarray
    labels: np.ndarray
    class_names: Sequence[str] | np.ndarray
    centres: np.ndarray | None = None
    accuracy: float | None = None


def checked(who: str, data: FeatureSet) -> FeatureSet:
    """`data` as arrays; the function `who` refuses those that do not fit together."""
    features, labels = np.asarray(data.features), np.asarray(data.labels)
    shape, classes = features.shape, len(data.class_names)
    if len(shape) != 2 or shape[0] < 1 or shape[1] < 2:
        raise ValueError(
            f"{who} needs `features` of shape (n >= 1, d >= 2), got "
            f"features.shape={shape}."
        )
    if labels.shape != shape[:1]:
        raise ValueError(
            f"{who} needs `labels.shape == features.shape[:1]`, got "
            f"labels.shape={labels.shape} and features.shape={shape}. "
            "Do both come from the same pass over the examples?"
        )
    if not np.issubdtype(labels.dtype, np.integer):
        raise TypeError(
            f"{who} needs integer `labels`, got labels.dtype={labels.dtype}. "
            "A label is the index of a class in `class_names`."
        )
    bad = np.count_nonzero(~np.isfinite(features))
    if bad:
        raise ValueError(
            f"{who} needs finite `features`, got {bad} NaN or infinite numbers in "
            f"features.shape={shape}. Has the run diverged?"
        )
    if labels.min() < 0 or labels.max() >= classes:
        raise ValueError(
            f"{who} needs `0 <= labels < len(class_names)`, got labels from "
            f"{labels.min()} to {labels.max()} and len(class_names)={classes}."
        )
    if data.centres is not None and np.shape(data.centres) != (shape[1], classes):
        raise ValueError(
            f"{who} needs `centres.shape == (features.shape[1], len(class_names))`, "
            f"got centres.shape={np.shape(data.centres)}, features.shape={shape} and "
            f"len(class_names)={classes}. Is it transposed?"
        )
    return data._replace(features=features.astype(np.float64), labels=labels)
