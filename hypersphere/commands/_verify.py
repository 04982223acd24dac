"""`verify`: are two images of the same?"""

import io
import os
from collections.abc import Sequence
from pathlib import Path
from typing import Any, NamedTuple

import numpy as np

from hypersphere import evaluation
from hypersphere.commands._embed import (
    Embeddings,
    as_embeddings,
    embed,
    read_arrays,
)
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
    _refuse_unused(path, embeddings, images, templates, cohort, given)
    if path.suffix == ".npz":
        scored = _of_arrays(path)
    elif path.suffix == ".bin":
        rows, same = _of_bin(path, given)
        first = np.arange(0, len(rows), 2)
        scored = _scored(rows, first, first + 1, same, 10, cohort, top)
    else:
        listed = read_pairs(path)
        known = known_embeddings(embeddings, images, given)
        rows, where = _rows(listed, known, templates)
        scored = _scored(rows, *where, listed.same, listed.folds, cohort, top)
    if thresholds == "insightface" and np.abs(scored.scores).max() > 1 + 1e-6:
        raise ValueError(
            "`thresholds='insightface'` is a grid of distances between unit vectors, "
            "and these scores are no cosines. Use 'exact'."
        )
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
    return found | _by_folds(scored, folds, thresholds), scored


def _by_folds(scored: Scored, folds: int | None, thresholds: str) -> dict[str, Any]:
    """The accuracy over folds, or why there is none."""
    parts = (scored.folds or 10) if folds is None else folds
    if not parts:
        return {}
    if folds is None and len(scored.same) % parts:
        pairs = len(scored.same)
        return {"told": f"No accuracy: {parts} folds do not divide {pairs:,} pairs."}
    judged = evaluation.fold_accuracy(
        scored.scores, scored.same, folds=parts, thresholds=thresholds
    )
    return {
        "folds": parts,
        "accuracy": judged.mean,
        "deviation": judged.deviation,
        "threshold": float(judged.thresholds.mean()),
    }


def _of_arrays(path: Path) -> Scored:
    if not path.is_file():
        raise FileNotFoundError(f"There is no file of pairs {path}.")
    found = read_arrays(path, "file of pairs")
    if "same" in found:
        same = found["same"]
        if not np.isin(same, (0, 1)).all():
            raise ValueError(f"{path} needs `same` of booleans, or of 0 and 1.")
        if "scores" in found:
            return Scored(found["scores"], same.astype(bool), 0)
        if {"a", "b"} <= set(found):
            cosines = evaluation.pair_cosines(found["a"], found["b"])
            return Scored(cosines, same.astype(bool), 0)
    raise ValueError(
        f"{path} needs `scores` and `same`, or `a`, `b` and `same`, got "
        f"{', '.join(found) or 'nothing'}."
    )


def _of_bin(path: Path, given: dict[str, Any]) -> tuple[np.ndarray, np.ndarray]:
    files, same = read_bin(path)
    if not given["folder"]:
        raise ValueError(f"{path} holds images: give the folder of a model.")
    trained = open_trained(
        given["folder"], best=given["best"], config_file=given["config_file"]
    )
    names: Any = [(str(i), io.BytesIO(file)) for i, file in enumerate(files)]
    examples = of_files(trained, names)
    total: Any = 0
    for change in [None, lambda x, _: x[:, :, ::-1]][: 1 + given["flip"]]:
        found = [x.features for _, x in asked(trained, examples, 64, change=change)]
        if examples.broken or any(x is None for x in found):
            what = (
                examples.broken[0] if examples.broken else "the model has no features"
            )
            raise ValueError(f"{path} cannot be judged: {what}.")
        total = total + np.concatenate([x for x in found if x is not None])
        for _, file in names:
            file.seek(0)
    return total, same


def known_embeddings(
    embeddings: Any, images: Sequence[Any], given: dict[str, Any]
) -> Embeddings:
    """Those of a file, or of images by a model."""
    if embeddings is not None:
        return as_embeddings(embeddings)
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
    number = _numbered(names, {*listed.a, *listed.b})
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
    number = _numbered(known.names.astype(str), None)
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


def _numbered(names: np.ndarray, used: set[str] | None) -> dict[str, int]:
    """Name -> row; of names that are used each is there once."""
    found: dict[str, int] = {}
    for row, name in enumerate(names):
        if name in found and (used is None or name in used):
            raise ValueError(
                f"The embeddings have the name {str(name)!r} twice: which one is meant?"
            )
        found[name] = row
    return found


def _scored(
    rows: np.ndarray,
    a: np.ndarray,
    b: np.ndarray,
    same: np.ndarray,
    folds: int,
    cohort: Any,
    top: int,
) -> Scored:
    """Scores of pairs of rows, each row compared with the cohort once."""
    scores = evaluation.pair_cosines(rows[a], rows[b])
    if cohort is None:
        return Scored(scores, same, folds)
    strangers = as_embeddings(cohort)
    if strangers.embeddings.shape[1] != rows.shape[1]:
        raise ValueError(
            f"The cohort has {strangers.embeddings.shape[1]} features, the pairs have "
            f"{rows.shape[1]}: make both with one model."
        )
    count = min(top, len(strangers.embeddings))
    used, place = np.unique(np.append(a, b), return_inverse=True)
    near = evaluation.nearest(rows[used], strangers.embeddings, count).scores
    of_a, of_b = near[place[: len(a)]], near[place[len(a) :]]
    return Scored(evaluation.as_norm(scores, of_a, of_b, top=top), same, folds)


def _refuse_unused(
    path: Path,
    embeddings: Any,
    images: Sequence[Any],
    templates: Any,
    cohort: Any,
    given: dict[str, Any],
) -> None:
    """Raises where something is given that this form of pairs has no use for."""
    has = {
        "embeddings": embeddings is not None,
        "templates": bool(templates),
        "images": bool(images),
        "cohort": cohort is not None,
        "folder": bool(given["folder"]),
        "flip": given["flip"],
    }
    useless = {
        ".npz": ("embeddings", "templates", "images", "cohort", "folder", "flip"),
        ".bin": ("embeddings", "templates", "images"),
    }.get(path.suffix, ("images", "folder", "flip") if has["embeddings"] else ())
    if wrong := [name for name in useless if has[name]]:
        raise ValueError(
            f"`{wrong[0]}` has no effect on {path.name}"
            f"{' with embeddings' if path.suffix not in ('.npz', '.bin') else ''}. "
            "Leave it out."
        )


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
        `gallery` (subjects), `probes`, `strangers`, `rank1` of the probes who are in
        it, and `tpir_at_fpir` rate -> share.

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
        if sets[kind].setdefault(template, subject) != subject:
            raise ValueError(f"{subjects} has two subjects for {template!r}.")
    gallery, probes = (list(sets[name]) for name in ("gallery", "probe"))
    people = sorted(set(sets["gallery"].values()))
    place = {subject: column for column, subject in enumerate(people)}
    owner = np.array([place[sets["gallery"][name]] for name in gallery])
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
    # A subject with several templates is as near as the nearest of them.
    scores = [
        np.stack(
            [(each @ rows[0].T)[:, owner == k].max(axis=1) for k in place.values()], 1
        )
        for each in rows[1:]
    ]
    own = np.array([place[sets["probe"][name]] for name in mated])
    rates = [0.01, 0.1]
    found = evaluation.identification(scores[0], own, scores[1], rates)
    return {
        "gallery": len(people),
        "probes": len(mated),
        "strangers": len(strangers),
        "rank1": float(np.mean(scores[0].argmax(axis=1) == own)),
        "tpir_at_fpir": dict(zip(map(str, rates), found.tpir.tolist(), strict=True)),
    }
