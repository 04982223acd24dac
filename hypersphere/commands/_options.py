"""What the commands are told on the command line."""

from collections.abc import Callable
from typing import Any

from hypersphere import evaluation
from hypersphere.commands._verify import FARS

Add = Callable[..., Any]


def _model_options(add: Add, *, is_needed: bool = True) -> None:
    text = "folder of a run, or of an export"
    if is_needed:
        add("folder", metavar="FOLDER", help=text)
    else:
        add("--model", dest="folder", default="", metavar="FOLDER", help=text)
    add("--best", action="store_true", help="the checkpoint of the best test accuracy")
    add("--config", default="", metavar="FILE", help="of a run with parts of its own")


def _set_options(add: Add) -> None:
    add("--source", default="", help="as config.data.source (default: the run's own)")
    add("--part", default="test", help="train, test (default) or validation")
    add("--data_dir", default="", metavar="DIR", help="as config.data.data_dir")
    add("--batch_size", type=int, default=256, metavar="N", help="default %(default)s")


def _out_options(add: Add, picture: str) -> None:
    add("--json", default="", metavar="FILE", help="write all numbers there")
    if picture:
        add("--plot", default="", metavar="PNG", help=picture)


def _names(text: str) -> list[str]:
    return [name for name in text.split(",") if name]


def _numbers(kind: Callable[[str], Any]) -> Callable[[str], list[Any]]:
    def read(text: str) -> list[Any]:
        return [kind(each) for each in _names(text)]

    read.__name__ = f"list of {kind.__name__}"
    return read


def evaluate(add: Add) -> None:
    """Those of `evaluate`."""
    _model_options(add)
    _set_options(add)
    add(
        "--corrupt",
        type=_names,
        default=[],
        metavar="NAMES",
        help=f"of {','.join(evaluation.CORRUPTIONS)}, each at five strengths",
    )
    add(
        "--recalibrate",
        action="store_true",
        help="take batch normalization's statistics anew, from 10,000 training images "
        "at most",
    )
    _out_options(add, "the confusion matrix")


def predict(add: Add) -> None:
    """Those of `predict`."""
    _model_options(add)
    add("images", nargs="+", metavar="IMAGE|FOLDER|-", help="- reads names from stdin")
    add("--top", type=int, default=3, metavar="N", help="classes (default %(default)s)")
    add(
        "--temperature",
        type=float,
        default=1.0,
        help="what scores are divided by (default 1); `evaluate` tells a good one",
    )
    add("--format", choices=("table", "jsonl", "csv"), default="table")


def embed(add: Add) -> None:
    """Those of `embed`."""
    _model_options(add)
    add("out", metavar="OUT", help=".npz, or .parquet with pyarrow")
    add(
        "--images",
        nargs="+",
        default=[],
        metavar="PATH",
        help="image files and folders in place of a set; their classes are the folders",
    )
    _set_options(add)
    add("--flip", action="store_true", help="add the features of the mirrored image")


def verify(add: Add) -> None:
    """Those of `verify`."""
    add("pairs", metavar="PAIRS", help="pairs.txt, trials, .csv, .npz or .bin")
    add("--embeddings", default=None, metavar="NPZ", help="of `embed`")
    _model_options(add, is_needed=False)
    add("--images", nargs="+", default=[], metavar="PATH", help="that the model embeds")
    add("--flip", action="store_true", help="add the features of the mirrored image")
    add("--templates", default="", metavar="CSV", help="NAME,TEMPLATE,MEDIUM[,WEIGHT]")
    add(
        "--identify",
        default="",
        metavar="CSV",
        help="TEMPLATE,SUBJECT,gallery|probe: who is it? PAIRS is - then",
    )
    add("--cohort", default=None, metavar="NPZ", help="strangers, for AS-Norm")
    add("--top", type=int, default=300, help="nearest strangers (default %(default)s)")
    add("--folds", type=int, default=None, help="default 10; 0 for none")
    add("--thresholds", default="exact", help="exact (default) or insightface")
    add(
        "--convention",
        default="conservative",
        help="of TAR at FAR: conservative (default), nearest or linear",
    )
    add("--fars", type=_numbers(float), default=list(FARS), metavar="NUMBERS")
    _out_options(add, "ROC; beside it PNG-angles.png")


def retrieve(add: Add) -> None:
    """Those of `retrieve`."""
    add("embeddings", metavar="NPZ", help="of `embed`, with labels")
    add("--ks", type=_numbers(int), default=[1, 2, 4, 8], metavar="NUMBERS")
    add("--bank", default=None, metavar="NPZ", help="others, to take hubs away")
    add("--kmeans", action="store_true", help="clusters over ten seeds")
    add("--seeds", type=int, default=10, help="of them (default %(default)s)")
    add("--class_average", action="store_true", help="the mean of each class first")
    add("--images", default="", metavar="DIR", help="where names are, for --gallery")
    add("--gallery", default="", metavar="PNG", help="eight queries and their nearest")
    _out_options(add, "angles within and between classes")


def openset(add: Add) -> None:
    """Those of `openset`."""
    _model_options(add, is_needed=False)
    add("unknown", nargs="?", default="", metavar="SOURCE|FOLDER", help="of no class")
    _set_options(add)
    add("--k", type=int, default=50, help="which neighbour (default %(default)s)")
    add(
        "--novel",
        type=_names,
        default=[],
        metavar="NAMES",
        help="classes not trained on",
    )
    add(
        "--support", default="", metavar="NPZ", help="of `embed`: makes the class means"
    )
    add("--embeddings", default="", metavar="NPZ", help="of `embed`: is judged by them")
    _out_options(add, "")


def of_set(chosen: Any) -> dict[str, Any]:
    """The arguments of functions that ask a model about a set."""
    return dict(
        source=chosen.source,
        part=chosen.part,
        data_dir=chosen.data_dir,
        batch_size=chosen.batch_size,
        **of_model(chosen),
    )


def of_model(chosen: Any) -> dict[str, Any]:
    """The arguments of functions that open a model."""
    return dict(best=chosen.best, config_file=chosen.config)
