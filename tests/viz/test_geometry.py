import numpy as np
import pytest

from hypersphere import viz
from hypersphere.viz._geometry import place_on_rays, unit


def _rng(seed=0):
    return np.random.default_rng(seed)


def test_unit_keeps_directions_and_zeros():
    points = _rng().normal(size=(5, 4))
    points[2] = 0
    lengths = np.linalg.norm(unit(points), axis=1)
    np.testing.assert_allclose(lengths, [1, 1, 0, 1, 1])
    np.testing.assert_allclose(
        np.linalg.norm(points, axis=1)[:, None] * unit(points), points
    )


def test_principal_plane_recovers_planar_data():
    basis, _ = np.linalg.qr(_rng().normal(size=(7, 2)))
    points = (_rng(1).normal(size=(50, 2)) * [5, 2]) @ basis.T
    axes, share = viz.principal_plane(points)
    np.testing.assert_allclose(points @ axes @ axes.T, points, atol=1e-9)
    np.testing.assert_allclose(axes.T @ axes, np.eye(2), atol=1e-12)
    np.testing.assert_allclose(share, 1)


def test_principal_plane_matches_the_singular_values_away_from_the_origin():
    points = _rng(2).normal(size=(60, 5)) * [1, 4, 2, 3, 0.5] + 10
    axes, share = viz.principal_plane(points)
    _, singular, rows = np.linalg.svd(points - points.mean(axis=0))
    np.testing.assert_allclose(np.abs(np.sum(axes.T * rows[:2], axis=1)), 1)
    np.testing.assert_allclose(share, (singular**2)[:2].sum() / (singular**2).sum())
    assert all(axes[np.abs(axes).argmax(axis=0), [0, 1]] > 0)


def test_equal_points_have_nothing_left_to_show():
    axes, share = viz.principal_plane(np.ones((4, 3)))
    np.testing.assert_allclose(axes.T @ axes, np.eye(2), atol=1e-12)
    assert share == 1.0


def test_direction_density_is_a_wrapped_gaussian_around_each_direction():
    angles = np.radians([0.0, 179.9, -120.0])
    points = np.stack([np.cos(angles), np.sin(angles)], axis=1) * [[3], [1], [0.1]]
    theta, density = viz.direction_density(points, bins=3600, width=2.0)
    sigma = np.radians(2)
    expected = np.zeros_like(theta)
    for angle in angles:
        away = (theta - angle + np.pi) % (2 * np.pi) - np.pi
        expected += np.exp(-0.5 * (away / sigma) ** 2) / (sigma * np.sqrt(2 * np.pi))
    np.testing.assert_allclose(density, expected / 3, atol=1e-6)
    np.testing.assert_allclose(density.sum() * (theta[1] - theta[0]), 1)


def test_a_point_at_the_origin_has_no_direction():
    with_zero = viz.direction_density(np.array([[0.0, 0.0], [1.0, 2.0]]))
    without = viz.direction_density(np.array([[1.0, 2.0]]))
    np.testing.assert_array_equal(with_zero, without)
    assert not viz.direction_density(np.zeros((3, 2)))[1].any()


@pytest.mark.parametrize("seed", range(5))
def test_placed_labels_do_not_overlap_and_stay_on_their_rays(seed):
    rng = _rng(seed)
    starts = rng.normal(size=(12, 2)) * 0.2
    starts[0] = starts[1]
    boxes = rng.uniform(0.1, 0.6, size=(12, 2))
    placed = place_on_rays(starts, boxes)
    np.testing.assert_allclose(unit(placed), unit(starts), atol=1e-9)
    for i in range(12):
        for j in range(i):
            apart = np.abs(placed[i] - placed[j]) >= (boxes[i] + boxes[j]) / 2
            assert apart.any()


def test_labels_with_room_stay_where_they_are():
    starts = np.array([[1.0, 0.0], [0.0, 1.0], [0.0, 0.0]])
    np.testing.assert_array_equal(place_on_rays(starts, np.full((3, 2), 0.1)), starts)
