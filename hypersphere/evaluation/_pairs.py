"""Scores of pairs and of templates, made of embeddings."""

from typing import NamedTuple

import numpy as np
from numpy.typing import ArrayLike

from hypersphere.evaluation._verification import (
    Folds,
    _accuracies,
    checked,
    folds_of,
)


def directions(who: str, embeddings: ArrayLike, name: str = "embeddings") -> np.ndarray:
    """Embeddings of unit length, float64 if they are and else float32; zero of zero.

    Raises:
        ValueError: If they are no finite matrix.
    """
    x = np.asarray(embeddings)
    x = x if x.dtype == np.float64 else x.astype(np.float32)
    if x.ndim != 2 or not len(x):
        raise ValueError(
            f"`{who}` needs `{name}` of shape (n, features) with n > 0, got {x.shape}."
        )
    if bad := int(np.sum(~np.isfinite(x).all(axis=1))):
        raise ValueError(
            f"`{who}` needs finite `{name}`, and {bad} of {len(x)} rows are not."
        )
    x = x / np.maximum(np.abs(x).max(axis=1, keepdims=True), np.finfo(x.dtype).tiny)
    norm = np.linalg.norm(x, axis=1, keepdims=True)
    return x / np.where(norm > 0, norm, 1)


def pair_cosines(a: ArrayLike, b: ArrayLike) -> np.ndarray:
    """The cosine of each pair of embeddings.

    Args:
        a: Of shape (pairs, features), of any lengths; what is zero has cosine zero.
        b: Of the same shape.

    Returns:
        Of shape (pairs,), in [-1, 1], float64 of float64 and else float32.

    Raises:
        ValueError: If the shapes differ, or a number is not finite.

    Example:
        >>> from hypersphere import evaluation
        >>> print(evaluation.pair_cosines([[3.0, 4.0]], [[2.0, 0.0]]).round(3))
        [0.6]
    """
    a, b = directions("pair_cosines", a, "a"), directions("pair_cosines", b, "b")
    if a.shape != b.shape:
        raise ValueError(
            f"`pair_cosines` needs `a` and `b` of one shape, got {a.shape} and "
            f"{b.shape}."
        )
    return np.clip(np.sum(a * b, axis=1), -1, 1)


def centred_fold_accuracy(
    a: ArrayLike, b: ArrayLike, same: ArrayLike, *, folds: int = 10
) -> Folds:
    """LFW's protocol as SphereFace has it: the mean of the other folds is taken away.

    Args:
        a: Embeddings of shape (pairs, features), as they are, not of unit length.
        b: Of the same shape.
        same: Booleans of shape (pairs,).
        folds: How many, at least two; they divide the pairs.

    Returns:
        The folds; thresholds are of a grid of 20,001 cosines.

    Raises:
        ValueError: If shapes differ, or the folds do not divide the pairs.

    Example:
        >>> import numpy as np
        >>> from hypersphere import evaluation
        >>> a = np.array([[1.0, 0.0], [0.0, 1.0], [1.0, 0.1], [0.0, 1.0]])
        >>> b = np.array([[1.0, 0.1], [1.0, 0.0], [1.0, 0.0], [1.0, 0.0]])
        >>> same = [True, False, True, False]
        >>> evaluation.centred_fold_accuracy(a, b, same, folds=2).mean
        1.0

    References:
        Liu et al., SphereFace, CVPR 2017, evaluation.m.
        https://github.com/wy1iu/sphereface
    """
    a, b = np.asarray(a, np.float64), np.asarray(b, np.float64)
    _, same = checked("centred_fold_accuracy", pair_cosines(a, b), same)
    found = []
    for part in folds_of(len(same), folds):
        others = np.ones(len(same), bool)
        others[part] = False
        mean = np.concatenate([a[others], b[others]]).mean(axis=0)
        scores = pair_cosines(a - mean, b - mean)
        grid = np.arange(-10_000, 10_001) / 10_000
        accuracy = _accuracies(scores[others], same[others], grid)
        # Of equal ones all count: the mean of the best.
        best = float(np.mean(grid[accuracy == accuracy.max()]))
        found.append((np.mean((scores[part] >= best) == same[part]), best))
    return Folds(*map(np.array, zip(*found, strict=True)))


def as_norm(
    scores: ArrayLike, a_cohort: ArrayLike, b_cohort: ArrayLike, *, top: int = 300
) -> np.ndarray:
    """Scores in deviations from what strangers get: adaptive score normalization.

    Each side of a pair is compared with a cohort of strangers; mean and deviation of
    its highest scores make the pair's score comparable with those of others.

    Args:
        scores: Of shape (pairs,).
        a_cohort: Scores of the first sides with the cohort, of shape (pairs, cohort).
        b_cohort: Scores of the second sides, of the same shape.
        top: How many of the highest count, at least two; all of a smaller cohort.

    Returns:
        The mean of both sides' normalized scores, float64 of shape (pairs,).

    Raises:
        ValueError: If shapes do not fit, `top` is below two, or a side's highest
            scores are all alike.

    Example:
        >>> from hypersphere import evaluation
        >>> evaluation.as_norm([0.5], [[0.1, 0.3, -0.9]], [[0.2, 0.4, -0.9]], top=2)
        array([2.5])

    References:
        Matejka et al., Analysis of Score Normalization in Multilingual Speaker
        Recognition, Interspeech 2017.
    """
    scores = np.asarray(scores, np.float64)
    sides = [np.asarray(side, np.float64) for side in (a_cohort, b_cohort)]
    if any(side.ndim != 2 or len(side) != len(scores) for side in sides) or top < 2:
        raise ValueError(
            "`as_norm` needs a row of cohort scores for each pair and `top >= 2`, got "
            f"{scores.shape}, {sides[0].shape}, {sides[1].shape} and `top={top!r}`."
        )
    normalized = []
    for side in sides:
        count = min(top, side.shape[1])
        highest = np.partition(side, -count, axis=1)[:, -count:]
        deviation = highest.std(axis=1)
        if not (deviation > 0).all():
            raise ValueError(
                "`as_norm` needs cohort scores that differ, and of some pairs the "
                f"{count} highest are all alike."
            )
        normalized.append((scores - highest.mean(axis=1)) / deviation)
    return np.mean(normalized, axis=0)


class Templates(NamedTuple):
    """One embedding for each template.

    Attributes:
        embeddings: Of unit length, of shape (templates, features).
        names: Sorted, of shape (templates,).
    """

    embeddings: np.ndarray
    names: np.ndarray

    def rows(self, names: ArrayLike) -> np.ndarray:
        """The rows of templates by name.

        Raises:
            ValueError: If there is none of that name.
        """
        names = np.asarray(names)
        found = np.minimum(np.searchsorted(self.names, names), len(self.names) - 1)
        if np.any(self.names[found] != names):
            unknown = names[self.names[found] != names].tolist()
            raise ValueError(f"There is no template {unknown[0]!r}.")
        return found


def pool_templates(
    embeddings: ArrayLike,
    templates: ArrayLike,
    media: ArrayLike,
    *,
    weights: ArrayLike | None = None,
) -> Templates:
    """One direction for each template of several images and films, as IJB has it.

    Frames of one medium are averaged; a template is the sum of its media, made a unit.

    Args:
        embeddings: Of shape (images, features); their lengths count.
        templates: Whose each image is, of shape (images,).
        media: Which medium each image is of, of shape (images,).
        weights: What each embedding is multiplied by, of shape (images,), such as the
            score of a detector; None for ones.

    Returns:
        The templates.

    Raises:
        ValueError: If the shapes do not fit.

    Example:
        >>> from hypersphere import evaluation
        >>> x = [[2.0, 0.0], [0.0, 2.0], [0.0, 1.0]]
        >>> pooled = evaluation.pool_templates(x, ["a", "a", "b"], [1, 2, 3])
        >>> print(pooled.embeddings.round(3))
        [[0.707 0.707]
         [0.    1.   ]]

    References:
        Maze et al., IARPA Janus Benchmark-C, 2018.
    """
    x, templates, media = (
        np.asarray(embeddings),
        np.asarray(templates),
        np.asarray(media),
    )
    w = np.ones(len(x)) if weights is None else np.asarray(weights)
    if x.ndim != 2 or not templates.shape == media.shape == w.shape == x.shape[:1]:
        raise ValueError(
            "`pool_templates` needs a template, a medium and a weight for each "
            f"embedding, got shapes {x.shape}, {templates.shape}, {media.shape} and "
            f"{w.shape}."
        )
    names, owner = np.unique(templates, return_inverse=True)
    medium = np.unique(media, return_inverse=True)[1]
    pairs, member = np.unique(
        np.stack([owner, medium], axis=1), axis=0, return_inverse=True
    )
    of_medium = group_sums(x * w[:, None], member.ravel(), len(pairs))
    of_medium /= np.bincount(member.ravel())[:, None]
    pooled = group_sums(of_medium, pairs[:, 0], len(names))
    return Templates(directions("pool_templates", pooled), names)


def group_sums(x: np.ndarray, groups: np.ndarray, count: int) -> np.ndarray:
    """The sum of the rows of each group, of shape (count, columns)."""
    total = np.zeros((count, x.shape[1]), np.result_type(x, np.float32))
    np.add.at(total, groups, x)
    return total


class Identification(NamedTuple):
    """Who is it? Found at given false positive rates.

    Attributes:
        tpir: The share of probes whose own gallery entry scores highest and at least
            the threshold; NaN where no threshold can be known. Shape (rates,).
        thresholds: Of shape (rates,).
    """

    tpir: np.ndarray
    thresholds: np.ndarray


def identification(
    mated: ArrayLike, own: ArrayLike, non_mated: ArrayLike, fpir: ArrayLike | float
) -> Identification:
    """Open-set 1:N identification.

    Args:
        mated: Scores of probes who are in the gallery, of shape (probes, gallery).
        own: The column of each one's own entry, of shape (probes,).
        non_mated: Scores of probes who are not in it, of shape (others, gallery).
        fpir: Shares of these that may be found all the same, in (0, 1].

    Returns:
        What is found, for each rate.

    Raises:
        ValueError: If shapes do not fit, or a rate is out of range.

    Example:
        >>> from hypersphere import evaluation
        >>> mated = [[0.9, 0.1], [0.3, 0.4]]
        >>> found = evaluation.identification(mated, [0, 1], [[0.5, 0.2]], [1.0])
        >>> print(found.tpir, found.thresholds)
        [0.5] [0.5]

    References:
        Maze et al., IARPA Janus Benchmark-C, 2018.
    """
    mated, non_mated = np.asarray(mated, np.float64), np.asarray(non_mated, np.float64)
    own, rates = np.asarray(own), np.atleast_1d(np.asarray(fpir, np.float64))
    fits = mated.ndim == non_mated.ndim == 2 and own.shape == mated.shape[:1]
    if not fits or not mated.size or not non_mated.size:
        raise ValueError(
            "`identification` needs matrices of scores and a column for each mated "
            f"probe, got shapes {mated.shape}, {own.shape} and {non_mated.shape}."
        )
    if not (0 <= own.min() and own.max() < mated.shape[1]):
        raise ValueError(
            f"`identification` needs columns from 0 to {mated.shape[1] - 1} in `own`, "
            f"got {own.min()} to {own.max()}."
        )
    if not np.all((rates > 0) & (rates <= 1)):
        raise ValueError(
            f"`identification` needs `0 < fpir <= 1`, got `fpir={fpir!r}`."
        )
    rows = np.arange(len(mated))
    right = mated[rows, own]
    wrong = mated.copy()
    wrong[rows, own] = -np.inf
    is_first = right > wrong.max(axis=1)
    highest = np.sort(non_mated.max(axis=1))[::-1]
    places = np.maximum((len(highest) * rates + 1e-9).astype(int) - 1, 0)
    thresholds = highest[places]
    tpir = np.mean(is_first[:, None] & (right[:, None] >= thresholds), axis=0)
    tpir = np.where(len(highest) * rates < 1 - 1e-9, np.nan, tpir)
    return Identification(tpir, thresholds)
