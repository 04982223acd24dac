"""Penalties that keep the filters of a layer apart."""

from collections.abc import Callable

import jax
import jax.numpy as jnp
from jaxtyping import Array, Float

from hypersphere import ops
from hypersphere._checks import check_floating
from hypersphere._dtypes import widened


def _excess(filters: Array) -> Array:
    """The Gram matrix of columns but for one of orthonormal ones."""
    products = jnp.matmul(filters.T, filters, precision="highest")
    return products - jnp.eye(filters.shape[1], dtype=filters.dtype)


def _soft(filters: Array) -> Array:
    return jnp.sum(jnp.square(_excess(filters)))


def _double(filters: Array) -> Array:
    return _soft(filters) + _soft(filters.T)


def _row_sum(filters: Array) -> Array:
    return jnp.max(jnp.sum(jnp.abs(_excess(filters)), axis=1))


def _coherence(filters: Array) -> Array:
    return jnp.max(jnp.abs(_excess(filters)))


def _spectral(filters: Array) -> Array:
    # Where two of the largest are equal the norm has no slope; with the vector held
    # still it has that of one of them.
    excess = _excess(filters)
    values, vectors = jnp.linalg.eigh(jax.lax.stop_gradient(excess))
    largest = vectors[:, jnp.argmax(jnp.abs(values))]
    return jnp.abs(largest @ excess @ largest)


def _power_iteration(filters: Array, start: Array) -> Array:
    tall = filters.T if filters.shape[0] < filters.shape[1] else filters
    excess = _excess(tall)
    along = ops.unit(jnp.matmul(excess, start, precision="highest"), axis=0, eps=1e-12)
    return jnp.sum(jnp.square(jnp.matmul(excess, along, precision="highest")))


FORMS: dict[str, Callable[[Array], Array]] = {
    "so": _soft,
    "dso": _double,
    "mc": _row_sum,
    "mc_entry": _coherence,
    "srip": _spectral,
}
"""Norms of `W.T @ W - I` by the names of their authors."""


def orthogonality(
    kernel: Float[Array, "*window in_features filters"],
    *,
    form: str = "so",
    start: Float[Array, " smaller"] | None = None,
) -> Float[Array, ""]:
    """How far the filters are from orthonormal: a norm of `W.T @ W - I`.

    Args:
        kernel: One filter along each entry of the last axis; W is the kernel reshaped
            to (fan_in, filters). Lengths count: the penalty pulls them to one.
        form: "so", the sum of squares; "dso", that and the one of `W @ W.T - I`; "mc",
            the largest sum of magnitudes of a row; "mc_entry", the largest magnitude,
            which others mean by mutual coherence; "srip", the largest magnitude of an
            eigenvalue.
        start: With "srip": a random vector as long as the smaller side of W, from which
            one step of a power iteration estimates the square of the eigenvalue, as the
            authors' code does; draw one for every step. None for the eigenvalue itself.

    Returns:
        A number at least zero, in at least float32, in the kernel's units to the fourth
        power for the first two forms and to the second one for the others. With more
        filters than fan_in "so" is at least `filters - fan_in`.

    Raises:
        TypeError: If `kernel` is not real floating point.
        ValueError: If `kernel` has fewer than two axes, there is no such form, or
            `start` is given for another one or is of another length.

    Example:
        >>> import jax.numpy as jnp
        >>> from hypersphere import regularizers
        >>> print(regularizers.orthogonality(jnp.array([[1.0, 1.0], [0.0, 1.0]])))
        3.0

    References:
        Liu et al., Deep Hyperspherical Learning, NIPS 2017, for "so". The authors
        weigh it by 1e-4. https://arxiv.org/abs/1711.03189
        Bansal et al., Can We Gain More from Orthogonality Regularizations, NeurIPS
        2018, for the others. https://arxiv.org/abs/1810.09102
        Differs: SRIP is the eigenvalue itself unless `start` is given.
    """
    check_floating("orthogonality", kernel=kernel)
    if kernel.ndim < 2:
        raise ValueError(
            "`orthogonality` needs `kernel.ndim >= 2`, filters on the last axis, got "
            f"`kernel.shape={kernel.shape}`."
        )
    if form not in FORMS:
        raise ValueError(
            f"`orthogonality` has the forms {', '.join(FORMS)}, got `form={form!r}`."
        )
    filters = jnp.reshape(widened(kernel), (-1, kernel.shape[-1]))
    if start is None:
        return FORMS[form](filters)
    if form != "srip" or start.shape != (min(filters.shape),):
        raise ValueError(
            "`orthogonality` takes `start` for `form='srip'` alone, of shape "
            f"({min(filters.shape)},) here, got `form={form!r}` and "
            f"`start.shape={start.shape}`."
        )
    return _power_iteration(filters, widened(start))
