"""Do clusters of embeddings agree with classes?"""

from typing import NamedTuple

import numpy as np
from numpy.typing import ArrayLike

from hypersphere._extras import need
from hypersphere.evaluation._pairs import directions


class Clustering(NamedTuple):
    """Agreement of k-means clusters with classes, for each seed.

    Attributes:
        nmi: Mutual information over the arithmetic mean of the entropies, in [0, 1].
        ami: The same, corrected for chance, at most 1.
        ari: The adjusted Rand index, at most 1.
    """

    nmi: np.ndarray
    ami: np.ndarray
    ari: np.ndarray


def clustering(
    embeddings: ArrayLike, labels: ArrayLike, *, seeds: int = 10
) -> Clustering:
    """Clusters unit embeddings, as many as classes, and compares.

    Args:
        embeddings: Of shape (n, features), of any lengths.
        labels: Of shape (n,).
        seeds: Runs of k-means, whose beginning changes the numbers more than their
            definitions do.

    Returns:
        The agreement, arrays of shape (seeds,).

    Raises:
        ModuleNotFoundError: If scikit-learn is not installed.
        ValueError: If shapes do not fit, or `seeds` is below one.

    Example:
        >>> from hypersphere import evaluation
        >>> x = [[1.0, 0.0], [1.0, 0.1], [0.0, 1.0], [0.1, 1.0]]
        >>> print(evaluation.clustering(x, [0, 0, 1, 1], seeds=2).nmi)
        [1. 1.]
    """
    need("evaluate", ("sklearn",), who="`clustering`")
    from sklearn import cluster, metrics

    x, labels = directions("clustering", embeddings), np.asarray(labels)
    if labels.shape != (len(x),) or seeds < 1:
        raise ValueError(
            "`clustering` needs a label for each embedding and `seeds >= 1`, got "
            f"shapes {x.shape} and {labels.shape}, and `seeds={seeds!r}`."
        )
    classes = len(np.unique(labels))
    rows = []
    for seed in range(seeds):
        means = cluster.KMeans(classes, n_init=1, random_state=seed)
        found = means.fit_predict(x)
        rows.append(
            (
                metrics.normalized_mutual_info_score(labels, found),
                metrics.adjusted_mutual_info_score(labels, found),
                metrics.adjusted_rand_score(labels, found),
            )
        )
    return Clustering(*np.array(rows).T)
