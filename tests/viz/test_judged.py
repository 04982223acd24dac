"""Pictures of evaluations: that they show what they are given."""

import numpy as np
import pytest
from matplotlib.collections import PathCollection

from hypersphere import viz


def test_every_point_of_a_globe_is_on_one_side():
    points = np.random.default_rng(0).standard_normal((50, 3))
    figure = viz.globe(points, np.arange(50) % 3, class_names=("a", "b", "c"))
    sides = [
        np.concatenate(
            [c.get_offsets() for c in axes.collections if isinstance(c, PathCollection)]
        )
        for axes in figure.axes
    ]
    assert sum(map(len, sides)) == 50
    unit = points / np.linalg.norm(points, axis=1, keepdims=True)
    assert np.linalg.norm(np.concatenate(sides), axis=1).max() <= 1
    # Height is the same on both sides, seen from 20 degrees above.
    height = unit @ [0, np.cos(np.radians(20)), -np.sin(np.radians(20))]
    found = np.sort(np.concatenate(sides)[:, 1])
    np.testing.assert_allclose(found, np.sort(height), atol=1e-12)
    for bad in (np.zeros((1, 3)), np.ones((2, 2))):
        with pytest.raises(ValueError, match="globe needs points"):
            viz.globe(bad)


def test_a_curve_has_every_threshold_that_accepts_something():
    far, tar = np.array([0, 0, 0.25, 1]), np.array([0, 0.5, 0.75, 1])
    axes = viz.roc_curves({"one": (far, tar), "two": (far, tar**2)}).axes[0]
    line = axes.get_lines()[0]
    assert line.get_xdata().tolist() == [0.25, 1]
    assert line.get_ydata().tolist() == [75, 100]
    assert [text.get_text() for text in axes.get_legend().get_texts()] == ["one", "two"]


def test_a_confusion_shows_shares_and_colors_mistakes_alone():
    figure = viz.confusion(np.array([[8, 2], [0, 5]]), ["cat", "dog"])
    axes = figure.axes[0]
    assert sorted(t.get_text() for t in axes.texts) == ["100", "20", "80"]
    np.testing.assert_array_equal(axes.images[0].get_array(), [[0, 20], [0, 0]])
    with pytest.raises(ValueError, match="each of 3 classes"):
        viz.confusion(np.eye(2), ["a", "b", "c"])


def test_angles_of_few_are_those_of_all_pairs_and_of_many_of_some():
    x = np.eye(3)[[0, 0, 1, 2]]
    axes = viz.class_angles(x, np.array([0, 0, 1, 2])).axes[0]
    names = [text.get_text() for text in axes.get_legend().get_texts()]
    assert names == ["same class", "different"]
    many = np.random.default_rng(0).standard_normal((700, 4))
    assert viz.class_angles(many, np.arange(700) // 2).axes
    with pytest.raises(ValueError, match="one kind"):
        viz.class_angles(x, np.zeros(4, int))


def test_a_gallery_frames_what_is_wrong_otherwise():
    image = np.zeros((4, 5, 1), np.uint8)
    figure = viz.gallery([image], [[image, image]], np.array([[True, False]]), ["a"])
    styles = [axes.spines["left"].get_linestyle() for axes in figure.axes]
    assert len(set(map(str, styles[1:]))) == 2
    with pytest.raises(ValueError, match="a name for each of 1 queries"):
        viz.gallery([image], [[image]], np.array([[True]]), [])
