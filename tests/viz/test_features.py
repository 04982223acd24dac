import matplotlib as mpl
import numpy as np
import pytest
from matplotlib.colors import to_rgb

from hypersphere import viz


def _data(dimension, *, classes=10, examples=200, centres=True, seed=0):
    rng = np.random.default_rng(seed)
    middle = rng.normal(size=(dimension, classes))
    labels = rng.integers(0, classes, examples).astype(np.int32)
    features = 4 * middle.T[labels] + rng.normal(0, 0.2, (examples, dimension))
    names = [f"c{i}" for i in range(classes)]
    return viz.FeatureSet(
        features.astype(np.float32), labels, names, middle if centres else None
    )


def _picture(data, **options):
    return viz.features(*data[:3], centres=data.centres, **options)


def _points(axes):
    return np.concatenate([np.asarray(dots.get_offsets()) for dots in axes.collections])


def _sorted(points):
    return points[np.lexsort(points.T)]


def test_two_dimensions_show_the_features_themselves():
    data = _data(2)
    plane, circle = _picture(data).axes
    np.testing.assert_allclose(_sorted(_points(plane)), _sorted(data.features))
    assert plane.get_aspect() == circle.get_aspect() == 1.0
    names = {text.get_text() for text in plane.texts}
    assert names == {data.class_names[label] for label in np.unique(data.labels)}


def test_dots_have_the_color_of_their_class():
    data = _data(2, classes=3)
    dots = _picture(data).axes[0].collections[0]
    colors = {tuple(c) for c in dots.get_facecolors()[:, :3].tolist()}
    palette = ("#3f90da", "#ffa90e", "#bd1f01")
    assert colors == {to_rgb(color) for color in palette}


def test_three_dimensions_show_every_direction_once():
    data = _data(3)
    front, behind = _picture(data).axes
    points = np.concatenate([_points(front), _points(behind)])
    assert len(points) == len(data.features)
    assert np.all(np.linalg.norm(points, axis=1) <= 1 + 1e-9)


def test_the_two_views_are_one_sphere():
    data = _data(3, centres=False)
    front, behind = _picture(data).axes
    seen = [_points(axes) for axes in (front, behind)]
    depth = [np.sqrt(np.maximum(1 - np.sum(p**2, axis=1), 0)) for p in seen]
    whole = np.vstack(
        [
            np.column_stack([seen[0], depth[0]]),
            np.column_stack([seen[1] * [-1, 1], -depth[1]]),
        ]
    )
    directions = data.features / np.linalg.norm(data.features, axis=1, keepdims=True)
    angles = np.sort((whole @ whole.T).ravel())
    np.testing.assert_allclose(
        angles, np.sort((directions @ directions.T).ravel()), atol=1e-5
    )


def test_more_dimensions_show_the_principal_plane_and_say_how_much_it_holds():
    data = _data(64)
    figure = _picture(data)
    directions = data.features / np.linalg.norm(data.features, axis=1, keepdims=True)
    plane, share = viz.principal_plane(directions)
    np.testing.assert_allclose(
        _sorted(_points(figure.axes[0])), _sorted(directions @ plane), atol=1e-6
    )
    caption = figure.get_supxlabel()
    assert "64 dimensions" in caption and f"{share:.0%} of the variance" in caption


@pytest.mark.parametrize(
    "dimension", [2, *(pytest.param(d, marks=pytest.mark.slow) for d in (3, 5))]
)
def test_many_absent_and_collapsed_classes_can_be_drawn(tmp_path, dimension):
    many = _picture(_data(dimension, classes=35))
    many.savefig(tmp_path / "many.png")
    assert not any(axes.texts for axes in many.axes)
    assert "35 classes" in many.get_supxlabel()
    zeros = np.zeros((4, dimension)), np.array([0, 0, 2, 2]), ["a", "b", "c"]
    viz.features(*zeros).savefig(tmp_path / "zeros.png")


@pytest.mark.parametrize(("dimension", "seed"), [(2, 0), (2, 1), (3, 2), (64, 0)])
def test_class_names_do_not_overlap(dimension, seed):
    data = _data(dimension, seed=seed)
    names = ["airplane", "automobile", "bird", "cat", "deer"]
    names += ["dog", "frog", "horse", "ship", "truck"]
    figure = _picture(data._replace(class_names=names))
    figure.draw_without_rendering()
    for axes in figure.axes:
        boxes = [text.get_window_extent() for text in axes.texts]
        for i, box in enumerate(boxes):
            assert box.count_overlaps(boxes[:i]) == 0
            assert figure.bbox.containsx(box.x0) and figure.bbox.containsx(box.x1)


def test_settings_of_the_user_stay_and_do_not_show():
    data = _data(2, classes=3)
    with mpl.rc_context({"figure.facecolor": "black", "axes.facecolor": "black"}):
        before = dict(mpl.rcParams)
        figure = _picture(data, title="run")
        assert dict(mpl.rcParams) == before
        assert figure.get_facecolor() == (1.0, 1.0, 1.0, 1.0)


def test_side_by_side_has_a_column_a_run_and_its_accuracy():
    runs = {
        "softmax": _data(2)._replace(accuracy=0.9731),
        "GA-Softmax": _data(2, seed=1, centres=False),
    }
    axes = viz.side_by_side(runs, title="losses").axes
    assert len(axes) == 4
    assert axes[0].get_title() == "softmax   97.31 %"
    assert axes[1].get_title() == "GA-Softmax"
    np.testing.assert_allclose(
        _sorted(_points(axes[1])), _sorted(runs["GA-Softmax"].features)
    )


def test_side_by_side_messages():
    with pytest.raises(ValueError, match="at least one run"):
        viz.side_by_side({})
    with pytest.raises(ValueError, match=r"features.shape=\(200, 5\) for run 'a'"):
        viz.side_by_side({"a": _data(5)})
    broken = _data(2)._replace(labels=np.zeros(3, int))
    with pytest.raises(
        ValueError, match=r"side_by_side needs `labels.shape ==.*\(3,\)"
    ):
        viz.side_by_side({"a": broken})


@pytest.mark.parametrize(
    "change, error, message",
    [
        ({"features": np.zeros(3)}, ValueError, r"n >= 1, d >= 2\), got .*=\(3,\)"),
        ({"features": np.zeros((3, 1))}, ValueError, r"features.shape=\(3, 1\)"),
        ({"features": np.zeros((0, 2))}, ValueError, r"features.shape=\(0, 2\)"),
        ({"labels": np.zeros(3, int)}, ValueError, r"labels.shape=\(3,\) and features"),
        ({"labels": np.zeros(200)}, TypeError, "labels.dtype=float64"),
        ({"features": np.full((200, 2), np.nan)}, ValueError, "got 400 NaN"),
        ({"labels": np.full(200, 10)}, ValueError, r"from 10 to 10 .*names\)=10"),
        ({"labels": np.full(200, -1)}, ValueError, "from -1 to -1"),
        ({"centres": np.zeros((10, 2))}, ValueError, r"\(10, 2\).*transposed"),
    ],
)
def test_arrays_that_do_not_fit_are_refused(change, error, message):
    with pytest.raises(error, match=message):
        _picture(_data(2)._replace(**change))
