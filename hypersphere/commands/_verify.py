"""`verify`: are two images of the same?"""

import io
import os
from collections.abc import Sequence
from pathlib import Path
from typing import Any, NamedTuple

import numpy as np

from hypersphere import evaluation
from hypersphere.commands._embed import Embeddings, embed, read_embeddings
from hypersphere.commands._pair_lists import Pairs, read_bin, read_pairs, read_rows
from hypersphere.commands._sets import asked, of_files
from hypersphere.training import open_trained

FARS = (1e-1, 1e-2, 1e-3, 1e-4, 1e-5, 1e-6)


class Scored(NamedTuple):
    """Pairs with their scores.

    Attributes:
        scores: Cosines, or what they were made into, of shape (pairs,).
        same: Booleans of shape (pairs,).
        folds: How many the list has; 0 for none.
    """

    scores: np.ndarray
    same: np.ndarray
    folds: int


def verify(
    pairs: str | os.PathLike[str],
    *,
    embeddings: str | os.PathLike[str] | Embeddings | None = None,
    folder: str | os.PathLike[str] = "",
    images: Sequence[str | os.PathLike[str]] = (),
    flip: bool = False,
    templates: str | os.PathLike[str] = "",
    cohort: str | os.PathLike[str] | Embeddings | None = None,
    top: int = 300,
    folds: int | None = None,
    thresholds: str = "exact",
    convention: str = "conservative",
    fars: Sequence[float] = FARS,
    best: bool = False,
    config_file: str = "",
) -> tuple[dict[str, Any], Scored]:
    """How well a threshold on the cosine tells pairs of the same from others.

    Args:
        pairs: A list as `read_pairs` takes it, by names of embeddings or templates; a
            `.npz` of `scores` and `same`, or of `a`, `b` and `same`; InsightFace's
            `.bin`, which needs a model.
        embeddings: A file of `embed`, or what it returned.
        folder: Of a model that makes them of `images` instead.
        images: Image files and folders, whose names in the list are relative to these.
        flip: Whether features of the mirrored image are added.
        templates: CSV of NAME,TEMPLATE,MEDIUM and perhaps WEIGHT: the list is of
            templates then, which are pooled.
        cohort: Embeddings of strangers: scores become deviations from theirs.
        top: How many of the nearest strangers count.
        folds: Parts for the accuracy, in the order of the list; None for those of the
            list, or 10; 0 for none.
        thresholds: Of the folds, "exact" or "insightface".
        convention: Of TAR at FAR: "conservative", "nearest" or "linear".
        fars: False accept rates.
        best: Whether to take the checkpoint of the best test accuracy.
        config_file: The config file of a run that has parts of its own.

    Returns:
        `pairs`, `same`, `auc`, `eer`, `tar_at_far` rate -> share (NaN where there are
        too few different pairs), `min_dcf` at a target chance of 0.01 and 0.05, and
        with folds `accuracy`, `deviation`, `threshold`; and the scores.

    Raises:
        FileNotFoundError: If a file is not there.
        ValueError: If a name is unknown, or all pairs are of one kind.

    Example:
        >>> import pathlib, tempfile
        >>> import numpy as np
        >>> from hypersphere import commands
        >>> file = pathlib.Path(tempfile.mkdtemp(), "scores.npz")
        >>> np.savez(file, scores=[0.9, 0.1, 0.8, 0.2], same=[1, 0, 1, 0])
        >>> commands.verify(file, folds=2)[0]["eer"]
        0.0
    """
    path = Path(pairs).expanduser()
    given = dict(folder=folder, flip=flip, best=best, config_file=config_file)
    if path.suffix == ".npz":
        scored = _of_arrays(path)
        if cohort is not None:
            raise ValueError("A `cohort` needs embeddings, and a .npz has scores only.")
    elif path.suffix == ".bin":
        a, b, same = _of_bin(path, given)
        scored = _scored(a, b, same, 10, cohort, top)
    else:
        listed = read_pairs(path)
        known = _known(embeddings, images, given)
        rows, where = _rows(listed, known, templates)
        a, b = rows[where[0]], rows[where[1]]
        scored = _scored(a, b, listed.same, listed.folds, cohort, top)
    curve = evaluation.roc(scored.scores, scored.same)
    rates = evaluation.tar_at_far(curve, list(fars), convention=convention)
    found: dict[str, Any] = {
        "pairs": len(scored.same),
        "same": int(scored.same.sum()),
        "auc": evaluation.area_under(curve),
        "eer": evaluation.equal_error_rate(curve),
        "tar_at_far": dict(zip(map(str, fars), rates.tolist(), strict=True)),
        "min_dcf": {
            str(p): evaluation.min_dcf(curve, p_target=p) for p in (0.01, 0.05)
        },
    }
    parts = (scored.folds or 10) if folds is None else folds
    if parts and (folds is not None or len(scored.same) % parts == 0):
        judged = evaluation.fold_accuracy(
            scored.scores, scored.same, folds=parts, thresholds=thresholds
        )
        found |= {
            "folds": parts,
            "accuracy": judged.mean,
            "deviation": judged.deviation,
            "threshold": float(judged.thresholds.mean()),
        }
    return found, scored


def _of_arrays(path: Path) -> Scored:
    if not path.is_file():
        raise FileNotFoundError(f"There is no file of pairs {path}.")
    with np.load(path, allow_pickle=False) as arrays:
        found = {name: arrays[name] for name in arrays.files}
    if "same" in found and "scores" in found:
        return Scored(found["scores"], found["same"].astype(bool), 0)
    if {"same", "a", "b"} <= set(found):
        cosines = evaluation.pair_cosines(found["a"], found["b"])
        return Scored(cosines, found["same"].astype(bool), 0)
    raise ValueError(
        f"{path} needs `scores` and `same`, or `a`, `b` and `same`, got "
        f"{', '.join(found) or 'nothing'}."
    )


def _of_bin(path: Path, given: dict[str, Any]) -> tuple[Any, Any, np.ndarray]:
    files, same = read_bin(path)
    if not given["folder"]:
        raise ValueError(f"{path} holds images: give the folder of a model.")
    trained = open_trained(
        given["folder"], best=given["best"], config_file=given["config_file"]
    )
    names: Any = [(str(i), io.BytesIO(file)) for i, file in enumerate(files)]
    examples = of_files(trained, names)
    total: Any = 0
    for change in [None, lambda x: x[:, :, ::-1]][: 1 + given["flip"]]:
        found = [x.features for _, x in asked(trained, examples, 64, change=change)]
        if examples.broken or any(x is None for x in found):
            what = (
                examples.broken[0] if examples.broken else "the model has no features"
            )
            raise ValueError(f"{path} cannot be judged: {what}.")
        total = total + np.concatenate([x for x in found if x is not None])
        for _, file in names:
            file.seek(0)
    return total[::2], total[1::2], same


def _known(embeddings: Any, images: Sequence[Any], given: dict[str, Any]) -> Embeddings:
    if embeddings is not None:
        is_file = not isinstance(embeddings, Embeddings)
        return read_embeddings(embeddings) if is_file else embeddings
    if not given["folder"] or not images:
        raise ValueError(
            "A list of pairs needs embeddings, or a model with the images that it "
            "names."
        )
    return embed(images=images, **given)


def _rows(
    listed: Pairs, known: Embeddings, templates: str | os.PathLike[str]
) -> tuple[np.ndarray, tuple[np.ndarray, np.ndarray]]:
    """Embeddings, and where the two of each pair are among them."""
    rows, names = known.embeddings, known.names.astype(str)
    if templates:
        pooled = pool(known, templates)
        rows, names = pooled.embeddings, pooled.names.astype(str)
    number = {name: row for row, name in enumerate(names)}
    sides = []
    for side in (listed.a, listed.b):
        if unknown := [name for name in side if name not in number]:
            raise ValueError(
                f"{len(set(unknown))} names of the list are unknown, {unknown[0]!r} "
                f"the first. The embeddings have names such as {str(names[0])!r}."
            )
        sides.append(np.array([number[name] for name in side]))
    return rows, (sides[0], sides[1])


def pool(known: Embeddings, templates: str | os.PathLike[str]) -> evaluation.Templates:
    """Templates of a CSV file, of embeddings by their names."""
    number = {str(name): row for row, name in enumerate(known.names)}
    rows = read_rows(
        templates,
        what="templates",
        heading="name",
        needed="NAME,TEMPLATE,MEDIUM[,WEIGHT] with the name of an embedding",
        fits=lambda words: len(words) in (3, 4) and words[0] in number,
    )
    return evaluation.pool_templates(
        known.embeddings[[number[words[0]] for words in rows]],
        [words[1] for words in rows],
        [words[2] for words in rows],
        weights=np.array([float(words[3]) if words[3:] else 1.0 for words in rows]),
    )


def _scored(
    a: np.ndarray, b: np.ndarray, same: np.ndarray, folds: int, cohort: Any, top: int
) -> Scored:
    scores = evaluation.pair_cosines(a, b)
    if cohort is None:
        return Scored(scores, same, folds)
    strangers = cohort if isinstance(cohort, Embeddings) else read_embeddings(cohort)
    if strangers.embeddings.shape[1] != a.shape[1]:
        raise ValueError(
            f"The cohort has {strangers.embeddings.shape[1]} features, the pairs have "
            f"{a.shape[1]}: make both with one model."
        )
    count = min(top, len(strangers.embeddings))
    sides = [
        evaluation.nearest(side, strangers.embeddings, count).scores for side in (a, b)
    ]
    return Scored(evaluation.as_norm(scores, *sides, top=top), same, folds)


def identify(
    known: Embeddings,
    templates: str | os.PathLike[str],
    subjects: str | os.PathLike[str],
) -> dict[str, Any]:
    """Who is it, among many? Of templates, as IJB has it.

    Args:
        known: Embeddings.
        templates: CSV of NAME,TEMPLATE,MEDIUM and perhaps WEIGHT.
        subjects: CSV of TEMPLATE,SUBJECT,SET with SET `gallery` or `probe`; probes of
            subjects who are not in the gallery are strangers.

    Returns:
        `gallery`, `probes`, `strangers`, `rank1` of the probes who are in it, and
        `tpir_at_fpir` rate -> share.

    Raises:
        FileNotFoundError: If a file is not there.
        ValueError: If a line or a template does not fit, or one set is empty.
    """
    pooled = pool(known, templates)
    sets: dict[str, dict[str, str]] = {"gallery": {}, "probe": {}}
    for template, subject, kind in read_rows(
        subjects,
        what="subjects",
        heading="template",
        needed="TEMPLATE,SUBJECT,gallery or TEMPLATE,SUBJECT,probe",
        fits=lambda words: len(words) == 3 and words[2] in sets,
    ):
        sets[kind][template] = subject
    gallery, probes = (list(sets[name]) for name in ("gallery", "probe"))
    place = {sets["gallery"][name]: column for column, name in enumerate(gallery)}
    mated = [name for name in probes if sets["probe"][name] in place]
    strangers = [name for name in probes if sets["probe"][name] not in place]
    if not (gallery and mated and strangers):
        raise ValueError(
            f"{subjects} needs a gallery, probes who are in it and strangers, got "
            f"{len(gallery)}, {len(mated)} and {len(strangers)}."
        )
    rows = [
        pooled.embeddings[pooled.rows(names)] for names in (gallery, mated, strangers)
    ]
    scores = [each @ rows[0].T for each in rows[1:]]
    own = np.array([place[sets["probe"][name]] for name in mated])
    rates = [0.01, 0.1]
    found = evaluation.identification(scores[0], own, scores[1], rates)
    return {
        "gallery": len(gallery),
        "probes": len(mated),
        "strangers": len(strangers),
        "rank1": float(np.mean(scores[0].argmax(axis=1) == own)),
        "tpir_at_fpir": dict(zip(map(str, rates), found.tpir.tolist(), strict=True)),
    }
