import json
import pathlib
import subprocess
import sys

import pytest

ROOT = pathlib.Path(__file__).parents[1]
SMALL = [
    "--config=configs/quickstart.py",
    "--config.data.source=synthetic:8x8x1,classes=2,examples=32",
    "--config.steps=4",
    "--config.batch_size=8",
    "--config.log_every=2",
    "--config.model.width=0.02",
    "--config.model.depth=3",
]


def train(*arguments, **environment):
    """Runs train.py as a user does, in a process of its own."""
    return subprocess.run(
        [sys.executable, "-W", "error::UserWarning", "train.py", *arguments],
        cwd=ROOT,
        capture_output=True,
        text=True,
        timeout=300,
        env={"PATH": "", "JAX_PLATFORMS": "cpu", "HOME": str(ROOT), **environment},
    )


@pytest.mark.slow
def test_a_run_trains_without_tensorflow_and_without_a_warning(tmp_path):
    trap = tmp_path / "tensorflow"
    trap.mkdir()
    (trap / "__init__.py").write_text("raise SystemExit('tensorflow was imported')")
    done = train(*SMALL, f"--workdir={tmp_path / 'run'}", PYTHONPATH=str(tmp_path))
    assert done.returncode == 0, done.stderr
    assert done.stderr == ""
    assert "test accuracy" in done.stdout and "learning_curve.png" in done.stdout
    assert "step 2 of 4" in done.stdout and "examples/s" in done.stdout
    result = json.loads((tmp_path / "run" / "result.json").read_text())
    assert result["steps"] == 4


@pytest.mark.slow
@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        (["--config.stpes=3"], "Did you mean `config.steps`"),
        (["--config.steps=1.5"], "config.steps"),
        (["--config.batch_size=33"], "33"),
        (["--config=configs/no_such.py"], "configs/no_such.py"),
        (["--config.data.source=folder:/no/such/folder"], "/no/such/folder"),
        (["--config.data.source=tfds:no_such_set"], "no_such_set"),
    ],
)
def test_a_mistake_ends_in_one_message_without_a_traceback(
    tmp_path, arguments, message
):
    done = train(*SMALL, *arguments, f"--workdir={tmp_path / 'run'}")
    assert done.returncode != 0
    assert message in done.stderr + done.stdout
    assert "Traceback" not in done.stderr


@pytest.mark.slow
def test_what_is_missing_on_the_command_line_is_named():
    done = train()
    assert done.returncode != 0
    assert "--config" in done.stderr and "Traceback" not in done.stderr


@pytest.mark.slow
def test_help_names_the_flags_and_shows_an_override():
    done = train("--help")
    assert "--workdir" in done.stdout and "--config.steps=200" in done.stdout
