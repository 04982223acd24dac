"""`predict`: the classes of image files."""

import os
from collections.abc import Iterator, Sequence
from pathlib import Path
from typing import NamedTuple

import numpy as np
from scipy import special

from hypersphere import data
from hypersphere.commands._sets import Examples, asked, of_files
from hypersphere.training import open_trained


class Prediction(NamedTuple):
    """What an image is taken for.

    Attributes:
        image: Its name.
        classes: The most probable ones, the best first.
        probabilities: Of the softmax without a margin, as they are: a margin's head is
            far too sure of itself (`evaluate` gives the temperature).
    """

    image: str
    classes: tuple[str, ...]
    probabilities: tuple[float, ...]


class Predictions(NamedTuple):
    """Predictions, made as they are taken, and what was left out until then."""

    found: Iterator[Prediction]
    broken: list[str]


def predict(
    folder: str | os.PathLike[str],
    images: Sequence[str | os.PathLike[str]],
    *,
    top: int = 3,
    temperature: float = 1.0,
    batch_size: int = 64,
    best: bool = False,
    config_file: str = "",
) -> Predictions:
    """The most probable classes of image files, and of all in folders.

    Args:
        folder: Of a run, or an export.
        images: Files and folders; those in folders are taken in the order of names.
        top: How many classes, at least one.
        temperature: What scores are divided by, positive.
        batch_size: Images at a time.
        best: Whether to take the checkpoint of the best test accuracy.
        config_file: The config file of a run that has parts of its own.

    Returns:
        An iterator, and a list of files that could not be read, which grows with it.

    Raises:
        FileNotFoundError: If the model or all of the images are not there; a single
            one that is missing is told with the broken ones.
        ValueError: If the model takes no image files or gives no classes.

    Example:
        >>> from hypersphere import commands
        >>> for one in commands.predict("runs/q", ["7.png"]).found:  # doctest: +SKIP
        ...     print(one.image, one.classes[0])
        7.png 7
    """
    if top < 1 or not temperature > 0:
        raise ValueError(
            f"`predict` needs `top >= 1` and `temperature > 0`, got {top!r} and "
            f"{temperature!r}."
        )
    trained = open_trained(folder, best=best, config_file=config_file)
    if not trained.images.num_classes:
        raise ValueError(f"{trained.name} has no classes. `embed` takes its features.")
    missing = [str(name) for name in images if not _is_there(name)]
    there = [str(name) for name in images if _is_there(name)]
    if not there:
        raise FileNotFoundError(f"There is no image and no folder {missing[:3]}.")
    examples: Examples = of_files(trained, data.image_files(there))
    examples.broken.extend(f"{name or 'an empty name'} (not there)" for name in missing)

    def found() -> Iterator[Prediction]:
        for batch, answers in asked(trained, examples, batch_size):
            if answers.logits is None:
                raise ValueError(f"{trained.name} gives no scores of classes.")
            scores = answers.logits.astype(np.float64) / temperature
            p = special.softmax(scores, axis=1)
            order = np.argsort(-p, axis=1, kind="stable")[:, :top]
            for name, row, places in zip(batch.names, p, order, strict=True):
                yield Prediction(
                    name,
                    tuple(trained.class_names[i] for i in places),
                    tuple(float(row[i]) for i in places),
                )

    return Predictions(found(), examples.broken)


def _is_there(name: str | os.PathLike[str]) -> bool:
    return bool(str(name)) and Path(name).expanduser().exists()
