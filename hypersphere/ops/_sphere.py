"""Moving on spheres: tangents, geodesics, and what is carried along them."""

from collections.abc import Sequence

import jax.numpy as jnp
from jaxtyping import Array, Float

from hypersphere.ops._angles import l2_norm, unit

Axes = int | Sequence[int]


def tangent(
    vector: Float[Array, "..."],
    point: Float[Array, "..."],
    *,
    axis: Axes = -1,
    eps: float = 1e-6,
) -> Float[Array, "..."]:
    """What of a vector leads along the sphere: `v - (n . v) n`, n the unit point.

    Args:
        vector: Such as a gradient.
        point: In the same shape; of any length above `eps`.
        axis: The axes that make up one vector.
        eps: The smallest length that counts, in the units of `point`; positive.

    Returns:
        The part that is orthogonal to the point.

    Example:
        >>> import jax.numpy as jnp
        >>> from hypersphere import ops
        >>> print(ops.tangent(jnp.array([1.0, 1.0]), jnp.array([2.0, 0.0])).round(3))
        [0. 1.]

    References:
        Absil, Mahony and Sepulchre, Optimization Algorithms on Matrix Manifolds, 2008,
        example 3.6.1.
    """
    normal = unit(point, axis=axis, eps=eps)
    return vector - jnp.sum(normal * vector, axis=axis, keepdims=True) * normal


def exponential_map(
    point: Float[Array, "..."], vector: Float[Array, "..."], *, axis: Axes = -1
) -> Float[Array, "..."]:
    """Where a geodesic ends: `cos(t) p + sin(t) v / t`, t the vector's length.

    Args:
        point: Of length one.
        vector: A tangent there, in radians.
        axis: The axes that make up one vector.

    Returns:
        A point of length one, an angle of t from the first one.

    Example:
        >>> import jax.numpy as jnp
        >>> from hypersphere import ops
        >>> east = jnp.array([0.0, jnp.pi / 2])
        >>> print(ops.exponential_map(jnp.array([1.0, 0.0]), east).round(3))
        [-0.  1.]

    References:
        Absil, Mahony and Sepulchre, Optimization Algorithms on Matrix Manifolds, 2008,
        example 5.4.1.
    """
    angle = l2_norm(vector, axis=axis, eps=1e-12, keepdims=True)
    return jnp.cos(angle) * point + jnp.sinc(angle / jnp.pi) * vector


def logarithm_map(
    point: Float[Array, "..."], other: Float[Array, "..."], *, axis: Axes = -1
) -> Float[Array, "..."]:
    """The tangent that leads to another point: the inverse of `exponential_map`.

    Args:
        point: Of length one.
        other: Of length one.
        axis: The axes that make up one vector.

    Returns:
        A tangent at the first point, whose length is the angle between both in radians,
        in [0, pi]; zero for opposite points, to which every tangent leads.

    Example:
        >>> import jax.numpy as jnp
        >>> from hypersphere import ops
        >>> print(ops.logarithm_map(*jnp.eye(2)).round(1))
        [0.  1.6]

    References:
        Absil, Mahony and Sepulchre, Optimization Algorithms on Matrix Manifolds, 2008,
        example 5.4.1.
    """
    along = unit(tangent(other, point, axis=axis), axis=axis, eps=1e-12)
    return geodesic_distance(point, other, axis=axis, keepdims=True) * along


def geodesic_distance(
    point: Float[Array, "..."],
    other: Float[Array, "..."],
    *,
    axis: Axes = -1,
    keepdims: bool = False,
) -> Float[Array, "..."]:
    """The angle between two points: `2 arctan(|p - q| / |p + q|)`.

    In half precision too it is exact to a rounding for the smallest angles, where an
    arccosine of the dot product would be zero.

    Args:
        point: Of length one.
        other: Of length one.
        axis: The axes that make up one vector.
        keepdims: Whether the axes stay, with length one.

    Returns:
        Radians, in [0, pi].

    Example:
        >>> import jax.numpy as jnp
        >>> from hypersphere import ops
        >>> round(float(ops.geodesic_distance(*jnp.eye(2))), 3)
        1.571

    References:
        Kahan, How Futile are Mindless Assessments of Roundoff, 2006, section 12.
    """
    apart, together = (
        l2_norm(x, axis=axis, eps=1e-12, keepdims=keepdims)
        for x in (point - other, point + other)
    )
    return 2 * jnp.arctan2(apart, together)


def transport(
    carried: Float[Array, "..."],
    point: Float[Array, "..."],
    vector: Float[Array, "..."],
    *,
    axis: Axes = -1,
) -> Float[Array, "..."]:
    """A tangent after the way along a geodesic, parallel to what it was.

    `c + (v . c) / t^2 ((cos t - 1) v - t sin t p)` with t the length of the vector v.

    Args:
        carried: A tangent at the point.
        point: Of length one.
        vector: The tangent of the geodesic, in radians.
        axis: The axes that make up one vector.

    Returns:
        A tangent at `exponential_map(point, vector)`, as long as it was.

    Example:
        >>> import jax.numpy as jnp
        >>> from hypersphere import ops
        >>> point, east = jnp.array([1.0, 0.0]), jnp.array([0.0, jnp.pi / 2])
        >>> print(ops.transport(east, point, east).round(1))
        [-1.6 -0. ]

    References:
        Absil, Mahony and Sepulchre, Optimization Algorithms on Matrix Manifolds, 2008,
        example 8.1.1.
    """
    angle = l2_norm(vector, axis=axis, eps=1e-12, keepdims=True)
    along = jnp.sum(vector * carried, axis=axis, keepdims=True)
    half = jnp.sinc(angle / (2 * jnp.pi))
    back = -0.5 * half**2 * vector  # (cos t - 1) / t^2, that loses no digits
    return carried + along * (back - jnp.sinc(angle / jnp.pi) * point)
