"""Imports point one way: from the programs down to the formulas."""

import ast
import graphlib
import pathlib
import sys

import pytest

ROOT = pathlib.Path(__file__).parents[1] / "hypersphere"

# What each package may import of the others. A new package needs a row.
ALLOWED = {
    "_quantized": set(),
    "_checks": {"_quantized"},
    "_dtypes": set(),
    "_average": set(),
    "_select": set(),
    "_peaks": set(),
    "_files": set(),
    "_extras": set(),
    "ops": {"_checks", "_dtypes", "_quantized"},
    "_class_centres": {"_checks", "ops"},
    "nn": {"_checks", "_dtypes", "_average", "_select", "_class_centres", "ops"},
    "linen": {"_checks", "_dtypes", "_average", "_select", "_class_centres", "ops"},
    "losses": {"_checks", "_dtypes", "ops"},
    "regularizers": {"_checks", "_dtypes", "_select", "ops"},
    "optim": {"_checks", "_dtypes", "ops"},
    "models": {
        "_checks",
        "_dtypes",
        "_average",
        "ops",
        "nn",
        "losses",
        "regularizers",
        "optim",
    },
    "data": {"_checks", "_files"},
    "viz": {"_checks", "ops"},
    "evaluation": {"_checks", "_extras"},
    "aot": {"_peaks"},
    "__init__": {"ops", "nn", "linen", "losses", "regularizers", "optim", "models"},
}
ALLOWED["training"] = set(ALLOWED) - {"linen"}
ALLOWED["recipes"] = {"_select", "ops", "nn", "losses", "models", "optim", "training"}
ALLOWED["experiments"] = {"_files", "training", "viz"}
ALLOWED["commands"] = {
    "_extras",
    "_files",
    "_select",
    "nn",
    "data",
    "evaluation",
    "training",
    "viz",
}
ALLOWED["__main__"] = {"_extras", "commands"}

# The rooms of the training program, and what each may import of the others.
ROOMS = {
    "settings": set(),
    "machine": {"settings"},
    "checkpoints": {"machine"},
    "compute": {"settings", "machine"},
    "run": {"settings", "machine", "checkpoints", "compute"},
}

# The one file of the training program that looks recipes up, when it is asked to.
LOOKS_UP = "training/settings/_recipe.py"

# What these import of other distributions; the rest of the packages are extras.
CORE = {"jax", "numpy", "jaxtyping"}
OUTSIDE = {
    "_quantized": CORE | {"qwix"},  # inside a function
    "_checks": CORE,
    "_dtypes": CORE,
    "_average": CORE,
    "_select": CORE,
    "_peaks": set(),
    "_files": set(),
    "_extras": set(),
    "aot": CORE,
    "ops": CORE,
    "_class_centres": CORE,
    "nn": CORE | {"flax"},
    "linen": CORE | {"flax"},
    "losses": CORE | {"optax"},
    "regularizers": CORE,
    "optim": CORE | {"optax"},
    "evaluation": CORE | {"scipy", "sklearn"},  # JAX brings SciPy
    "models": CORE | {"flax", "optax"},
    "__init__": CORE | {"flax", "optax"},
}

# Files that are themselves imported inside a function only.
ON_REQUEST = {"data/_tfds.py"}


def imports(source):
    """Yields every module a file imports, and whether importing the file does so."""
    tree = ast.parse(source)
    later = {
        inner
        for outer in ast.walk(tree)
        if isinstance(outer, ast.FunctionDef | ast.AsyncFunctionDef | ast.Lambda)
        for inner in ast.walk(outer)
    }
    for node in ast.walk(tree):
        if isinstance(node, ast.Import):
            for alias in node.names:
                yield alias.name, node not in later
        elif isinstance(node, ast.ImportFrom):
            module = "." * node.level + (node.module or "")
            for alias in node.names:
                yield f"{module}.{alias.name}", node not in later


def misplaced(path, package, target, below):
    """What a room of the training program, or a recipe, may not import of it."""
    if target != "training" or len(below) < 2:
        return []
    of = below[1]
    if package == "recipes" and of != "settings":
        return [f"{path}: recipes imports training.{of}"]
    room = pathlib.PurePath(path).parts[1]
    if package == "training" and room in ROOMS and of not in ROOMS[room] | {room}:
        return [f"{path}: the room {room} imports {of}"]
    return []


def violations(path, source):
    """What a file of the package, named from its root, may not import."""
    package = pathlib.PurePath(path).parts[0].removesuffix(".py")
    if package not in ALLOWED:
        return [f"{path}: {package} has no row"]
    found = []
    for module, at_once in imports(source):
        top, *below = module.split(".")
        if top == "":
            found.append(f"{path}: the import of {module} is relative")
        elif top == "hypersphere":
            target = below[0] if below and below[0] in ALLOWED else "__init__"
            if target == "recipes" and path == LOOKS_UP and not at_once:
                continue
            found += misplaced(path, package, target, below)
            if target not in ALLOWED[package] | {package}:
                found.append(f"{path}: {package} imports {target}")
            elif target != package and len(below) > 2 and below[1].startswith("_"):
                found.append(f"{path}: {module} is private to {target}")
            file = "/".join(below[:2]) + ".py"
            if at_once and file in ON_REQUEST:
                found.append(f"{path}: {file} is imported at the top")
        elif top == "tensorflow":
            found.append(f"{path}: imports tensorflow")
        elif top == "tensorflow_datasets":
            if at_once and path not in ON_REQUEST:
                found.append(f"{path}: imports tensorflow_datasets at the top")
        elif package in OUTSIDE and top not in OUTSIDE[package]:
            if top not in sys.stdlib_module_names:
                found.append(f"{path}: {package} imports {top}")
    return found


FILES = sorted(path.relative_to(ROOT).as_posix() for path in ROOT.rglob("*.py"))


@pytest.mark.parametrize("path", FILES)
def test_imports_point_down(path):
    assert violations(path, (ROOT / path).read_text()) == []


def test_the_allowed_arrows_form_no_circle():
    order = list(graphlib.TopologicalSorter(ALLOWED).static_order())
    assert order.index("ops") < order.index("nn") < order.index("models")
    assert order.index("training") < order.index("recipes")
    assert set(order[-4:]) == {"recipes", "experiments", "commands", "__main__"}
    assert list(graphlib.TopologicalSorter(ROOMS).static_order())[-1] == "run"
    assert not ALLOWED["losses"] & {"nn", "linen"}
    assert not ALLOWED["nn"] & {"losses", "linen"}


PLANTED = {
    ("ops/_x.py", "from hypersphere import nn"): "ops imports nn",
    ("ops/_x.py", "import flax.nnx"): "ops imports flax",
    ("ops/_x.py", "import optax as o"): "ops imports optax",
    ("ops/_x.py", "import hypersphere"): "ops imports __init__",
    ("_checks.py", "from hypersphere.ops import unit"): "_checks imports ops",
    ("nn/_x.py", "import hypersphere.losses"): "nn imports losses",
    ("nn/_x.py", "from hypersphere.losses._y import f"): "nn imports losses",
    ("nn/sub/_x.py", "def f():\n    from hypersphere import models"): (
        "nn imports models"
    ),
    ("losses/_x.py", "if True:\n    from hypersphere import ops, nn"): (
        "losses imports nn"
    ),
    ("losses/_x.py", "import flax"): "losses imports flax",
    ("models/_x.py", "from hypersphere.data import load"): "models imports data",
    ("data/_x.py", "from hypersphere.models import SphereNet"): "data imports models",
    ("viz/_x.py", "import hypersphere.training as t"): "viz imports training",
    ("training/_x.py", "from hypersphere.data._tar import f"): "is private to data",
    ("training/run/_x.py", "from hypersphere import recipes"): (
        "training imports recipes"
    ),
    ("training/settings/_recipe.py", "from hypersphere import recipes"): (
        "training imports recipes"
    ),
    ("training/compute/_x.py", "import hypersphere.training.run._loop"): (
        "the room compute imports run"
    ),
    ("training/machine/_x.py", "from hypersphere.training import train"): (
        "the room machine imports train"
    ),
    ("recipes/_x.py", "from hypersphere.training.compute import Task"): (
        "recipes imports training.compute"
    ),
    ("__init__.py", "from hypersphere import training"): "__init__ imports training",
    ("nn/_x.py", "from . import _conv"): "the import of ..*_conv is relative",
    ("nn/_x.py", "from ..ops import unit"): "is relative",
    ("newcomer/_x.py", ""): "newcomer has no row",
    ("training/_x.py", "def f():\n    import tensorflow as tf"): "imports tensorflow",
    ("training/_x.py", "from tensorflow.io import gfile"): "imports tensorflow",
    ("data/_x.py", "import tensorflow_datasets"): "tensorflow_datasets at the top",
    ("data/_x.py", "from hypersphere.data._tfds import load_tfds"): (
        "data/_tfds.py is imported at the top"
    ),
    ("data/_x.py", "class A:\n    from hypersphere.data import _tfds"): (
        "data/_tfds.py is imported at the top"
    ),
}


@pytest.mark.parametrize(("path", "source"), PLANTED)
def test_a_planted_violation_is_caught(path, source):
    (found,) = violations(path, source)
    expected = PLANTED[path, source]
    assert found.startswith(path) and all(part in found for part in expected.split("*"))


@pytest.mark.parametrize(
    ("path", "source"),
    [
        ("ops/_x.py", "import math\nimport jax.numpy as jnp\nfrom jax import lax"),
        ("ops/_x.py", "from hypersphere._checks import check_positive"),
        ("nn/_x.py", "from flax import nnx\nfrom hypersphere import ops"),
        ("models/_x.py", "from hypersphere import losses, nn"),
        ("training/_x.py", "import orbax.checkpoint\nfrom hypersphere import data"),
        ("training/_x.py", "from hypersphere import __version__"),
        ("data/_x.py", "def f():\n    import tensorflow_datasets"),
        ("data/_x.py", "def f():\n    from hypersphere.data._tfds import load_tfds"),
    ],
)
def test_what_is_allowed_passes(path, source):
    assert violations(path, source) == []
