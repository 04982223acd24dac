import numpy as np
import pytest

from hypersphere import viz
from hypersphere.viz._curves import moving_average, spread


def _metrics(steps=200, seed=0):
    rng = np.random.default_rng(seed)
    step = 10 * np.arange(1, steps + 1)
    loss = 2.3 * np.exp(-step / 300) + 0.03
    accuracy = 1 - 0.9 * np.exp(-step / 150) + rng.normal(0, 0.001, steps)
    return {
        "test": {"step": step[9::10], "loss": loss[9::10], "accuracy": accuracy[9::10]},
        "train": {"step": step, "loss": loss, "accuracy": accuracy},
    }


def _texts(axes):
    return [text.get_text() for text in axes.texts]


def test_the_lines_are_the_numbers():
    metrics = _metrics(steps=40)
    loss, accuracy = viz.learning_curve(metrics).axes
    np.testing.assert_array_equal(loss.lines[0].get_ydata(), metrics["train"]["loss"])
    np.testing.assert_allclose(
        accuracy.lines[2].get_ydata(), 100 * metrics["test"]["accuracy"]
    )
    np.testing.assert_array_equal(
        accuracy.lines[2].get_xdata(), metrics["test"]["step"]
    )


def test_the_final_test_accuracy_is_written_unsmoothed_and_bold():
    metrics = _metrics(steps=1000)
    metrics["test"]["accuracy"][-1] = 0.98765
    _, axes = viz.learning_curve(metrics, title="run").axes
    (label,) = [text for text in axes.texts if text.get_text() == "test 98.77 %"]
    assert label.get_fontweight() == "bold"


def test_only_what_was_logged_gets_a_panel():
    step = np.array([1, 2])
    error = {"train": {"step": step, "error": np.array([0.5, 0.25])}}
    (axes,) = viz.learning_curve(error).axes
    assert axes.get_title() == "error (%)"
    assert _texts(axes) == ["train 25.00 %"]


def test_a_single_step_and_missing_values_can_be_drawn(tmp_path):
    metrics = {
        "train": {"step": np.array([5]), "loss": np.array([0.0])},
        "test": {
            "step": np.array([5, 6]),
            "loss": np.array([np.nan, np.inf]),
            "accuracy": np.array([np.nan, 1.0]),
        },
    }
    figure = viz.learning_curve(metrics)
    figure.savefig(tmp_path / "curve.png")
    assert _texts(figure.axes[0]) == ["train 0"]
    assert _texts(figure.axes[1]) == ["test 100.00 %"]


def test_the_loss_axis_is_logarithmic_over_a_factor_of_ten():
    step = np.array([1, 2])
    scales = {
        high: viz.learning_curve(
            {"train": {"step": step, "loss": np.array([high, 1.0])}}
        )
        .axes[0]
        .get_yscale()
        for high in (5.0, 50.0)
    }
    assert scales == {5.0: "linear", 50.0: "log"}


def test_labels_of_equal_ends_do_not_touch():
    step, values = np.array([1, 2]), np.array([1.0, 0.5])
    metrics = {name: {"step": step, "loss": values} for name in ("train", "test")}
    (axes,) = viz.learning_curve(metrics).axes
    first, second = (text.get_position()[1] for text in axes.texts)
    assert abs(first - second) >= 0.08 - 1e-9


def test_metrics_without_anything_to_draw_are_refused():
    metrics = {"train": {"step": np.array([1]), "loss": np.array([np.nan])}}
    with pytest.raises(ValueError, match=r"finite `loss`.*\['loss', 'step'\]"):
        viz.learning_curve(metrics)
    with pytest.raises(ValueError, match="got metrics with columns {}"):
        viz.learning_curve({})


@pytest.mark.parametrize("width", [1, 3, 7, 99])
def test_moving_average_is_the_mean_of_the_neighbors(width):
    values = np.random.default_rng(1).normal(size=20)
    half = width // 2
    slow = [values[max(i - half, 0) : i + half + 1].mean() for i in range(20)]
    np.testing.assert_allclose(moving_average(values, width), slow, atol=1e-12)


def test_spread_keeps_order_mean_and_distance():
    positions = np.random.default_rng(2).uniform(size=8)
    moved = spread(positions, 0.1)
    np.testing.assert_array_equal(np.argsort(moved), np.argsort(positions))
    assert np.min(np.diff(np.sort(moved))) >= 0.1 - 1e-12
    np.testing.assert_allclose(moved.mean(), positions.mean())
    far = np.array([3.0, 1.0, 2.0])
    np.testing.assert_allclose(spread(far, 0.1), far)
