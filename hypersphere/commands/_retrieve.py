"""`retrieve`: is what is near of the same class?"""

import os
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

import numpy as np

from hypersphere import data, evaluation
from hypersphere.commands._embed import Embeddings, as_embeddings

MOST = 30_000  # images whose whole lists are sorted


def retrieve(
    embeddings: str | os.PathLike[str] | Embeddings,
    *,
    ks: Sequence[int] = (1, 2, 4, 8),
    bank: str | os.PathLike[str] | Embeddings | None = None,
    kmeans: bool = False,
    seeds: int = 10,
    class_average: bool = False,
) -> dict[str, Any]:
    """Each image in turn looks for the others of its class, by cosine.

    Args:
        embeddings: A file of `embed`, or what it returned, with labels.
        ks: For the recalls.
        bank: Other embeddings, such as of training images, to take hubs away with by
            dual bank normalization.
        kmeans: Whether to cluster as well, over `seeds` beginnings.
        seeds: How many.
        class_average: Whether to take the mean of each class first.

    Returns:
        `images`, `queries`, `lone` (alone in their class, left out), `recall` k ->
        share, `r_precision`, `map_at_r`, `map`, `mrr`, `hubness`; with a bank
        `recall_at_1_without_hubs` and `hubness_without_hubs`; with clusters `nmi`,
        `ami` and `ari`, each mean and deviation over beginnings. Of more than 30,000
        images only the recalls and the hubness, and `told` says so.

    Raises:
        FileNotFoundError: If a file is not there.
        ValueError: If there are no labels, or none has two images.

    Example:
        >>> import numpy as np
        >>> from hypersphere import commands
        >>> x = np.eye(2)[[0, 0, 1, 1]]
        >>> labels, names = np.array([0, 0, 1, 1]), np.arange(4)
        >>> few = commands.Embeddings(x, labels, names, ("a", "b"))
        >>> commands.retrieve(few, ks=[1])["map_at_r"]
        1.0
    """
    known = as_embeddings(embeddings)
    if (known.labels < 0).all():
        raise ValueError("These embeddings have no labels: there is nothing to find.")
    kept = known.labels >= 0
    x, labels = known.embeddings[kept], known.labels[kept]
    counts = np.bincount(labels)
    if counts.max() < 2:
        raise ValueError(
            f"All {len(x)} images are alone in their class: there is nothing to find."
        )
    if len(x) > MOST and class_average:
        raise ValueError(
            f"`class_average` needs whole lists, which more than {MOST:,} images do "
            "not get."
        )
    found: dict[str, Any] = {"images": len(x)}
    told = []
    if unlabelled := int((~kept).sum()):
        told.append(f"{unlabelled} images without a label are left out.")
    found |= _listed(x, labels, ks, class_average=class_average)
    if len(x) > MOST:
        told.append(f"Of more than {MOST:,} images the recalls alone.")
    k = min(10, len(x) - 1)
    near = evaluation.nearest(x, x, k, own=np.arange(len(x))).indices
    found["hubness"] = evaluation.hubness(near, len(x))
    if bank is not None:
        found |= _without_hubs(x, labels, as_embeddings(bank).embeddings, k)
    if kmeans:
        clusters = evaluation.clustering(x, labels, seeds=seeds)
        found |= {
            name: {"mean": float(values.mean()), "deviation": float(values.std())}
            for name, values in clusters._asdict().items()
        }
    if told:
        found["told"] = " ".join(told)
    return found


def _listed(
    x: np.ndarray, labels: np.ndarray, ks: Sequence[int], *, class_average: bool
) -> dict[str, Any]:
    """Measures of whole lists, or of many images the recalls."""
    if len(x) > MOST:
        lone = int(np.sum(np.bincount(labels) == 1))
        recall = evaluation.recall_of_neighbours(x, labels, ks=ks)
        return {"queries": len(x) - lone, "lone": lone, "recall": _by_text(recall)}
    whole = evaluation.retrieval(x, labels, ks=ks, class_average=class_average)
    return {
        "queries": whole.queries,
        "lone": whole.lone,
        "recall": _by_text(whole.recall),
        "r_precision": whole.r_precision,
        "map_at_r": whole.map_at_r,
        "map": whole.mean_average_precision,
        "mrr": whole.mrr,
    }


def _by_text(recall: Mapping[int, float]) -> dict[str, float]:
    return {str(k): value for k, value in recall.items()}


def _without_hubs(
    x: np.ndarray, labels: np.ndarray, bank: np.ndarray, k: int
) -> dict[str, Any]:
    """Recall and hubness after dual bank normalization, a part at a time."""
    if bank.shape[1] != x.shape[1]:
        raise ValueError(
            f"The bank has {bank.shape[1]} features, the images have {x.shape[1]}: "
            "make both with one model."
        )
    order = evaluation.without_hubs(x, bank, k)
    asked = np.bincount(labels)[labels] > 1
    first = labels[order[asked, 0]] == labels[asked]
    return {
        "recall_at_1_without_hubs": float(first.mean()),
        "hubness_without_hubs": evaluation.hubness(order, len(x)),
    }


def gallery(
    known: Embeddings, images: str | os.PathLike[str], *, queries: int = 8, k: int = 6
) -> Any:
    """A picture of queries, evenly chosen, and what is nearest to each.

    Args:
        known: Embeddings whose names are image files below a folder.
        images: The folder.
        queries: How many.
        k: How many of the nearest.

    Returns:
        The figure of `viz.gallery`.

    Raises:
        FileNotFoundError: If an image is not there.
        ValueError: If an image cannot be read, or there are too few.
    """
    from hypersphere import viz

    count = len(known.names)
    asked = np.unique(np.linspace(0, count - 1, queries).round().astype(int))
    found = evaluation.nearest(
        known.embeddings[asked], known.embeddings, min(k, count - 1), own=asked
    ).indices

    def picture(row: int) -> np.ndarray:
        file = Path(images).expanduser() / str(known.names[row])
        if not file.is_file():
            raise FileNotFoundError(f"There is no image {file}, as the names have it.")
        return data.read_image(file, (96, 96, 3))

    return viz.gallery(
        [picture(row) for row in asked],
        [[picture(row) for row in near] for near in found],
        known.labels[found] == known.labels[asked][:, None],
        known.labels_of_names()[asked].tolist(),
    )
