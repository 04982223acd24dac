"""How the networks of a study stand damaged test images.

python results/robustness.py results/small/study_operators --runs=runs --data_dir=DIR
python results/robustness.py results/small/study_operators --plot

The first asks the networks in the folders of the study's runs, with batch
normalization's statistics of 10,000 training images, and adds a line for each to
`robustness.jsonl` in the folder of the study; what has a line is not asked again. Both
print the tables that it makes: of the images that a network has right undamaged the
share that it has right damaged, in percent, as a mean over the five strengths of a
damage, and the differences to the plain network (Welch, Holm over all of them).

With --own_statistics batch normalization has, for each damage and strength, those of
training images damaged alike; lines and picture are `robustness_own_statistics.*`.
"""

import argparse
import json
import sys
from collections.abc import Iterator, Sequence
from pathlib import Path
from typing import Any

import numpy as np
from scipy import stats

from hypersphere import evaluation, experiments, training
from hypersphere.commands import _sets

DAMAGES = tuple(evaluation.CORRUPTIONS)
STRENGTHS = range(1, 6)
_BATCH = 1000

Line = dict[str, Any]


def ask(
    folders: Sequence[Path], data_dir: str, *, own_statistics: bool = False
) -> Iterator[Line]:
    """What each network has right, of the run's own test images, damaged or not.

    Args:
        folders: Of finished runs.
        data_dir: As `config.data.data_dir`; empty for the runs' own.
        own_statistics: Whether every kind of damaged images has statistics of batch
            normalization of its own, of training images damaged alike; if not, all
            have those of undamaged ones.

    Raises:
        ValueError: If runs differ in their images, or what is drawn of them by seed.
    """
    first = training.open_trained(folders[0])
    drawn = first.config.data.validation_fraction or first.config.data.train_examples
    if drawn:
        raise ValueError(
            f"{folders[0]} trained on images drawn by the seed: others have others."
        )
    calibration = list(_sets.recalibration_images(first, data_dir=data_dir))
    calibrating = np.concatenate(calibration)
    examples, _ = _sets.labelled(first, data_dir=data_dir)
    batches = list(examples.batches(0, _BATCH))
    images = np.concatenate([batch.images for batch in batches])
    labels = np.concatenate([batch.labels for batch in batches])
    damages = [(name, strength) for name in DAMAGES for strength in STRENGTHS]
    damaged = {each: evaluation.corrupted(images, *each) for each in damages}
    for number, folder in enumerate(folders, 1):
        sys.stderr.write(f"[{number}/{len(folders)}] {folder}\n")
        trained = training.open_trained(folder)
        if trained.config.data != first.config.data:
            raise ValueError(f"{folder} has other images than {folders[0]}.")
        trained.recalibrate(calibration)
        clean = _right(trained, images, labels)
        line: Line = {"operator": _operator(folder), "seed": trained.config.seed}
        line |= {"clean": round(float(clean.mean()), 4), "damaged": {}, "kept": {}}
        for name, strength in damages:
            if own_statistics:
                alike = evaluation.corrupted(calibrating, name, strength)
                trained.recalibrate(np.split(alike, len(calibration)))
            right = _right(trained, damaged[name, strength], labels)
            for told, found in (("damaged", right), ("kept", right[clean])):
                share = round(float(found.mean()), 4)
                line[told].setdefault(name, []).append(share)
        yield line


def _right(trained: Any, images: np.ndarray, labels: np.ndarray) -> np.ndarray:
    """Whether each image is named rightly."""
    parts = np.split(images, range(_BATCH, len(images), _BATCH))
    answers = trained.of_batches(parts, _BATCH)
    logits = np.concatenate([each.logits for each in answers])
    return logits.argmax(axis=1) == labels


def _operator(folder: Path) -> str:
    return folder.parent.name.removeprefix("operator=")


def _seed(folder: Path) -> int:
    return int(folder.name.removeprefix("seed"))


def kept(line: Line, damage: str) -> float:
    """Of what is right undamaged the share that is right damaged, in percent."""
    return float(100 * np.mean(line["kept"][damage]))


def tables(lines: Sequence[Line], *, to: str = "plain") -> str:
    """The shares by operator, and the differences to one, in Markdown."""
    operators = _operators(lines, to)
    head = ["operator", "n", "undamaged %", *(f"{name}, kept %" for name in DAMAGES)]
    rows = ["| " + " | ".join(head) + " |", "|" + "---|" * len(head)]
    groups: dict[str, dict[str, list[float]]] = {name: {} for name in DAMAGES}
    for operator in operators:
        runs = [line for line in lines if line["operator"] == operator]
        cells = [operator, str(len(runs)), _spread([100 * x["clean"] for x in runs])]
        for name in DAMAGES:
            groups[name][operator] = [kept(line, name) for line in runs]
            cells.append(_spread(groups[name][operator]))
        rows.append("| " + " | ".join(cells) + " |")
    found = experiments.compare_arms(groups, to=to)
    differences = experiments.comparison_to_markdown(found, to=to)
    return "\n".join(rows) + "\n\n" + differences


def _operators(lines: Sequence[Line], first: str) -> list[str]:
    return sorted({line["operator"] for line in lines}, key=lambda x: (x != first, x))


def _spread(values: Sequence[float]) -> str:
    return f"{np.mean(values):.1f} ± {np.std(values, ddof=1):.1f}"


def draw(lines: Sequence[Line], title: str = "Damaged test images") -> Any:
    """Accuracy over the strength of each damage, with 95 % intervals of the means."""
    from hypersphere.viz import PALETTE
    from hypersphere.viz._style import QUIET, new_figure, panel_title, plain_axes

    operators = _operators(lines, "plain")
    figure = new_figure(13.0, 3.2, title=title)
    row = figure.subplots(1, len(DAMAGES), sharey=True)
    for axes, name in zip(row, DAMAGES, strict=True):
        plain_axes(axes)
        panel_title(axes, name)
        axes.set_xticks([0, *STRENGTHS])
        axes.set_xlabel("strength", color=QUIET, fontsize=8)
        for operator, color in zip(operators, PALETTE, strict=False):
            runs = [x for x in lines if x["operator"] == operator]
            y = 100 * np.array([[x["clean"], *x["damaged"][name]] for x in runs])
            half = stats.t.ppf(0.975, len(y) - 1) * stats.sem(y)
            axes.errorbar(
                range(len(STRENGTHS) + 1),
                y.mean(0),
                half,
                color=color,
                label=operator,
                linewidth=1.2,
                capsize=2,
            )
    row[0].set_ylabel("accuracy, %", color=QUIET, fontsize=8)
    row[1].legend(frameon=False, fontsize=8, loc="lower left")
    return figure


def read(path: Path) -> list[Line]:
    """The lines of a file; none if it is not there."""
    if not path.is_file():
        return []
    return [json.loads(line) for line in path.read_text(encoding="utf-8").splitlines()]


def main() -> None:
    """Asks what is missing, and prints the tables."""
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument(
        "study", type=Path, help="such as results/small/study_operators"
    )
    parser.add_argument("--runs", type=Path, help="the experiments' --workdir")
    parser.add_argument("--data_dir", default="")
    parser.add_argument("--operators", nargs="+", help="ask these alone")
    parser.add_argument("--seeds", nargs="+", type=int, help="ask these alone")
    parser.add_argument(
        "--own_statistics",
        action="store_true",
        help="batch normalization's of images damaged alike",
    )
    parser.add_argument("--plot", action="store_true", help="a picture as well")
    options = parser.parse_args()
    name = "robustness" + "_own_statistics" * options.own_statistics
    file = options.study / f"{name}.jsonl"
    if options.runs:
        known = {(line["operator"], line["seed"]) for line in read(file)}
        root = options.runs / options.study.parent.name / options.study.name
        there = {
            (_operator(folder), _seed(folder)): folder
            for folder in sorted(root.glob("operator=*/seed*"))
            if (folder / "result.json").is_file()
        }
        for place, chosen in enumerate((options.operators, options.seeds)):
            found = {run[place] for run in (*there, *known)}
            if missing := set(chosen or ()) - found:
                parser.error(f"no finished run has {missing}; there are {found}.")
        folders = [
            folder
            for (operator, seed), folder in there.items()
            if (operator, seed) not in known
            and operator in (options.operators or (operator,))
            and seed in (options.seeds or (seed,))
        ]
        training.use_compilation_cache()
        asked = ask(folders, options.data_dir, own_statistics=options.own_statistics)
        for line in asked if folders else ():
            with file.open("a", encoding="utf-8") as out:
                out.write(json.dumps(line) + "\n")
    if not (lines := read(file)):
        parser.error(
            f"{file} has no line yet, and --runs names no finished run of a study by "
            "operator: there is no operator=*/seed*/result.json."
        )
    sys.stdout.write(tables(lines))
    if options.plot:
        from hypersphere.viz import save

        title = "Damaged test images" + ", own statistics" * options.own_statistics
        save(draw(lines, title), options.study / f"{name}.png")


if __name__ == "__main__":
    main()
