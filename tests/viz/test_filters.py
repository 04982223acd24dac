from math import acos, degrees, sqrt

import numpy as np
import pytest

from hypersphere import viz


def _slow_angles(kernel):
    filters = [kernel[..., j].ravel().tolist() for j in range(kernel.shape[-1])]
    angles = []
    for i, a in enumerate(filters):
        for b in filters[i + 1 :]:
            dot = sum(x * y for x, y in zip(a, b, strict=True))
            norms = sqrt(sum(x * x for x in a)) * sqrt(sum(y * y for y in b))
            angles.append(degrees(acos(max(-1.0, min(1.0, dot / norms)))))
    return angles


def _kernel(*shape, seed=0):
    return np.random.default_rng(seed).normal(size=shape).astype(np.float32)


@pytest.mark.parametrize("shape", [(3, 3, 4, 6), (3, 2, 5), (7, 4)])
def test_pairwise_angles_match_explicit_loops(shape):
    kernel = _kernel(*shape)
    np.testing.assert_allclose(
        viz.pairwise_angles(kernel), _slow_angles(kernel), atol=1e-9
    )


@pytest.mark.parametrize("scale", [1e-300, 1e300])
def test_angles_ignore_the_length_of_filters(scale):
    kernel = _kernel(3, 3, 2, 5).astype(np.float64)
    np.testing.assert_allclose(
        viz.pairwise_angles(scale * kernel), viz.pairwise_angles(kernel), atol=1e-9
    )


def test_equal_opposite_and_orthogonal_filters():
    kernel = np.array([[1, 2, -3, 0], [0, 0, 0, 1.0]])
    np.testing.assert_allclose(
        viz.pairwise_angles(kernel), [0, 180, 90, 180, 90, 90], atol=1e-9
    )


def test_filters_without_a_direction_are_left_out():
    kernel = np.array([[1, 0, 1, np.nan, np.inf], [0, 0, 1, 1, 1]])
    np.testing.assert_allclose(viz.pairwise_angles(kernel), [45])
    assert viz.pairwise_angles(np.zeros((3, 4))).size == 0


def test_of_many_filters_the_same_even_choice_is_compared():
    kernel = _kernel(4, 9)
    np.testing.assert_array_equal(
        viz.pairwise_angles(kernel, max_filters=3),
        viz.pairwise_angles(kernel[:, [0, 4, 8]]),
    )
    assert viz.pairwise_angles(_kernel(2, 600)).size == 512 * 511 // 2


@pytest.mark.parametrize("dimension", [2, 3, 27, 4608])
def test_random_density_integrates_to_one_and_has_the_shape_of_a_sine_power(dimension):
    theta = np.linspace(0, 180, 100_001)
    density = viz.random_angle_density(theta, dimension)
    np.testing.assert_allclose(np.trapezoid(density, theta), 1, rtol=1e-4)
    ratio = viz.random_angle_density(np.array([80.0, 90.0]), dimension)
    power = np.sin(np.radians(80)) ** (dimension - 2)
    np.testing.assert_allclose(ratio[0] / ratio[1], power, rtol=1e-9)


def test_random_density_matches_random_directions():
    angles = viz.pairwise_angles(_kernel(5, 500))
    edges = np.linspace(0, 180, 19)
    counts, _ = np.histogram(angles, edges, density=True)
    middle = (edges[1:] + edges[:-1]) / 2
    expected = viz.random_angle_density(middle, 5)
    np.testing.assert_allclose(counts, expected, atol=6e-4)


def test_the_histogram_holds_every_pair_as_a_density():
    kernel = _kernel(3, 3, 4, 8)
    (axes,) = viz.filter_angles({"stem.kernel": kernel}).axes
    edges = [bar.get_x() for bar in axes.patches]
    edges.append(edges[-1] + axes.patches[-1].get_width())
    expected, _ = np.histogram(_slow_angles(kernel), edges, density=True)
    heights = [bar.get_height() for bar in axes.patches]
    np.testing.assert_allclose(heights, expected, atol=1e-9)
    area = sum(bar.get_height() * bar.get_width() for bar in axes.patches)
    np.testing.assert_allclose(area, 1)
    assert sum(axes.get_xlim()) == 180


@pytest.mark.parametrize(
    "layers, panels",
    [(1, 1), (5, 5), pytest.param(12, 12, marks=pytest.mark.slow), (30, 12)],
)
def test_one_panel_a_layer_up_to_twelve(layers, panels):
    kernels = {f"layer{i}": _kernel(4, 3, seed=i) for i in range(layers)}
    figure = viz.filter_angles(kernels)
    titles = [axes.get_title() for axes in figure.axes if axes.axison]
    assert len(titles) == panels
    assert (titles[0], titles[-1]) == ("layer0", f"layer{layers - 1}")


def test_layers_of_one_filter_or_one_dimension_do_no_harm(tmp_path):
    kernels = {"single": _kernel(4, 1), "line": _kernel(1, 5), "plane": _kernel(2, 5)}
    figure = viz.filter_angles(kernels)
    figure.savefig(tmp_path / "filters.png")
    assert [axes.get_title() for axes in figure.axes] == ["line", "plane"]


def test_messages():
    with pytest.raises(ValueError, match=r"at least two filters.*\{'a': \(4, 1\)\}"):
        viz.filter_angles({"a": np.ones((4, 1))})
    with pytest.raises(ValueError, match=r"`kernel.ndim >= 2`.*kernel.shape=\(4,\)"):
        viz.pairwise_angles(np.ones(4))
    with pytest.raises(ValueError, match="got dimension=1"):
        viz.random_angle_density(np.ones(1), 1)
