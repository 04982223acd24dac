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
        (["--config.steps=many"], "`config.steps` needs a number and a unit"),
        (["--config.steps=2 epochs 5 steps"], "one number and one unit"),
        (["--config.optim.warmup=3 weeks"], "`config.optim.warmup` needs one of the"),
        (["--config.steps=50%"], "nothing that this could be a percentage of"),
        (["--config.batch_size=33"], "33"),
        (["--config=configs/no_such.py"], "configs/no_such.py"),
        (["--config=configs/ablation_loss.py:loss=gaa"], "Did you mean 'ga'"),
        (["--config=configs/ablation_loss.py:los=ga"], "Did you mean 'loss'"),
        (["--config.model.width=abc"], "config.model.width=abc"),
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
def test_help_names_the_flags_without_importing_a_framework(tmp_path):
    for name in ("jax", "tensorflow"):
        (tmp_path / name).mkdir()
        trap = f"raise SystemExit('{name} was imported')"
        (tmp_path / name / "__init__.py").write_text(trap)
    done = train("--help", PYTHONPATH=str(tmp_path))
    assert "was imported" not in done.stdout + done.stderr
    for flag in ("--workdir", "--[no]dry_run", "--config.steps=200", "--config.print"):
        assert flag in done.stdout


@pytest.mark.slow
def test_the_config_is_shown_with_its_durations_in_steps(tmp_path):
    done = train(
        *SMALL,
        "--config.steps=3 epochs",
        "--config.eval_every=50%",
        "--config.optim.warmup=16 examples",
        "--config.print",
        f"--workdir={tmp_path / 'run'}",
    )
    assert done.returncode == 0, done.stderr
    shown = json.loads(done.stdout)
    assert (shown["steps"], shown["eval_every"], shown["optim"]["warmup"]) == (12, 6, 2)
    assert shown["model"]["width"] == 0.02
    assert not (tmp_path / "run").exists()


@pytest.mark.slow
@pytest.mark.parametrize("flag", ["--dry_run", "--dry-run"])
def test_a_dry_run_needs_no_folder_and_tells_what_it_takes(flag):
    done = train(*SMALL, "--config.steps=2 epochs", flag)
    assert done.returncode == 0, done.stderr
    assert "8, 2.0 epochs" in done.stdout and "head.kernel" in done.stdout
    assert "MiB a device" in done.stdout and "GFLOP a step" in done.stdout


@pytest.mark.slow
def test_a_run_needs_a_folder_and_says_so():
    done = train(*SMALL)
    assert done.returncode != 0
    assert "--workdir must be given" in done.stderr
    assert "Traceback" not in done.stderr
