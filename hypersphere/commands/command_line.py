"""The command line: one command for each thing to do with a trained model."""

import argparse
import csv
import json
import math
import sys
from collections.abc import Sequence
from pathlib import Path
from typing import Any, NoReturn

import numpy as np

from hypersphere.commands import (
    _embed,
    _evaluate,
    _openset,
    _options,
    _predict,
    _retrieve,
    _verify,
)
from hypersphere.commands._report import say, show, told_broken, write_json

_MISTAKES = (ValueError, OSError, ModuleNotFoundError, ArithmeticError)


class _Parser(argparse.ArgumentParser):
    """Says what is wrong in one line."""

    def error(self, message: str) -> NoReturn:
        self.exit(2, f"{self.prog}: {message}; --help explains.\n")


def main(arguments: Sequence[str] | None = None) -> None:
    """Runs a command; a mistake ends in one line and a status that is not 0."""
    parser = _parser()
    chosen = parser.parse_args(arguments)
    command = f"{parser.prog} {chosen.command}"
    try:
        status = chosen.run(chosen)
    except KeyboardInterrupt:
        kept = " The same command goes on." if chosen.command == "embed" else ""
        parser.exit(130, f"{command}: stopped.{kept}\n")
    except BrokenPipeError:  # `| head` has enough
        parser.exit(0)
    except _MISTAKES as error:
        parser.exit(1, f"{command}: {_line(error)}\n")
    raise SystemExit(status or 0)


def _line(error: Exception) -> str:
    return " ".join(str(error).split()) or type(error).__name__


def _parser() -> argparse.ArgumentParser:
    parser = _Parser(
        prog="python -m hypersphere",
        description="Does something with a trained model, from the folder of a run or "
        "of an export.",
    )
    commands = parser.add_subparsers(dest="command", required=True, metavar="COMMAND")
    for name, run, text in (
        ("evaluate", _run_evaluate, "accuracy, confusion, calibration, damage"),
        ("predict", _run_predict, "classes of image files"),
        ("embed", _run_embed, "features to a file"),
        ("verify", _run_verify, "pairs: ROC, EER, folds, templates"),
        ("retrieve", _run_retrieve, "neighbours: recall, MAP, hubs"),
        ("openset", _run_openset, "unknown images, novel classes"),
    ):
        made = commands.add_parser(name, help=text, description=text)
        made.set_defaults(run=run)
        getattr(_options, name)(made.add_argument)
    return parser


def _run_evaluate(chosen: argparse.Namespace) -> None:
    found = _evaluate.evaluate(
        chosen.folder,
        corrupt=chosen.corrupt,
        recalibrate=chosen.recalibrate,
        **_options.of_set(chosen),
    )
    if found["told"]:
        say(found["told"])
    told_broken(found["left_out"])
    keys = ("model", "set", "examples", "recalibrated_on", "top1", "top5")
    show("accuracy", {key: found[key] for key in keys if key in found})
    if len(found["per_class"]) <= 30:
        show("of each class", found["per_class"])
    calibration = found["calibration"]
    raw, fitted = calibration["raw"], calibration.get("fitted", {})
    temperature = calibration.get("temperature", math.nan)
    show(
        f"calibration, as it is and over a temperature of {temperature:.4g}, which is "
        "fitted on other examples",
        {name: (value, fitted.get(name, math.nan)) for name, value in raw.items()},
    )
    if found["corrupted"]:
        title = "accuracy at strengths 1 to 5"
        show(title, {k: tuple(v) for k, v in found["corrupted"].items()})
    _written(chosen, found)
    if chosen.plot:
        from hypersphere import viz

        figure = viz.confusion(np.array(found["confusion"]), list(found["per_class"]))
        _drawn(figure, chosen.plot)


def _written(chosen: argparse.Namespace, found: Any) -> None:
    if chosen.json:
        sys.stdout.write(f"{write_json(chosen.json, found)}\n")


def _drawn(figure: Any, file: str) -> None:
    from hypersphere import viz

    sys.stdout.write(f"{viz.save(figure, Path(file).expanduser())}\n")


def _run_predict(chosen: argparse.Namespace) -> int:
    images = [name for name in chosen.images if name != "-"]
    if "-" in chosen.images:
        images += [line.strip() for line in sys.stdin if line.strip()]
    if not images:
        raise ValueError("There is no image to predict.")
    predictions = _predict.predict(
        chosen.folder,
        images,
        top=chosen.top,
        temperature=chosen.temperature,
        **_options.of_model(chosen),
    )
    table = csv.writer(sys.stdout, lineterminator="\n")
    if chosen.format == "csv":
        table.writerow(("image", "class", "probability"))
    for one in predictions.found:
        pairs = list(zip(one.classes, one.probabilities, strict=True))
        if chosen.format == "jsonl":
            sys.stdout.write(json.dumps({"image": one.image, "classes": pairs}) + "\n")
        elif chosen.format == "csv":
            table.writerows((one.image, name, f"{p:.6f}") for name, p in pairs)
        else:
            words = "  ".join(f"{name} {p:.3f}" for name, p in pairs)
            sys.stdout.write(f"{one.image}  {words}\n")
        sys.stdout.flush()
    told_broken(predictions.broken)
    return 1 if predictions.broken else 0


def _run_embed(chosen: argparse.Namespace) -> None:
    found = _embed.embed(
        chosen.folder,
        chosen.out,
        images=chosen.images,
        flip=chosen.flip,
        **_options.of_set(chosen),
    )
    count, width = found.embeddings.shape
    sys.stdout.write(f"{chosen.out}: {count:,} embeddings of {width} features\n")


def _run_verify(chosen: argparse.Namespace) -> None:
    if chosen.identify:
        return _run_identify(chosen)
    found, scored = _verify.verify(
        chosen.pairs,
        embeddings=chosen.embeddings,
        folder=chosen.folder,
        images=chosen.images,
        flip=chosen.flip,
        templates=chosen.templates,
        cohort=chosen.cohort,
        top=chosen.top,
        folds=chosen.folds,
        thresholds=chosen.thresholds,
        convention=chosen.convention,
        fars=chosen.fars,
        **_options.of_model(chosen),
    )
    different = found["pairs"] - found["same"]
    rows = {key: found[key] for key in ("pairs", "same", "auc", "eer")}
    if told := found.get("told"):
        say(told)
    is_short = False
    for far, tar in found["tar_at_far"].items():
        few = f"unknown: needs {1 / float(far):,.0f} different pairs, has {different:,}"
        if not (np.isnan(tar) and is_short):  # and so are those of fewer
            name = f"TAR at FAR {far} ({chosen.convention})"
            rows[name] = few if np.isnan(tar) else tar
        is_short |= np.isnan(tar)
    for p, cost in found["min_dcf"].items():
        rows[f"minDCF at {p}"] = cost
    if "accuracy" in found:
        name = f"accuracy, {found['folds']} folds ({chosen.thresholds})"
        rows[name] = f"{found['accuracy']:.4f} ± {found['deviation']:.4f}"
        rows["threshold, mean of folds"] = found["threshold"]
    show("verification", rows)
    _written(chosen, found)
    if chosen.plot:
        from hypersphere import evaluation, viz

        curve = evaluation.roc(scored.scores, scored.same)
        _drawn(viz.roc_curves({"": (curve.far, curve.tar)}), chosen.plot)
        if np.abs(scored.scores).max() <= 1:  # cosines
            degrees = np.degrees(np.arccos(scored.scores))
            beside = Path(chosen.plot).with_suffix("")
            _drawn(viz.pair_angles(degrees, scored.same), f"{beside}-angles.png")
    return None


def _run_identify(chosen: argparse.Namespace) -> None:
    if not chosen.templates:
        raise ValueError("--identify needs --templates.")
    if chosen.plot or chosen.cohort or chosen.pairs != "-":
        raise ValueError("--identify goes with PAIRS -, without --plot and --cohort.")
    given = dict(
        folder=chosen.folder,
        flip=chosen.flip,
        **_options.of_model(chosen),
    )
    known = _verify.known_embeddings(chosen.embeddings, chosen.images, given)
    found = _verify.identify(known, chosen.templates, chosen.identify)
    rows = {key: value for key, value in found.items() if key != "tpir_at_fpir"}
    for rate, share in found["tpir_at_fpir"].items():
        rows[f"TPIR at FPIR {rate}"] = share
    show("identification", rows)
    _written(chosen, found)


def _run_retrieve(chosen: argparse.Namespace) -> None:
    known = _embed.read_embeddings(chosen.embeddings)
    if len(known.names) > 3000:
        say(f"Looking through {len(known.names):,} images ...")
    found = _retrieve.retrieve(
        known,
        ks=chosen.ks,
        bank=chosen.bank,
        kmeans=chosen.kmeans,
        seeds=chosen.seeds,
        class_average=chosen.class_average,
    )
    if told := found.get("told"):
        say(told)
    rows: dict[str, Any] = {}
    for name, value in found.items():
        if name == "recall":
            rows |= {f"recall at {k}": share for k, share in value.items()}
        elif isinstance(value, dict):
            rows[f"{name} over {chosen.seeds} seeds"] = (
                f"{value['mean']:.4f} ± {value['deviation']:.4f}"
            )
        elif name != "told":
            rows[name] = value
    show("retrieval", rows)
    _written(chosen, found)
    if chosen.plot:
        from hypersphere import viz

        _drawn(viz.class_angles(known.embeddings, known.labels), chosen.plot)
    if chosen.gallery:
        if not chosen.images:
            raise ValueError("--gallery needs --images, the folder of the names.")
        _drawn(_retrieve.gallery(known, chosen.images), chosen.gallery)


def _run_openset(chosen: argparse.Namespace) -> None:
    if chosen.novel:
        if chosen.folder or chosen.unknown or chosen.source:
            raise ValueError("--novel goes without --model, --source and SOURCE.")
        if not (chosen.support and chosen.embeddings):
            raise ValueError("--novel needs --support and --embeddings.")
        found = _openset.novel(chosen.support, chosen.embeddings, chosen.novel)
        show("nearest class mean", found)
        _written(chosen, found)
        return
    if not (chosen.folder and chosen.unknown):
        raise ValueError("It needs --model and what is unknown, or --novel.")
    found = _openset.openset(
        chosen.folder, chosen.unknown, k=chosen.k, **_options.of_set(chosen)
    )
    if found["told"]:
        say(found["told"])
    keys = ("model", "known", "unknown", "accuracy")
    show("open set", {key: found[key] for key in keys})
    names = tuple(next(iter(found["scores"].values())))
    scores = {name: tuple(each.values()) for name, each in found["scores"].items()}
    show("known against unknown", {"": names} | scores)
    _written(chosen, found)
