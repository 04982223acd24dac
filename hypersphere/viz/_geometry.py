"""The numbers behind the pictures of features."""

import numpy as np


def unit(points: np.ndarray) -> np.ndarray:
    """Rows brought to length one; a row of zeros stays.

    Args:
        points: float array of shape (n, d).

    Returns:
        float64 of shape (n, d).

    Example:
        >>> print(unit(np.array([[3.0, 4.0], [0.0, 0.0]])))
        [[0.6 0.8]
         [0.  0. ]]
    """
    points = np.asarray(points, np.float64)
    norm = np.linalg.norm(points, axis=-1, keepdims=True)
    return np.divide(points, norm, out=np.zeros_like(points), where=norm > 0)


def principal_plane(points: np.ndarray) -> tuple[np.ndarray, float]:
    """The two orthonormal directions along which points vary most.

    Args:
        points: float array of shape (n, d), d >= 2.

    Returns:
        The directions, float64 of shape (d, 2), each with its largest entry positive,
        and the share of the variance along them, in `[0, 1]` (1 if nothing varies).

    Example:
        >>> import numpy as np
        >>> points = np.array([[3.0, 0, 0], [-3, 0, 0], [0, 0, 1]])
        >>> axes, share = principal_plane(points)
        >>> print(np.abs(axes.T).round(2), round(share, 2))
        [[1. 0. 0.]
         [0. 0. 1.]] 1.0
    """
    points = np.asarray(points, np.float64)
    centered = points - points.mean(axis=0)
    variances, directions = np.linalg.eigh(centered.T @ centered)
    variances, axes = np.maximum(variances[::-1], 0), directions[:, :-3:-1]
    largest = axes[np.argmax(np.abs(axes), axis=0), [0, 1]]
    total = variances.sum()
    return axes * np.sign(largest), float(variances[:2].sum() / total) if total else 1.0


def direction_density(
    points: np.ndarray, *, bins: int = 720, width: float = 2.0
) -> tuple[np.ndarray, np.ndarray]:
    """How the directions of points in the plane spread around the circle.

    Args:
        points: float array of shape (n, 2). A point at the origin has no direction and
            is left out.
        bins: How many directions to look at.
        width: Standard deviation of the Gaussian that smooths the counts, in degrees.

    Returns:
        The directions in radians, `[-pi, pi)`, and the density per radian, which
        integrates to one (zero if no point has a direction); both float64 of shape
        (bins,).

    Example:
        >>> import numpy as np
        >>> theta, density = direction_density(np.array([[1.0, 1.0]]))
        >>> print(np.degrees(theta[np.argmax(density)]).round(3))
        45.0
    """
    points = np.asarray(points)[np.any(points, axis=1)]
    step = 2 * np.pi / bins
    theta = -np.pi + step * np.arange(bins)
    index = np.rint((np.arctan2(points[:, 1], points[:, 0]) + np.pi) / step).astype(int)
    counts = np.bincount(index % bins, minlength=bins)
    bump = np.exp(-0.5 * (theta / np.radians(width)) ** 2)
    smooth = np.fft.irfft(
        np.fft.rfft(counts) * np.fft.rfft(np.fft.ifftshift(bump / bump.sum())), bins
    )
    return theta, np.maximum(smooth, 0) / (max(len(points), 1) * step)


def place_on_rays(starts: np.ndarray, boxes: np.ndarray) -> np.ndarray:
    """Move labels outward, each on its ray from the origin, until none overlap.

    Args:
        starts: Where each label would stand, float array of shape (n, 2).
        boxes: Width and height of each label in the same unit, positive, shape (n, 2).

    Returns:
        The middle of each label, float64 of shape (n, 2). Those nearest to the origin
        are placed first.

    Example:
        >>> print(place_on_rays(np.array([[1.0, 0.0], [1.0, 0.0]]), np.ones((2, 2))))
        [[1. 0.]
         [2. 0.]]
    """
    rays = unit(starts)
    rays[~rays.any(axis=1)] = (1.0, 0.0)
    placed = np.array(starts, np.float64)
    order = np.argsort(np.linalg.norm(starts, axis=1), kind="stable")
    for rank, label in enumerate(order):
        others = order[:rank]
        room = (boxes[others] + boxes[label]) / 2
        while np.any(np.all(np.abs(placed[others] - placed[label]) < room, axis=1)):
            placed[label] += 0.25 * boxes.min() * rays[label]
    return placed
