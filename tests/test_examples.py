"""Each example trains, at a tiny size, by its first lines' command, and is exported."""

import pathlib
import re
import subprocess
import sys

import pytest

from hypersphere import training

ROOT = pathlib.Path(__file__).parents[1]
EXAMPLES = sorted((ROOT / "examples").glob("*.py"))
SMALL = (
    "--config.steps=2",
    "--config.batch_size=8",
    "--config.eval_batch_size=8",
    "--config.data.source=synthetic:8x8x1,classes=3,examples=40",
)


@pytest.mark.slow
@pytest.mark.usefixtures("as_a_user")  # a batch of any size is no int
@pytest.mark.parametrize("path", EXAMPLES, ids=[path.stem for path in EXAMPLES])
def test_an_example_trains_by_its_own_command(path, tmp_path):
    (command,) = re.findall(
        r"^    python (train\.py --config=\S+)", path.read_text(), re.M
    )
    run = subprocess.run(
        [sys.executable, *command.split(), f"--workdir={tmp_path}", *SMALL],
        cwd=ROOT,
        capture_output=True,
        text=True,
        check=False,
    )
    assert run.returncode == 0, run.stderr
    assert "Not as the config says, but its own: make_model" in run.stdout
    assert (tmp_path / "result.json").is_file() and not run.stderr
    parts = training.own_of(path)["parts"]
    out = training.export(tmp_path, tmp_path / "out", parts=parts)
    assert (out / "model.stablehlo").is_file()
