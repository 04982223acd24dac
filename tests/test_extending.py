"""The diffs of docs/extending.md apply, and what they add trains."""

import json
import os
import pathlib
import re
import shlex
import shutil
import subprocess
import sys

import numpy as np
import pytest

ROOT = pathlib.Path(__file__).parents[1]
TEXT = (ROOT / "docs/extending.md").read_text(encoding="utf-8")
DIFFS = re.findall(r"^```diff\n(.*?)^```$", TEXT, re.MULTILINE | re.DOTALL)
(COMMAND,) = re.findall(r"^```bash\n(.*?)^```$", TEXT, re.MULTILINE | re.DOTALL)


@pytest.mark.slow
def test_what_is_added_by_the_diffs_trains(tmp_path):
    for name in ("hypersphere", "configs"):
        shutil.copytree(ROOT / name, tmp_path / name)
    shutil.copy(ROOT / "train.py", tmp_path)
    assert len(DIFFS) == 6
    for diff in DIFFS:
        subprocess.run(
            ["git", "apply", "-"], cwd=tmp_path, input=diff.encode(), check=True
        )
    labels = np.arange(60, dtype=np.int32) % 3
    images = np.eye(3)[labels].repeat(3, 1).reshape(60, 3, 3, 1)
    images = (200 * images).astype(np.uint8)
    np.savez(
        tmp_path / "tiny.npz",
        images=images[:45],
        labels=labels[:45],
        test_images=images[45:],
        test_labels=labels[45:],
        class_names=["a", "b", "c"],
    )
    program, *words = shlex.split(COMMAND.replace("\\\n", " "))
    assert program == "python"
    environment = os.environ | {"PYTHONPATH": str(tmp_path), "JAX_PLATFORMS": "cpu"}
    subprocess.run([sys.executable, *words], cwd=tmp_path, env=environment, check=True)
    result = json.loads((tmp_path / "runs/extended/result.json").read_text())
    assert result["test_accuracy"] == 1.0 and result["parameters"] == 30
