"""Differences of arms: against SciPy, by hand, and what words they carry."""

import dataclasses

import numpy as np
import pytest
from scipy import stats

from hypersphere.experiments import (
    Record,
    compare,
    compare_arms,
    comparison_to_markdown,
)
from hypersphere.experiments.__main__ import main
from hypersphere.experiments._compare import holm


def runs(**arms):
    return [
        Record(
            family="x",
            choices={"operator": name, "scale": "small"},
            seed=seed,
            config={},
            result={},
            diverged="",
            curves={"test@recalibrated": {"step": [9], "accuracy": [value / 100]}},
        )
        for name, values in arms.items()
        for seed, value in enumerate(values)
    ]


def test_differences_are_welchs_and_the_words_are_what_they_carry():
    random = np.random.default_rng(0)
    plain = 60 + 0.5 * random.standard_normal(20)
    arms = {
        "plain": plain,
        "better": 62 + 0.5 * random.standard_normal(20),
        "alike": plain[::-1] + 0.1,
        "loose": 60.5 + 4 * random.standard_normal(20),
    }
    found = {
        each.arm: each for each in compare(runs(**arms), by="operator", to="plain")
    }
    words = {name: each.verdict for name, each in found.items()}
    assert words["better"] == "more"
    assert words["alike"] == "no difference of a point or more"
    assert words["loose"].startswith("not shown: between ")
    test = stats.ttest_ind(arms["better"], plain, equal_var=False)
    interval = test.confidence_interval()
    each = found["better"]
    np.testing.assert_allclose(
        (each.p, each.low, each.high), (test.pvalue, interval.low, interval.high)
    )
    # Two one-sided tests of the least difference are a 90 % interval within it.
    wide = stats.ttest_ind(arms["alike"], plain, equal_var=False)
    inside = wide.confidence_interval(0.9)
    assert -1 < inside.low < inside.high < 1 and found["alike"].p_equivalent < 0.05


def test_groups_are_compared_by_themselves_and_corrected_together():
    random = np.random.default_rng(1)
    arms = {
        (group, name): (60 + 5 * (group == "b") + random.standard_normal(6)).tolist()
        for group in "ab"
        for name in ("plain", "linear")
    }
    groups = {f"g={g}": {n: arms[g, n] for n in ("plain", "linear")} for g in "ab"}
    records = [
        dataclasses.replace(one, choices=one.choices | {"g": group})
        for (group, name), values in arms.items()
        for one in runs(**{name: values})
    ]
    found = compare(records, by="operator", to="plain", within=["g"])
    again = compare_arms(groups, to="plain")
    assert [each.arm for each in found] == [each.arm for each in again]
    np.testing.assert_allclose([x.p for x in found], [x.p for x in again], rtol=1e-9)
    assert [each.arm for each in found] == ["g=a: linear", "g=b: linear"]
    for each, group in zip(found, "ab", strict=True):
        test = stats.ttest_ind(
            arms[group, "linear"], arms[group, "plain"], equal_var=False
        )
        np.testing.assert_allclose(each.p, test.pvalue, rtol=1e-9)
    np.testing.assert_allclose([x.p_holm for x in found], holm([x.p for x in found]))
    with pytest.raises(
        ValueError, match="an arm 'plain' and another one in g=a, got linear"
    ):
        compare_arms({"g=a": {"linear": [1.0, 2.0]}}, to="plain")


def test_a_change_is_a_difference_of_differences():
    random = np.random.default_rng(2)
    sizes = {"a": (6, 3), "b": (4, 5)}
    groups = {
        name: {
            "linear": (62 + 2 * random.standard_normal(n)).tolist(),
            "plain": (60 + random.standard_normal(m)).tolist(),
        }
        for name, (n, m) in sizes.items()
    }
    (found,) = compare_arms(groups, to="plain", change_from="a")
    assert (found.arm, found.n) == ("b: linear", (4, 5, 3, 6))
    means = {
        name: np.mean(arms["linear"]) - np.mean(arms["plain"])
        for name, arms in groups.items()
    }
    np.testing.assert_allclose(found.mean, means["b"] - means["a"])
    # Satterthwaite: what the sum of the four means' variances is known by.
    drawn = [values for arms in groups.values() for values in arms.values()]
    parts = np.array([np.var(values, ddof=1) / len(values) for values in drawn])
    freedom = parts.sum() ** 2 / sum(
        part**2 / (len(values) - 1) for part, values in zip(parts, drawn, strict=True)
    )
    error = np.sqrt(parts.sum())
    interval = stats.t.interval(0.95, freedom, found.mean, error)
    np.testing.assert_allclose((found.low, found.high), interval)
    p = 2 * stats.t.cdf(-abs(found.mean) / error, freedom)
    np.testing.assert_allclose((found.p, found.p_holm), p)
    told = comparison_to_markdown([found], to="plain", change_from="a")
    assert told.startswith("| arm | n | points to plain, change from a (95 %) |")
    assert "| b: linear | 4, 5, 3, 6 |" in told
    with pytest.raises(ValueError, match="got 'c'; there are 'a', 'b'"):
        compare_arms(groups, to="plain", change_from="c")
    groups["a"]["cosine"] = groups["a"].pop("linear")
    with pytest.raises(ValueError, match="from a needs this arm there, got plain, cos"):
        compare_arms(groups, to="plain", change_from="a")


def test_holm_steps_down():
    # 3 * 0.01; 2 * 0.02 = 0.04; 1 * 0.04, which is not below the one before.
    np.testing.assert_allclose(holm([0.04, 0.01, 0.02]), [0.04, 0.03, 0.04])
    assert holm([0.9, 0.8]) == [1.0, 1.0]


def test_no_verdict_is_given_where_runs_are_lost_or_too_few():
    good = runs(plain=[1.0, 2.0, 3.0], lost=[2.0, 3.0], one=[5.0])
    bad = [
        dataclasses.replace(one, diverged="at step 5", seed=one.seed + 5)
        for one in runs(lost=[9.0, 9.0])
    ]
    lost, one = compare(good + bad, by="operator", to="plain")
    assert (lost.n, lost.lost) == ((2, 3), (2, 0)) and np.isfinite(lost.p)
    assert lost.verdict == "none: runs diverged"
    assert one.mean == 3.0 and np.isnan([one.low, one.p, one.p_holm]).all()
    assert one.verdict == "none: too few runs"
    assert lost.p_holm == lost.p  # the one that cannot be made does not count
    lines = comparison_to_markdown([lost, one], to="plain").splitlines()
    assert lines[2].startswith("| lost | 2 of 4, 3 | +0.5 (")
    assert lines[3] == "| one | 1, 3 | +3.0 | – | – | none: too few runs |"


def test_training_batches_of_a_stretch_are_compared():
    records = [
        dataclasses.replace(
            one,
            curves={"train": {"step": [1, 2, 3, 4], "accuracy": [0, value, 1, 0]}},
        )
        for one, value in zip(
            runs(plain=[0.0] * 3, other=[0.0] * 3),
            [0.1, 0.2, 0.3, 0.5, 0.6, 0.7],
            strict=True,
        )
    ]
    (found,) = compare(records, by="operator", to="plain", training=(2, 3))
    np.testing.assert_allclose(found.mean, 20)
    with pytest.raises(ValueError, match=r"at steps \(9, 12\), got seed 0"):
        compare(records, by="operator", to="plain", training=(9, 12))


def test_networks_without_batch_normalization_have_one_accuracy():
    bare = [
        dataclasses.replace(
            one,
            config={"model": {"batch_norm": False}},
            curves={"test": one.curves["test@recalibrated"]},
        )
        for one in runs(bare=[1.0, 2.0])
    ]
    (found,) = compare(runs(plain=[1.0, 2.0]) + bare, by="operator", to="plain")
    assert found.mean == 0 and found.n == (2, 2)


def test_what_cannot_be_compared_is_named():
    good = runs(plain=[1.0, 2.0, 3.0], other=[2.0, 3.0])
    for options, message in (
        (dict(by="loss", to="plain"), "there are operator, scale, family"),
        (dict(by="operator", to="none"), "an arm 'none' .* got plain, other"),
        (dict(by="operator", to="plain", statistics="batch"), "has test@recalibrated"),
    ):
        with pytest.raises(ValueError, match=message):
            compare(good, **options)
    with pytest.raises(ValueError, match="another one, got plain"):
        compare(runs(plain=[1.0, 2.0]), by="operator", to="plain")
    with pytest.raises(ValueError, match="needs runs, got none"):
        compare_arms({}, to="plain")


def test_families_are_compared_by_themselves():
    one = runs(plain=[1.0, 2.0, 3.0], linear=[2.0, 3.0, 4.5])
    other = [dataclasses.replace(each, family="y") for each in one]
    found = compare(one + other, by="operator", to="plain", within=["family"])
    assert [each.arm for each in found] == ["family=x: linear", "family=y: linear"]
    assert all(each.n == (3, 3) for each in found)


def test_runs_are_not_mixed_or_counted_twice():
    one = runs(plain=[1.0, 2.0, 3.0], linear=[2.0, 3.0, 4.5])
    options = dict(by="operator", to="plain")
    with pytest.raises(ValueError, match=r"each run once, got seed 0 of x, .*, twice"):
        compare(one + one, **options)
    other = [dataclasses.replace(each, family="y") for each in one]
    with pytest.raises(ValueError, match=r"one family, or `within=family`, got x, y"):
        compare(one + other, **options)
    large = [
        dataclasses.replace(each, choices={**each.choices, "scale": "full"})
        for each in one
    ]
    with pytest.raises(ValueError, match=r"one scale, or `within=scale`, got full, sm"):
        compare(one + large, **options)
    with pytest.raises(ValueError, match="`change_from='x'` needs `within`"):
        compare(one, change_from="x", **options)


def test_the_command_prints_a_table(capsys):
    arguments = ["compare", "results/small/ablation_margin", "--by=loss"]
    assert main([*arguments, "--to=softmax", "--statistics=running"]) == 0
    out = capsys.readouterr().out
    assert out.startswith("| arm | n | points to softmax (95 %) |")
    assert "| arcface | 3, 3 |" in out
    folders = [f"results/small/study_{name}" for name in ("half", "eighth")]
    options = ["--within=family", "--change_from=family=study_eighth"]
    assert main(["compare", *folders, "--by=operator", "--to=plain", *options]) == 0
    assert "| family=study_half: linear | 10, 10, 10, 10 |" in capsys.readouterr().out
    with pytest.raises(SystemExit, match="nowhere holds no records"):
        main(["compare", folders[0], "nowhere", "--by=operator", "--to=plain"])
