import pathlib

import chex
import jax
import jax.numpy as jnp
import numpy as np

from hypersphere import ops

GOLDEN = np.load(pathlib.Path(__file__).parents[1] / "golden" / "spheres.npz")


def golden():
    """Points, tangents there, and what geoopt makes of them."""
    arrays = GOLDEN["opt/W0_unit"], GOLDEN["sphere_ops/u"], GOLDEN["sphere_ops/exp"]
    with jax.enable_x64(True):
        return [jax.device_put(each) for each in arrays]


def test_geodesics_are_the_published_ones():
    point, step, end = golden()

    @jax.jit
    def everything(point, step, end):
        return {
            "exp": ops.exponential_map(point, step),
            "log": ops.logarithm_map(point, end),
            "dist": ops.geodesic_distance(point, end),
            "retr": ops.unit(point + step, eps=1e-9),
        }

    with jax.enable_x64(True):
        found = jax.tree.map(np.asarray, everything(point, step, end))
    for name, value in found.items():
        np.testing.assert_allclose(value, GOLDEN[f"sphere_ops/{name}"], atol=1e-12)


def test_what_is_transported_keeps_its_length_its_angle_and_stays_tangent(numbers):
    @jax.jit
    def along(point, *vectors):
        point = ops.unit(point, eps=1e-9)
        step, *tangents = (ops.tangent(vector, point) for vector in vectors)
        carried = [ops.transport(vector, point, step) for vector in tangents]
        return ops.exponential_map(point, step), tangents, carried

    found = along(*(numbers((3, 5)) for _ in range(4)))
    end, (one, other), (first, second) = jax.tree.map(np.asarray, found)
    dot = lambda a, b: np.sum(a * b, -1)  # noqa: E731
    np.testing.assert_allclose(dot(first, end), 0, atol=1e-5)
    np.testing.assert_allclose(dot(first, second), dot(one, other), atol=1e-5)
    np.testing.assert_allclose(dot(first, first), dot(one, one), rtol=1e-5)


def test_small_and_opposite_ends_are_finite_with_their_slopes():
    point = jax.device_put(np.float32([[1, 0, 0], [1, 0, 0], [1, 0, 0]]))
    other = jax.device_put(np.float32([[1, 0, 0], [-1, 0, 0], [1, 1e-20, 0]]))

    def everything(other):
        log = ops.logarithm_map(point, other)
        end = ops.exponential_map(point, log)
        carried = ops.transport(log, point, 1e-30 * log)
        return jnp.sum(log + end + carried) + ops.geodesic_distance(point, other).sum()

    chex.assert_tree_all_finite(jax.jit(jax.value_and_grad(everything))(other))


def test_the_distance_of_near_points_has_all_its_digits():
    angle = np.float32(1e-5)
    point = jax.device_put(np.float32([1, 0]))
    other = jax.device_put(np.float32([np.cos(angle), np.sin(angle)]))
    assert abs(float(ops.geodesic_distance(point, other)) / angle - 1) < 1e-5
