"""What `results/robustness.py` makes of its lines."""

import copy

import numpy as np
import pytest
from scipy import stats

from hypersphere import commands, evaluation, training
from hypersphere.experiments._compare import holm
from results import robustness
from tests.test_results import DOCS, ROOT
from tests.training.small import config_of, leave_run

FILES = sorted((ROOT / "results").glob("*/*/robustness*.jsonl"))


def lines_of(generator, operators=("plain", "linear"), runs=4):
    def accuracies():
        return {name: generator.uniform(0.1, 0.5, 5) for name in robustness.DAMAGES}

    return [
        {"operator": operator, "seed": seed, "clean": generator.uniform(0.5, 0.7)}
        | {"damaged": accuracies(), "kept": accuracies()}
        for operator in operators
        for seed in range(runs)
    ]


def test_shares_and_differences_are_those_of_the_loop():
    lines = lines_of(np.random.default_rng(0))
    text = robustness.tables(lines)
    p = []
    for name in robustness.DAMAGES:
        kept = {"plain": [], "linear": []}
        for line in lines:
            kept[line["operator"]].append(100 * sum(line["kept"][name]) / 5)
        ours, plain = kept["linear"], kept["plain"]
        assert f" {np.mean(ours):.1f} ± {np.std(ours, ddof=1):.1f} " in text
        test = stats.ttest_ind(ours, plain, equal_var=False)
        low, high = test.confidence_interval()
        mean = np.mean(ours) - np.mean(plain)
        told = f"| {name}: linear | 4, 4 | {mean:+.1f} ({low:+.1f} to {high:+.1f}) |"
        assert told in text
        p.append(test.pvalue)
    for alone, together in zip(p, holm(p), strict=True):
        assert f"| {alone:.2g} | {together:.2g} |" in text
    assert text.index("| plain |") < text.index("| linear |")


def test_the_picture_has_a_panel_a_damage_and_a_line_an_operator():
    figure = robustness.draw(lines_of(np.random.default_rng(1)))
    assert [axes.get_title() for axes in figure.axes] == list(robustness.DAMAGES)
    assert all(len(axes.containers) == 2 for axes in figure.axes)


def test_networks_are_asked_as_evaluate_does(tmp_path, monkeypatch):
    folders = [tmp_path / f"operator={name}" / "seed0" for name in ("a", "b")]
    leave_run(config_of(), folders[0])
    trained = training.open_trained(folders[0])
    for module in (training, commands._evaluate):
        monkeypatch.setattr(module, "open_trained", lambda *_, **__: trained)
    monkeypatch.setattr(robustness, "_BATCH", 256)
    (line,) = robustness.ask(folders[:1], "")
    told = commands.evaluate("", recalibrate=True, corrupt=["contrast"])
    assert (line["operator"], line["seed"]) == ("a", 0)
    np.testing.assert_allclose(line["clean"], told["top1"], atol=1e-4)
    found = line["damaged"]["contrast"]
    np.testing.assert_allclose(found, told["corrupted"]["contrast"], atol=1e-4)
    other = copy.copy(trained)
    other.config = config_of({"data.pad": 2})
    opened = iter([trained, trained, other])
    monkeypatch.setattr(training, "open_trained", lambda _: next(opened))
    with pytest.raises(ValueError, match="has other images than"):
        list(robustness.ask(folders, ""))


def test_each_damage_has_statistics_of_training_images_damaged_alike(
    tmp_path, monkeypatch
):
    folder = tmp_path / "operator=a" / "seed0"
    leave_run(config_of(), folder)
    trained = training.open_trained(folder)
    seen = []
    monkeypatch.setattr(
        trained, "recalibrate", lambda batches: seen.append(np.concatenate([*batches]))
    )
    judge, asked = robustness._right, []
    monkeypatch.setattr(
        robustness, "_right", lambda *given: asked.append(len(seen)) or judge(*given)
    )
    monkeypatch.setattr(training, "open_trained", lambda _: trained)
    (line,) = robustness.ask([folder], "", own_statistics=True)
    assert [len(line[told]["blur"]) for told in ("damaged", "kept")] == [5, 5]
    assert asked == list(range(1, 27))  # one after each
    undamaged, *damaged = seen
    wanted = [(name, k) for name in robustness.DAMAGES for k in range(1, 6)]
    for (name, strength), images in zip(wanted, damaged, strict=True):
        np.testing.assert_array_equal(
            images, evaluation.corrupted(undamaged, name, strength)
        )


def test_what_is_asked_for_and_is_not_there_is_named(tmp_path, monkeypatch, capsys):
    run = tmp_path / "runs" / "small" / "study" / "operator=a" / "seed0"
    run.mkdir(parents=True)
    (run / "result.json").write_text("{}", encoding="utf-8")
    study = str(tmp_path / "small" / "study")
    command = ["robustness.py", study, f"--runs={tmp_path / 'runs'}"]
    for wrong in (["--operators", "b"], ["--seeds", "1"]):
        monkeypatch.setattr("sys.argv", [*command, *wrong])
        with pytest.raises(SystemExit):
            robustness.main()
        assert "no finished run has" in capsys.readouterr().err


@pytest.mark.parametrize("file", FILES, ids=lambda file: file.stem)
def test_the_tables_are_quoted_as_they_are(file):
    for table in robustness.tables(robustness.read(file)).split("\n\n"):
        assert table.strip() in DOCS
