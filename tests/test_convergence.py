import json

import numpy as np
import pytest

from results import convergence
from tests.experiments.records import record

PUBLISHED = {
    "curves": {
        "plain": {
            "test": {"every": 500, "accuracy": [0.1, 0.3]},
            "train": {"every": 100, "accuracy": [i / 10 for i in range(1, 11)]},
        }
    }
}


@pytest.fixture
def published(tmp_path):
    path = tmp_path / "curves.json"
    path.write_text(json.dumps(PUBLISHED))
    return path


def test_published_curves_have_their_steps(published):
    steps, accuracy = convergence.published_curves(published)["plain"]["test"]
    np.testing.assert_array_equal(steps, [500, 1000])
    np.testing.assert_array_equal(accuracy, [0.1, 0.3])


def test_a_file_that_is_something_else_is_named(tmp_path):
    path = tmp_path / "other.json"
    path.write_text('{"curves": {"plain": 3}}')
    with pytest.raises(ValueError, match=r"other.json holds no published curves"):
        convergence.published_curves(path)


def test_training_batches_of_a_stretch_are_averaged(published):
    curves = convergence.published_curves(published)
    (line,) = convergence.training_batches(curves, 200, 400)
    # 20, 30 and 40 %, deviation 10.
    assert line == "plain, steps 200 to 400: 30.0 ± 5.8 % (n = 3 batches)"


def test_ours_are_solid_and_the_published_ones_dashed(published):
    curves = convergence.published_curves(published)
    runs = [record(0), record(1, last=0.4)]
    angular = record(2, operator="plain", loss="ga", scale="small")
    figure = convergence.draw_convergence([*runs, angular], curves)
    train, running, debiased, batch = figure.axes
    styles = [line.get_linestyle() for line in running.lines]
    assert styles == ["-", "--"]
    np.testing.assert_allclose(running.lines[0].get_ydata(), [12.5, 25, 37.5, 50])
    np.testing.assert_allclose(running.lines[1].get_ydata(), [10, 30])
    np.testing.assert_array_equal(train.lines[1].get_xdata(), [500, 600])
    np.testing.assert_allclose(train.lines[1].get_ydata(), [50, 60])
    assert len(train.lines) == 2 and len(batch.lines) == 1 and not debiased.lines
