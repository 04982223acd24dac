"""`openset`: does a model know what it does not know?"""

import os
from collections.abc import Sequence
from typing import Any

import numpy as np
from scipy import special

from hypersphere import data, evaluation
from hypersphere.commands._embed import Embeddings, as_embeddings
from hypersphere.commands._report import progress, say
from hypersphere.commands._sets import Examples, asked, labelled, of_files
from hypersphere.training import Trained, open_trained


def openset(
    folder: str | os.PathLike[str],
    unknown: str,
    *,
    source: str = "",
    part: str = "test",
    data_dir: str = "",
    batch_size: int = 256,
    k: int = 50,
    best: bool = False,
    config_file: str = "",
) -> dict[str, Any]:
    """Known classes against images of none of them, by six scores.

    Args:
        folder: Of a run, or an export, of a model with features.
        unknown: A source, as `config.data.source`, whose part is unknown, or a folder
            of images; it is brought to the model's shape where it can be read so.
        source: Of the known ones; empty for the set that it was trained on.
        part: Of both, `train`, `test` or `validation`; the training part of the known
            ones makes the means, the covariance and the neighbours.
        data_dir: As `config.data.data_dir`; empty for the run's.
        batch_size: Images at a time.
        k: Which neighbour's cosine counts.
        best: Whether to take the checkpoint of the best test accuracy.
        config_file: The config file of a run that has parts of its own.

    Returns:
        `known`, `unknown` (how many), `accuracy` of the known ones and `scores` name ->
        the numbers of `evaluation.detection`, and `oscr`. The scores are `max_softmax`,
        `max_logit`, `energy`, `cosine` (to the nearest class mean), `mahalanobis` and
        `knn`. `told` says what was not done by the names of classes.

    Raises:
        FileNotFoundError: If a folder or set is not there.
        ValueError: If the model has no features or no classes, or shapes differ.

    Example:
        >>> from hypersphere import commands
        >>> found = commands.openset("runs/q", "folder:letters")  # doctest: +SKIP
        >>> found["scores"]["cosine"]["auroc"]  # doctest: +SKIP
        0.98
    """
    trained = open_trained(folder, best=best, config_file=config_file)
    lines: set[str] = set()

    def read(part: str) -> Examples:
        examples, told = labelled(
            trained, source, part, data_dir=data_dir, config_file=config_file
        )
        lines.update({told} - {""})
        return examples

    logits, features, labels = _asked(trained, read(part), batch_size)
    strangers = _strangers(trained, unknown, part, data_dir)
    far_logits, far_features, _ = _asked(trained, strangers, batch_size)
    _, train, classes = _asked(trained, read("train"), batch_size)
    means, _ = evaluation.class_means(train, classes)
    right = logits.argmax(axis=1) == labels
    scores = {
        "max_softmax": lambda o, x: special.softmax(o, axis=1).max(axis=1),
        "max_logit": lambda o, x: o.max(axis=1),
        "energy": lambda o, x: evaluation.energy_score(o),
        "cosine": lambda o, x: evaluation.cosine_score(x, means),
        "mahalanobis": lambda o, x: evaluation.mahalanobis_score(x, train, classes),
        "knn": lambda o, x: evaluation.knn_score(x, train, k=k),
    }
    found = {}
    for name, score in scores.items():
        near, far = score(logits, features), score(far_logits, far_features)
        found[name] = evaluation.detection(near, far)._asdict()
        found[name]["oscr"] = evaluation.oscr(near, right, far)
    return {
        "model": trained.name,
        "known": len(labels),
        "unknown": len(far_logits),
        "accuracy": float(right.mean()),
        "scores": found,
        "told": " ".join(sorted(lines)),
    }


def _asked(
    trained: Trained, examples: Examples, batch_size: int
) -> tuple[np.ndarray, np.ndarray, np.ndarray]:
    logits, features, labels = [], [], []
    batches = asked(trained, examples, batch_size)
    for batch, answers in progress(batches, examples.size, examples.name):
        if answers.logits is None or answers.features is None:
            raise ValueError(
                "`openset` needs a model with classes and features, and "
                f"{trained.name} has no "
                f"{'classes' if answers.logits is None else 'features'}."
            )
        logits.append(answers.logits.astype(np.float64))
        features.append(answers.features.reshape(len(batch.names), -1))
        labels.append(batch.labels)
    for line in examples.broken:
        say(f"Left out: {line}")
    if not labels:
        raise ValueError(f"There is no example in {examples.name}.")
    return np.concatenate(logits), np.concatenate(features), np.concatenate(labels)


def _strangers(trained: Trained, unknown: str, part: str, data_dir: str) -> Examples:
    """A source whose classes are none of the model's, or image files."""
    if not data.is_source(unknown):
        return of_files(trained, data.image_files([unknown]))
    return labelled(trained, unknown, part, data_dir=data_dir, by_name=False)[0]


def novel(
    support: str | os.PathLike[str] | Embeddings,
    test: str | os.PathLike[str] | Embeddings,
    novel_names: Sequence[str],
) -> dict[str, Any]:
    """The novel-class protocol: the nearest mean, of known classes and of novel ones.

    Args:
        support: Embeddings that make the class means, a file of `embed` or what it
            returned.
        test: Those that are judged, of the same model.
        novel_names: The names of the classes that were not trained on.

    Returns:
        `known`, `novel` and `harmonic`, shares in [0, 1].

    Raises:
        FileNotFoundError: If a file is not there.
        ValueError: If a name is unknown, or widths differ.

    Example:
        >>> import numpy as np
        >>> from hypersphere import commands
        >>> x, y = np.eye(2)[[0, 1]], np.array([0, 1])
        >>> few = commands.Embeddings(x, y, np.arange(2), ("cat", "dog"))
        >>> commands.novel(few, few, ["dog"])["harmonic"]
        1.0
    """
    kept, judged = as_embeddings(support), as_embeddings(test)
    if kept.embeddings.shape[1] != judged.embeddings.shape[1]:
        raise ValueError(
            f"Means have {kept.embeddings.shape[1]} features, the test images "
            f"{judged.embeddings.shape[1]}: make both with one model."
        )
    if unknown := set(novel_names) - set(kept.class_names):
        raise ValueError(
            f"There is no class {sorted(unknown)[0]!r}; there are "
            f"{', '.join(kept.class_names[:20])}."
        )
    means, classes = evaluation.class_means(kept.embeddings, kept.labels_of_names())
    return evaluation.novel_classes(
        judged.embeddings, judged.labels_of_names(), means, classes, list(novel_names)
    )._asdict()
