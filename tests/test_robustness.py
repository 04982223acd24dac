"""What `results/robustness.py` makes of its lines."""

import numpy as np
import pytest
from scipy import stats

from hypersphere.experiments._compare import holm
from results import robustness
from tests.test_results import DOCS, ROOT

FILES = sorted((ROOT / "results").glob("*/*/robustness.jsonl"))


def lines_of(generator, operators=("plain", "linear"), runs=4):
    return [
        {"operator": operator, "seed": seed, "clean": generator.uniform(0.5, 0.7)}
        | {name: generator.uniform(0.1, 0.5, 5).tolist() for name in robustness.DAMAGES}
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
            mean = sum(line[name]) / 5
            kept[line["operator"]].append(100 * mean / line["clean"])
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


@pytest.mark.parametrize("file", FILES, ids=lambda file: file.parent.name)
def test_the_tables_are_quoted_as_they_are(file):
    for table in robustness.tables(robustness.read(file)).split("\n\n"):
        assert table.strip() in DOCS
