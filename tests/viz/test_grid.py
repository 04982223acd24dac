import numpy as np
import pytest

from hypersphere import viz

STEPS = np.array([10, 20, 30])
RUNS = np.array([[0.2, 0.4, np.nan], [0.4, 0.6, 0.8]])


def test_lines_are_means_and_bands_reach_to_the_extremes():
    (axes,) = viz.curve_grid({"": {"test": {"x": viz.Bundle(STEPS, RUNS)}}}).axes
    np.testing.assert_allclose(axes.lines[0].get_ydata(), [30, 50, 80])
    np.testing.assert_array_equal(axes.lines[0].get_xdata(), STEPS)
    band = axes.collections[0].get_paths()[0].vertices
    assert band[:, 1].min() == pytest.approx(20) and band[:, 1].max() == 80


def test_a_line_has_one_color_in_every_panel():
    one, two = viz.Bundle(STEPS, RUNS), viz.Bundle(STEPS, RUNS[:1])
    grid = {"a": {"l": {"x": one}, "r": {"y": two, "x": one}}, "b": {"r": {"x": two}}}
    figure = viz.curve_grid(grid)
    assert len(figure.axes) == 4
    first, right, empty, below = figure.axes
    assert not empty.lines
    colors = {first.lines[0].get_color(), below.lines[0].get_color()}
    assert colors == {right.lines[1].get_color()} != {right.lines[0].get_color()}
    titles = [axes.get_title() for axes in figure.axes]
    assert titles == ["l", "r", "", ""]
    assert first.get_ylabel().startswith("a\n")


def test_without_a_number_there_is_nothing_to_draw():
    lost = viz.Bundle(STEPS, np.full((2, 3), np.nan))
    with pytest.raises(ValueError, match="needs a line with a finite value, got none"):
        viz.curve_grid({"": {"test": {"x": lost}}})


def test_rows_of_other_lengths_have_steps_of_their_own():
    short, long = viz.Bundle(STEPS, RUNS), viz.Bundle(10 * STEPS, RUNS)

    def ends(first, second):
        grid = {"a": {"l": {"x": first}, "r": {"x": short}}, "b": {"l": {"x": second}}}
        return [axes.get_xlim()[1] for axes in viz.curve_grid(grid).axes]

    assert ends(short, short) == pytest.approx([31] * 4)
    # An empty panel has the axis of its row.
    assert ends(long, short) == pytest.approx([314.5, 314.5, 31, 31])


def test_a_run_without_a_step_is_no_line():
    none = viz.Bundle(STEPS[:0], RUNS[:, :0])
    grid = {"a": {"l": {"x": viz.Bundle(STEPS, RUNS)}}, "b": {"l": {"x": none}}}
    first, second = viz.curve_grid(grid).axes
    assert first.lines and not second.lines
