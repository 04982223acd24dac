"""Is what is near of the same class?"""

from collections.abc import Sequence
from typing import NamedTuple

import numpy as np
from numpy.typing import ArrayLike
from scipy import special, stats

from hypersphere.evaluation._pairs import directions, group_sums
from hypersphere.evaluation._search import nearest

_AT_ONCE = 1 << 24  # scores


class Retrieval(NamedTuple):
    """How well each image finds the others of its class; means over queries.

    Attributes:
        recall: k -> the share of queries with one of its class among its k nearest.
        r_precision: The share of its class among its R nearest, where R others are of
            it.
        map_at_r: The mean over these R places of the precision up to there, where one
            of its class is.
        mean_average_precision: The same over the whole list.
        mrr: One over the place of the first of its class.
        queries: How many there are of a class with others.
        lone: How many are alone in their class; they are left out of the means.
    """

    recall: dict[int, float]
    r_precision: float
    map_at_r: float
    mean_average_precision: float
    mrr: float
    queries: int
    lone: int


def retrieval(
    embeddings: ArrayLike,
    labels: ArrayLike,
    *,
    ks: Sequence[int] = (1, 2, 4, 8),
    class_average: bool = False,
    count_lone: bool = False,
) -> Retrieval:
    """Each image in turn looks for the others of its class, by cosine.

    It is left out of its own list by its index. Of equal scores the first image counts
    as nearer. The whole list of each query is sorted, a part of the queries at a time:
    for 10,000 images that takes seconds, for a million use `nearest` and its recall.

    Args:
        embeddings: Of shape (n, features), of any lengths.
        labels: Of shape (n,), anything that can be compared.
        ks: For the recalls.
        class_average: Whether to take the mean of each class first.
        count_lone: Whether images alone in their class count as queries that find
            nothing, as some do.

    Returns:
        The means, all in [0, 1].

    Raises:
        ValueError: If shapes do not fit, or no image has another of its class.

    Example:
        >>> from hypersphere import evaluation
        >>> x = [[1.0, 0.0], [1.0, 0.1], [0.0, 1.0], [0.1, 1.0], [0.5, 0.5]]
        >>> found = evaluation.retrieval(x, ["a", "a", "b", "b", "c"], ks=[1])
        >>> found.recall, found.map_at_r, found.lone
        ({1: 1.0}, 1.0, 1)

    References:
        Musgrave et al., A Metric Learning Reality Check, ECCV 2020, for MAP@R.
        https://arxiv.org/abs/2003.08505
        Song et al., Deep Metric Learning via Lifted Structured Feature Embedding, CVPR
        2016, for the recall. https://arxiv.org/abs/1511.06452
    """
    x = directions("retrieval", embeddings)
    classes, labels = np.unique(np.asarray(labels), return_inverse=True)
    if labels.shape != (len(x),):
        raise ValueError(
            f"`retrieval` needs a label for each embedding, got {len(x)} embeddings "
            f"and {len(labels)} labels."
        )
    count = np.bincount(labels)[labels] - 1
    if not (count > 0).any():
        raise ValueError(
            f"`retrieval` needs a class with two images, and all {len(x)} images are "
            f"alone in theirs ({len(classes)} classes)."
        )
    if min(ks, default=1) < 1:
        raise ValueError(f"`retrieval` needs `ks` of at least 1, got {ks!r}.")
    asked = np.arange(len(x)) if count_lone else np.flatnonzero(count > 0)
    step = max(1, _AT_ONCE // len(x))
    rows = np.concatenate(
        [
            _of_queries(x, labels, count, asked[i : i + step], ks)
            for i in range(0, len(asked), step)
        ]
    )
    if class_average:
        groups = np.unique(labels[asked], return_inverse=True)[1]
        size = np.bincount(groups)[:, None]
        rows = group_sums(rows, groups, len(size)) / size
    means = rows.mean(axis=0).tolist()
    return Retrieval(
        dict(zip(ks, means[4:], strict=True)),
        *means[:4],
        queries=len(asked),
        lone=int((count == 0).sum()),
    )


def _of_queries(
    x: np.ndarray,
    labels: np.ndarray,
    count: np.ndarray,
    queries: np.ndarray,
    ks: Sequence[int],
) -> np.ndarray:
    """R-precision, MAP@R, MAP, reciprocal rank and recalls, a row for each query."""
    scores = x[queries] @ x.T
    scores[np.arange(len(queries)), queries] = -np.inf
    order = np.argsort(-scores, axis=1, kind="stable")[:, :-1]  # itself is last
    hits = labels[order] == labels[queries][:, None]
    places = np.arange(1, hits.shape[1] + 1)
    precision = np.cumsum(hits, axis=1) / places * hits
    of_class = count[queries][:, None]
    up_to_r = places <= of_class
    size = np.maximum(of_class[:, 0], 1)
    first = np.where(hits.any(axis=1), 1 / (hits.argmax(axis=1) + 1), 0)
    columns = [
        (hits & up_to_r).sum(axis=1) / size,
        (precision * up_to_r).sum(axis=1) / size,
        precision.sum(axis=1) / size,
        first,
        *(hits[:, :k].any(axis=1) for k in ks),
    ]
    return np.stack(columns, axis=1).astype(np.float64)


def hubness(indices: ArrayLike, gallery: int) -> float:
    """How unevenly images are neighbours of others: the skewness of how often.

    Args:
        indices: The neighbours of each query, of shape (queries, k).
        gallery: How many images there are.

    Returns:
        Zero for an even one; above about one there are hubs.

    Example:
        >>> from hypersphere import evaluation
        >>> evaluation.hubness([[1], [0], [1], [1]], gallery=9) > 1
        True

    References:
        Radovanovic et al., Hubs in Space, JMLR 2010.
    """
    often = np.bincount(np.ravel(indices), minlength=gallery)
    return float(stats.skew(often)) if often.std() else 0.0


def dual_bank_normalization(
    scores: ArrayLike,
    query_bank: ArrayLike,
    gallery_bank: ArrayLike,
    *,
    query_scale: float = 1 / 1.99,
    gallery_scale: float = 3.0,
) -> np.ndarray:
    """Scores in which what is near to everything is no longer nearer: less hubness.

    An entry's score loses the log of how near, exponentially, it is to a bank of
    queries and to a bank of other entries.

    Args:
        scores: Of shape (queries, gallery).
        query_bank: Scores of other queries, such as of training, with the gallery, of
            shape (bank, gallery).
        gallery_bank: Scores of other gallery entries with the gallery, the same.
        query_scale: Inverse temperature of the first bank, positive.
        gallery_scale: That of the second one.

    Returns:
        float64 of the shape of `scores`, the logarithm of the published product; only
        their order means something.

    Raises:
        ValueError: If the shapes do not fit.

    Example:
        >>> from hypersphere import evaluation
        >>> bank = [[0.9, 0.1], [0.9, 0.0]]  # the first entry is near to everything
        >>> normalized = evaluation.dual_bank_normalization([[0.6, 0.5]], bank, bank)
        >>> print(normalized.argmax(axis=1))
        [1]

    References:
        Wang et al., Balance Act: Mitigating Hubness in Cross-Modal Retrieval with Query
        and Gallery Banks, EMNLP 2023. https://arxiv.org/abs/2310.11612
    """
    scores, *banks = (
        np.asarray(x, np.float64) for x in (scores, query_bank, gallery_bank)
    )
    shapes = [x.shape for x in (scores, *banks)]
    if any(len(shape) != 2 or shape[1:] != shapes[0][1:] for shape in shapes):
        raise ValueError(
            "`dual_bank_normalization` needs three matrices with a column for each "
            f"gallery entry, got shapes {shapes}."
        )
    total = np.zeros_like(scores)
    for scale, bank in zip((query_scale, gallery_scale), banks, strict=True):
        total += scale * scores - special.logsumexp(scale * bank, axis=0)
    return total


def without_hubs(
    embeddings: ArrayLike,
    bank: ArrayLike,
    k: int,
    *,
    query_scale: float = 1 / 1.99,
    gallery_scale: float = 3.0,
) -> np.ndarray:
    """The k nearest others of each image after `dual_bank_normalization`.

    One bank is both. Scores are made a part at a time, so that memory does not grow
    with the square of the images.

    Args:
        embeddings: Of shape (n, features).
        bank: Of shape (m, features).
        k: How many, from 1 to n - 1.
        query_scale: Inverse temperature of the bank as queries, positive.
        gallery_scale: That of the bank as other images.

    Returns:
        Rows, integers of shape (n, k), the nearest first.

    Raises:
        ValueError: If shapes do not fit, or a number is not finite.

    Example:
        >>> from hypersphere import evaluation
        >>> x = [[1.0, 0.0], [1.0, 0.1], [0.0, 1.0]]
        >>> print(evaluation.without_hubs(x, x, 1).ravel())
        [1 0 1]
    """
    x, bank = directions("without_hubs", embeddings), directions("without_hubs", bank)
    if x.shape[1] != bank.shape[1] or not 1 <= k < len(x):
        raise ValueError(
            f"`without_hubs` needs one width and `1 <= k < {len(x)}`, got shapes "
            f"{x.shape} and {bank.shape}, and `k={k!r}`."
        )
    step = max(1, _AT_ONCE // max(len(x), len(bank)))
    scales = (query_scale, gallery_scale)
    taken = np.full(len(x), -np.inf), np.full(len(x), -np.inf)
    for start in range(0, len(bank), step):
        near = (bank[start : start + step] @ x.T).astype(np.float64)
        taken = tuple(
            np.logaddexp(so_far, special.logsumexp(scale * near, axis=0))
            for so_far, scale in zip(taken, scales, strict=True)
        )
    found = []
    for start in range(0, len(x), step):
        scores = sum(scales) * (x[start : start + step] @ x.T) - sum(taken)
        rows = np.arange(len(scores))
        scores[rows, start + rows] = -np.inf
        best = np.argpartition(-scores, k - 1, axis=1)[:, :k]
        order = np.argsort(-np.take_along_axis(scores, best, 1), 1, kind="stable")
        found.append(np.take_along_axis(best, order, 1))
    return np.concatenate(found)


def recall_of_neighbours(
    embeddings: ArrayLike, labels: ArrayLike, *, ks: Sequence[int] = (1, 2, 4, 8)
) -> dict[int, float]:
    """The recalls of `retrieval`, for a million images.

    Args:
        embeddings: Of shape (n, features).
        labels: Of shape (n,).
        ks: Each below n.

    Returns:
        k -> the share of queries with one of its class among its k nearest, images
        alone in their class left out.

    Raises:
        ValueError: As for `nearest`.

    Example:
        >>> from hypersphere import evaluation
        >>> x = [[1.0, 0.0], [1.0, 0.1], [0.0, 1.0], [0.1, 1.0]]
        >>> evaluation.recall_of_neighbours(x, [0, 0, 1, 1], ks=[1])
        {1: 1.0}
    """
    labels, x = np.asarray(labels), np.asarray(embeddings)
    if labels.shape != x.shape[:1]:
        raise ValueError(
            "`recall_of_neighbours` needs a label for each embedding, got shapes "
            f"{x.shape} and {labels.shape}."
        )
    labels = np.unique(labels, return_inverse=True)[1]
    asked = np.flatnonzero(np.bincount(labels)[labels] > 1)
    found = nearest(x[asked], x, max(ks), own=asked).indices
    hits = labels[found] == labels[asked][:, None]
    return {k: float(hits[:, :k].any(axis=1).mean()) for k in ks}
