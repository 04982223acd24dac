"""`import hypersphere` stays light, and shows its parts."""

import json
import pathlib
import subprocess
import sys

ROOT = pathlib.Path(__file__).parents[1]

# Flax itself loads some of the extras: only what comes on top of it counts.
PROGRAM = """
import json, sys
import flax.nnx, jaxtyping, numpy, optax
before = set(sys.modules)
import hypersphere
print(json.dumps([sorted(set(sys.modules) - before), dir(hypersphere)]))
"""
EXTRAS = {
    "PIL",
    "absl",
    "matplotlib",
    "ml_collections",
    "orbax",
    "rich",
    "tensorboardX",
    "tensorflow",
    "tensorflow_datasets",
}


def test_importing_the_package_loads_its_parts_and_no_extra():
    answer = subprocess.run(
        [sys.executable, "-W", "error", "-c", PROGRAM],
        cwd=ROOT,
        capture_output=True,
        text=True,
        check=False,
    )
    assert answer.returncode == 0, answer.stderr
    loaded, names = json.loads(answer.stdout)
    assert "hypersphere.ops" in loaded
    assert EXTRAS & {module.split(".")[0] for module in loaded} == set()
    assert {"hypersphere.training", "hypersphere.data"} & set(loaded) == set()
    assert {"losses", "nn", "ops", "regularizers", "__version__"} <= set(names)
