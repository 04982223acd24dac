import json
import sys
import types

import pytest

from hypersphere import training
from hypersphere.training.run import _logging, _loop
from hypersphere.training.run._logging import Reporter
from tests.training.small import config_of

VALUES = {"loss": 0.5, "accuracy": 0.25}


def reporter(folder, **arguments):
    return Reporter(folder, **{"name": "run", "start": 0, "steps": 1000, **arguments})


def lines(folder):
    """The rows as any JSON reader takes them, one that knows no NaN."""

    def refuse(word):
        raise AssertionError(f"{word} is not JSON")

    text = (folder / "metrics.jsonl").read_text()
    return [json.loads(line, parse_constant=refuse) for line in text.splitlines()]


def test_without_a_terminal_every_record_is_a_line(tmp_path, capsys):
    with reporter(tmp_path, steps=2000) as report:
        report.trained(1000, 2.6, VALUES | {"examples_per_second": 1234.5})
        report.evaluated(1000, 3.0, "test", VALUES)
        report.say("[bold]as it is[/bold] 7")
    told = capsys.readouterr().out.splitlines()
    assert told == [
        "step 1,000 of 2,000  loss 0.5000  accuracy 0.2500  1,234 examples/s  3 s",
        "step 1,000: test loss 0.5000, test accuracy 0.2500",
        "[bold]as it is[/bold] 7",
    ]


def test_records_are_rows_of_numbers(tmp_path):
    with reporter(tmp_path) as report:
        report.trained(50, 1.23456, VALUES)
        report.evaluated(50, 2.0, "test", VALUES)
    assert lines(tmp_path) == [
        {"step": 50, "time": 1.235, "split": "train", **VALUES},
        {"step": 50, "time": 2.0, "split": "test", **VALUES},
    ]


def test_an_evaluation_on_training_images_is_not_the_log_of_the_steps(tmp_path):
    with reporter(tmp_path) as report:
        report.trained(50, 1.0, VALUES)
        report.evaluated(50, 1.0, "train", VALUES)
    assert [row["split"] for row in lines(tmp_path)] == ["train", "train_eval"]


@pytest.mark.parametrize("wrong", [float("nan"), float("inf"), float("-inf")])
def test_a_number_that_is_not_finite_is_null(tmp_path, wrong):
    with reporter(tmp_path) as report:
        report.evaluated(50, 1.0, "test", {"loss": wrong, "accuracy": 0.25})
    (row,) = lines(tmp_path)
    assert (row["loss"], row["accuracy"]) == (None, 0.25)


def test_a_summary_can_be_shown_without_a_finite_loss(tmp_path, capsys):
    result = {
        "test_accuracy": 0.25, "test_loss": None, "steps": 3, "seconds": 1.0,
        "examples_per_second": 8.0, "parameters": 226,
    }  # fmt: skip
    _logging.show_summary(_logging.make_console(), result, tmp_path, [])
    assert "not finite" in capsys.readouterr().out


def test_a_path_may_look_like_markup(tmp_path, capsys):
    folder = tmp_path / "[" / "x]"  # whose path ends in [/x]
    folder.mkdir(parents=True)
    with _logging.Reporter(folder, name="[/x]", start=0, steps=1) as reporter:
        reporter.trained(1, 0.5, {"loss": 1.0})
        reporter.console.print(f"{folder}: said")
    numbers = dict(steps=1, seconds=1.0, examples_per_second=1.0, parameters=3)
    _logging.show_summary(reporter.console, numbers, folder, [folder / "[/b].png"])
    told = capsys.readouterr().out
    assert f"{folder}: said" in told and "[/b].png" in told


def test_a_resumed_run_writes_on_after_its_step(tmp_path):
    with reporter(tmp_path) as report:
        for step in (50, 100, 150):
            report.trained(step, 1.0, VALUES)
    with reporter(tmp_path, start=100) as report:
        report.trained(150, 9.0, VALUES)
    assert [(row["step"], row["time"]) for row in lines(tmp_path)] == [
        (50, 1.0),
        (100, 1.0),
        (150, 9.0),
    ]


class Full:
    """A place to write to that has no room."""

    def write(self, *values):
        raise OSError(28, "No space left on device")

    def close(self):
        pass


@pytest.mark.parametrize("must_write", [True, False])
def test_a_full_disk_ends_the_run_or_is_told(tmp_path, capsys, must_write):
    with reporter(tmp_path, must_write=must_write) as report:
        for sink in report._sinks:
            sink.close()
        report._sinks = [Full()]
        if must_write:
            with pytest.raises(OSError, match="No space left"):
                report.trained(1000, 1.0, VALUES)
        else:
            report.trained(1000, 1.0, VALUES)
            told = capsys.readouterr().out
            assert "log of step 1,000 could not be written" in told
            assert "No space left" in told


class FullAtLast(Full):
    """A place that has no room for what it still holds when it is closed."""

    def close(self):
        self.write()


def test_a_log_that_cannot_be_closed_does_not_hide_what_ended_the_run(tmp_path, capsys):
    def close(report):
        for sink in report._sinks:
            sink.close()
        report._sinks = [FullAtLast()]

    with pytest.raises(ValueError, match="diverged"):
        with reporter(tmp_path, must_write=True) as report:
            close(report)
            raise ValueError("diverged")
    assert "log could not be written to its end" in capsys.readouterr().out
    with pytest.raises(OSError, match=r"to its end .*No space left.*Make room"):
        with reporter(tmp_path, must_write=True) as report:
            close(report)


def test_a_missing_wandb_is_one_clear_message(tmp_path, monkeypatch):
    monkeypatch.setitem(sys.modules, "wandb", None)
    with pytest.raises(
        ModuleNotFoundError, match=r"`config\.wandb`.*pip install wandb"
    ):
        reporter(tmp_path, project="spheres")
    assert not list(tmp_path.iterdir())


@pytest.mark.slow
def test_a_run_that_lacks_wandb_can_go_on_without_it(tmp_path, monkeypatch):
    monkeypatch.setattr(_loop, "finish", lambda *arguments: {"is_over": True})
    monkeypatch.setitem(sys.modules, "wandb", None)
    with pytest.raises(ModuleNotFoundError, match=r"`config\.wandb`"):
        training.train(config_of(wandb="spheres", steps=2), tmp_path)
    monkeypatch.setattr(_loop.Run, "advance", lambda run: None)
    assert training.train(config_of(steps=2), tmp_path) == {"is_over": True}


class FakeWandb(types.ModuleType):
    """Notes what it is asked for."""

    def __init__(self):
        super().__init__("wandb")
        self.begun, self.rows, self.ends = [], [], 0

    def init(self, **arguments):
        self.begun.append(arguments)
        return self

    def log(self, values, *, step):
        self.rows.append((step, values))

    def finish(self):
        self.ends += 1


@pytest.fixture
def wandb(monkeypatch):
    fake = FakeWandb()
    monkeypatch.setitem(sys.modules, "wandb", fake)
    return fake


def test_a_resumed_run_is_found_again_on_wandb(tmp_path, wandb):
    (tmp_path / "config.json").write_text('{"seed": 3}')
    for start in (0, 50):
        with reporter(tmp_path, project="spheres", start=start) as report:
            report.evaluated(start + 50, 1.0, "test", VALUES)
    first, second = wandb.begun
    assert first == second
    assert first["id"] and first["resume"] == "allow"
    assert (first["project"], first["name"]) == ("spheres", "run")
    assert first["config"] == {"seed": 3}
    row = {"test/loss": 0.5, "test/accuracy": 0.25}
    assert wandb.rows == [(50, row), (100, row)]
    assert wandb.ends == 2


@pytest.mark.slow
def test_a_run_logs_to_wandb_and_profiles_the_chosen_steps(
    tmp_path, wandb, monkeypatch
):
    monkeypatch.setattr(_loop, "finish", lambda *arguments: {})
    training.train(config_of(wandb="spheres", profile=(2, 3), steps=4), tmp_path)
    assert [arguments["project"] for arguments in wandb.begun] == ["spheres"]
    assert wandb.begun[0]["config"]["steps"] == 4
    logged = {(next(iter(row)).split("/")[0], step) for step, row in wandb.rows}
    assert logged == {*(("train", i) for i in (2, 3, 4)), ("test", 3), ("test", 4)}
    assert wandb.ends == 1
    (profile,) = (tmp_path / "profile").rglob("*.xplane.pb")
    assert profile.stat().st_size > 0
