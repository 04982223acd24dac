import json
import textwrap

import numpy as np
import pytest

from hypersphere import experiments, training, viz
from hypersphere.experiments import _runner
from hypersphere.experiments.__main__ import main
from hypersphere.training.run import _workdir

CONFIG = """
    from hypersphere.experiments import family
    from hypersphere.training import TrainConfig

    @family(operator=("none", "cosine"), rate=(0.1, 1e+30))
    def get_config(operator, rate, scale):
        config = TrainConfig(steps=4 if scale == "small" else 64000, batch_size=8)
        config.log_every, config.eval_every, config.checkpoint_every = 2, 2, 2
        config.eval_batch_size = 6
        config.data.source = "synthetic:8x8x1,classes=3,examples=48"
        config.model.depth, config.model.width = 3, 1 / 64
        config.model.similarity = operator
        config.model.batch_norm = False
        config.optim.name, config.optim.learning_rate = "sgd", rate
        config.optim.momentum, config.optim.orthogonality = 0.0, 0.0
        return config
"""


@pytest.fixture
def file(tmp_path):
    path = tmp_path / "tiny.py"
    path.write_text(textwrap.dedent(CONFIG))
    return path


def test_jobs_are_one_seed_of_all_combinations_and_then_the_next(file):
    jobs = experiments.jobs_of(f"{file}:rate=0.1", range(2), ["--config.steps=9"])
    assert [str(job.path) for job in jobs] == [
        f"paper/tiny/operator={operator},rate=0.1/seed{seed}"
        for seed in (0, 1)
        for operator in ("none", "cosine")
    ]
    assert [job.config.seed for job in jobs] == [0, 0, 1, 1]
    assert all(job.config.steps == 9 for job in jobs)
    assert jobs[0].config.model.similarity == "none"


def test_a_config_without_parameters_is_one_run(tmp_path):
    path = tmp_path / "single.py"
    path.write_text(
        "from hypersphere.training import TrainConfig\n"
        "def get_config():\n    return TrainConfig(steps=3)\n"
    )
    (job,) = experiments.jobs_of(str(path), [4])
    assert (str(job.path), job.config.seed) == ("single/run/seed4", 4)
    with pytest.raises(ValueError, match=r"single.py has no parameters, got 'depth=3'"):
        experiments.jobs_of(f"{path}:depth=3", [0])


@pytest.mark.parametrize(
    ("suffix", "override", "message"),
    [
        (":operater=none", "--config.steps=2", "no parameter 'operater'. Did you mean"),
        (":operator=nune", "--config.steps=2", "one of none, cosine, got 'nune'"),
        ("", "--config.stpes=2", "Did you mean `config.steps`"),
        ("", "--config.steps=2 epocs", "Did you mean 'epochs'"),
        ("", "--config.seed=7", "seeds are those of `--seeds`"),
        ("", "--seeds=0", "--seeds needs how many, such as 3"),
        ("", "--seeds=3-2", "FIRST-LAST, such as 20-22, got '3-2'"),
    ],
)
def test_mistakes_are_told_before_anything_runs(
    file, capsys, suffix, override, message
):
    folders = [f"--out={file.parent}/o", f"--workdir={file.parent}/w"]
    with pytest.raises(SystemExit) as stopped:
        main(["run", f"{file}{suffix}", override, *folders])
    assert message in str(stopped.value)
    assert "Traceback" not in capsys.readouterr().err


def test_a_file_that_is_not_there_is_named(tmp_path):
    with pytest.raises(FileNotFoundError, match=r"nowhere.py"):
        experiments.jobs_of(str(tmp_path / "nowhere.py"), [0])


def test_a_mistake_inside_a_config_is_told_with_its_file(tmp_path):
    path = tmp_path / "wrong.py"
    head = "from hypersphere.training import TrainConfig\ndef get_config():\n"
    path.write_text(f"{head}    c = TrainConfig()\n    c.stpes = 3\n    return c\n")
    with pytest.raises(ValueError, match=r"wrong.py.*Did you mean `config.steps`"):
        experiments.jobs_of(str(path), [0])
    path.write_text("x = 3\n")
    with pytest.raises(ValueError, match=r"wrong.py has no function `get_config`"):
        experiments.jobs_of(str(path), [0])


def test_list_says_which_runs_there_would_be(file, capsys):
    assert main(["run", f"{file}:scale=small,rate=0.1", "--list", "--seeds=2"]) == 0
    assert len(capsys.readouterr().out.splitlines()) == 4
    assert main(["run", f"{file}:scale=small,rate=0.1", "--list", "--seeds=7-8"]) == 0
    seeds = {line[-5:] for line in capsys.readouterr().out.splitlines()}
    assert seeds == {"seed7", "seed8"}


@pytest.fixture(scope="module")
def finished(tmp_path_factory):
    """Three runs, one of which diverges, and what was said."""
    folder = tmp_path_factory.mktemp("family")
    path = folder / "tiny.py"
    path.write_text(textwrap.dedent(CONFIG))
    jobs = [
        *experiments.jobs_of(f"{path}:scale=small,rate=0.1", [0]),
        *experiments.jobs_of(f"{path}:scale=small,rate=1e+30,operator=none", [0]),
    ]
    said = []
    arguments = dict(out=folder / "out", workdir=folder / "runs", say=said.append)
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(viz, "draw", lambda folder: [])
        files = experiments.run(jobs, **arguments)
    return folder, jobs, arguments, files, said


@pytest.mark.slow
def test_every_run_leaves_a_record_and_the_family_its_table(finished):
    folder, jobs, _, files, _ = finished
    records = experiments.read_records(folder / "out/small/tiny")
    assert len(records) == len(jobs) == 3
    assert [file.name for file in files] == ["table.md", "table.csv", "curves.png"]
    by_operator = {r.choices["operator"]: r for r in records if not r.diverged}
    for job in jobs[:2]:
        stored = (folder / "runs" / job.path / "result.json").read_text()
        kept = by_operator[job.choices["operator"]]
        accuracy = json.loads(stored)["test_accuracy"]
        assert kept.accuracy() == pytest.approx(accuracy, abs=1e-5)
        np.testing.assert_array_equal(kept.curve()[0], [2, 4])


@pytest.mark.slow
def test_a_run_that_diverges_is_a_result(finished):
    folder = finished[0]
    records = experiments.read_records(folder / "out/small/tiny")
    (lost,) = [r for r in records if r.diverged]
    assert lost.choices["rate"] == 1e30 and not lost.result
    assert "finite" in lost.diverged and str(folder) not in lost.diverged


@pytest.mark.slow
def test_what_is_done_is_not_made_again(finished, monkeypatch):
    from hypersphere.experiments import _runner

    _, jobs, arguments, *_ = finished
    said = []
    monkeypatch.setattr(_runner, "train", None)  # calling it would raise
    experiments.run(jobs, **(arguments | {"say": said.append}))
    assert [line.rsplit(": ", 1)[-1] for line in said] == ["done"] * 3


def test_a_record_that_is_none_is_told_and_made_again(file, tmp_path, monkeypatch):
    (job,) = experiments.jobs_of(f"{file}:rate=0.1,operator=none,scale=small", [0])
    path = tmp_path / "out" / job.path.with_name(f"{job.path.name}.json")
    path.parent.mkdir(parents=True)
    path.write_text("null")
    made, said = [], []
    monkeypatch.setattr(_runner, "_make", lambda *job: made.append(job))
    monkeypatch.setattr(_runner, "report", lambda folder: [])
    experiments.run([job], out=tmp_path / "out", workdir=tmp_path, say=said.append)
    assert len(made) == 1 and "is not the record of a run" in said[0]


@pytest.mark.slow
def test_a_record_of_another_config_is_refused(finished):
    folder, _, arguments, *_ = finished
    path = folder / "tiny.py"
    job, _ = experiments.jobs_of(
        f"{path}:scale=small,rate=0.1", [0], ["--config.batch_size=4"]
    )
    with pytest.raises(ValueError, match=r"batch_size is 8 there and 4 now.*--out"):
        experiments.run([job], **arguments)


def test_a_run_that_another_process_makes_is_left_to_it(file, tmp_path):
    jobs = experiments.jobs_of(f"{file}:scale=small,rate=0.1,operator=none", [0])
    folder = tmp_path / "runs" / jobs[0].path
    folder.mkdir(parents=True)
    said = []
    with _workdir.alone_in(folder):
        experiments.run(jobs, out=tmp_path, workdir=tmp_path / "runs", say=said.append)
    assert said[-2].endswith("another process is at it")
    assert said[-1] == "1 of 1 runs are left to other processes."
    assert experiments.read_records(tmp_path) == []


def test_an_interrupted_run_ends_with_the_status_to_start_again(
    file, tmp_path, monkeypatch, capsys
):
    from hypersphere.experiments import _runner

    def stopped(config, folder):
        raise training.StoppedError("Stopped and saved at step 2 of 4.", 75)

    monkeypatch.setattr(_runner, "train", stopped)
    folders = [f"--out={tmp_path}/o", f"--workdir={tmp_path}/w"]
    assert main(["run", f"{file}:scale=small", *folders]) == 75
    assert "Stopped and saved" in capsys.readouterr().out


@pytest.mark.slow
def test_reports_are_a_command(finished, capsys):
    folder = finished[0]
    group = str(folder / "out/small/tiny")
    assert main(["report", group]) == 0
    assert "table.md" in capsys.readouterr().out
    with pytest.raises(SystemExit, match="holds no records"):
        main(["report", str(folder / "runs")])
