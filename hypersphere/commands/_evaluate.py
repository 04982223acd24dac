"""`evaluate`: how well a model names the classes of a set."""

import functools
import os
from collections.abc import Sequence
from typing import Any

import numpy as np
from scipy import special

from hypersphere import evaluation
from hypersphere.commands._report import progress
from hypersphere.commands._sets import Examples, asked, labelled, recalibration_images
from hypersphere.training import Trained, open_trained


def evaluate(
    folder: str | os.PathLike[str],
    *,
    source: str = "",
    part: str = "test",
    data_dir: str = "",
    corrupt: Sequence[str] = (),
    recalibrate: bool = False,
    batch_size: int = 256,
    best: bool = False,
    config_file: str = "",
) -> dict[str, Any]:
    """How well a trained model names the classes of a set, and how sure it is.

    Calibration is that of the softmax of the scores without a margin, as they are and
    over a temperature; each half of the examples (even, odd) is judged at the
    temperature that is fitted on the other one.

    Args:
        folder: Of a run, or an export.
        source: As `config.data.source`; empty for the set that it was trained on.
        part: `train`, `test` or `validation`.
        data_dir: As `config.data.data_dir`; empty for the run's.
        corrupt: Names of `evaluation.CORRUPTIONS`, each tried at five strengths.
        recalibrate: Whether the statistics of batch normalization are taken anew from
            up to 10,000 of the run's training images, as its `test@recalibrated` does;
            running averages follow weights that change fast too slowly.
        batch_size: Images at a time.
        best: Whether to take the checkpoint of the best test accuracy.
        config_file: The config file of a run that has parts of its own.

    Returns:
        `model`, `set`, `examples`, `top1`, `top5` (of more than five classes),
        `recalibrated_on` so many images, if asked to, `per_class` by name, `confusion`
        (rows are the truth), `calibration` with `raw` and `fitted` numbers and the mean
        `temperature`, `corrupted` name -> five accuracies, `left_out` what could not be
        read and `told` what else to know.

    Raises:
        FileNotFoundError: If the folder or the set is not there.
        ValueError: If it does not fit the model, or has no example; if there is no
            batch normalization to recalibrate.

    Example:
        >>> from hypersphere import commands
        >>> found = commands.evaluate("runs/quickstart")  # doctest: +SKIP
        >>> found["top1"]  # doctest: +SKIP
        0.989
    """
    if unknown := [name for name in corrupt if name not in evaluation.CORRUPTIONS]:
        raise ValueError(
            f"`corrupt` knows {', '.join(evaluation.CORRUPTIONS)}, got {unknown[0]!r}."
        )
    trained = open_trained(folder, best=best, config_file=config_file)
    recalibrated_on = 0
    if recalibrate:
        where = {"data_dir": data_dir, "config_file": config_file}
        recalibrated_on = trained.recalibrate(recalibration_images(trained, **where))
    examples, told = labelled(
        trained, source, part, data_dir=data_dir, config_file=config_file
    )
    logits, labels = _logits(trained, examples, batch_size)
    predicted = logits.argmax(axis=1)
    count = logits.shape[1]
    confusion = evaluation.confusion_matrix(predicted, labels, num_classes=count)
    recall = evaluation.per_class_accuracy(confusion)
    found: dict[str, Any] = {
        "model": trained.name,
        "set": examples.name,
        "examples": len(labels),
        "top1": evaluation.top_k_accuracy(logits, labels),
    }
    if recalibrate:
        found["recalibrated_on"] = recalibrated_on
    if count > 5:
        found["top5"] = evaluation.top_k_accuracy(logits, labels, k=5)
    found |= {
        "per_class": dict(zip(examples.class_names, recall.tolist(), strict=True)),
        "confusion": confusion.tolist(),
        "calibration": _calibration(logits, labels),
        "corrupted": {
            name: [
                _corrupted(trained, examples, name, strength, batch_size)
                for strength in range(1, len(evaluation.CORRUPTIONS[name][1]) + 1)
            ]
            for name in corrupt
        },
        "left_out": sorted(set(examples.broken)),
        "told": told,
    }
    return found


def _logits(
    trained: Trained, examples: Examples, batch_size: int, **options: Any
) -> tuple[np.ndarray, np.ndarray]:
    found = []
    batches = asked(trained, examples, batch_size, **options)
    for batch, answers in progress(batches, examples.size, "images"):
        if answers.logits is None:
            raise ValueError(
                f"{trained.name} gives no scores of classes: there is nothing to "
                "evaluate. `embed` takes its features."
            )
        found.append((answers.logits, batch.labels))
    if not found:
        raise ValueError(f"There is no example in {examples.name}.")
    logits, labels = (np.concatenate(x) for x in zip(*found, strict=True))
    return logits, labels


def _corrupted(
    trained: Trained, examples: Examples, name: str, strength: int, batch_size: int
) -> float:
    def change(images: np.ndarray, first: int) -> np.ndarray:
        return evaluation.corrupted(images, name, strength, first=first)

    logits, labels = _logits(trained, examples, batch_size, change=change)
    return evaluation.top_k_accuracy(logits, labels)


def _calibration(logits: np.ndarray, labels: np.ndarray) -> dict[str, Any]:
    found: dict[str, Any] = {"raw": _measures(logits, labels)}
    halves = [np.arange(len(labels)) % 2 == k for k in (0, 1)]
    if min(half.sum() for half in halves) == 0:
        return found
    temperatures = [
        evaluation.fit_temperature(logits[half], labels[half]) for half in halves[::-1]
    ]
    scaled = logits.astype(np.float64)
    for half, temperature in zip(halves, temperatures, strict=True):
        scaled[half] /= temperature
    found["fitted"] = _measures(scaled, labels)
    found["temperature"] = float(np.mean(temperatures))
    return found


def _measures(logits: np.ndarray, labels: np.ndarray) -> dict[str, float]:
    p = special.softmax(logits.astype(np.float64), axis=1)
    error = functools.partial(evaluation.calibration_error, p, labels)
    return {
        "ece": error(),
        "adaptive_ece": error(binning="mass"),
        "max_ce": error(norm="max"),
        "classwise_ece": evaluation.classwise_calibration_error(p, labels),
        "brier": evaluation.brier_score(p, labels),
        "nll": evaluation.negative_log_likelihood(logits, labels),
    }
