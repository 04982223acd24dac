"""The nearest neighbours among very many embeddings, exactly, in little memory."""

import functools
from typing import NamedTuple

import jax
import jax.numpy as jnp
import numpy as np
from jaxtyping import Array, Float, Int
from numpy.typing import ArrayLike

from hypersphere.evaluation._pairs import directions

_LANE = 64  # neighbours that are looked at together


class Neighbours(NamedTuple):
    """What is nearest to each query, the nearest first.

    Attributes:
        scores: Cosines, float32 of shape (queries, k).
        indices: Rows of the gallery, int32 of shape (queries, k); of equal scores
            lower ones first.
    """

    scores: np.ndarray
    indices: np.ndarray


def nearest(
    queries: ArrayLike,
    gallery: ArrayLike,
    k: int,
    *,
    own: ArrayLike | None = None,
    block: int = 8192,
    queries_at_once: int = 256,
) -> Neighbours:
    """The k nearest of a gallery to each query by cosine, without a matrix of all.

    It looks through blocks of the gallery and keeps the best so far; in a block, only
    into the k groups of 64 with the highest maxima, in which the best must lie.
    Products are made in full float32, also on TPUs: rounded ones change who is nearest.

    Args:
        queries: Of shape (queries, features), of any lengths.
        gallery: Of shape (n, features).
        k: How many, from 1 to n, less one with `own`.
        own: The row of the gallery that each query is, of shape (queries,), which is
            left out; None where they are others.
        block: Rows of the gallery that are looked at together, at least 64.
        queries_at_once: Queries that are looked for together, at least one.

    Returns:
        The neighbours.

    Raises:
        ValueError: If shapes do not fit, or a number is out of range.

    Example:
        >>> from hypersphere import evaluation
        >>> found = evaluation.nearest([[1.0, 0.1]], [[0.0, 1.0], [2.0, 0.0]], 1)
        >>> print(found.indices)
        [[1]]
    """
    queries, gallery = (
        directions("nearest", x, name).astype(np.float32)
        for x, name in ((queries, "queries"), (gallery, "gallery"))
    )
    if queries.shape[1] != gallery.shape[1]:
        raise ValueError(
            f"`nearest` needs embeddings of one width, got {queries.shape[1]} features "
            f"of queries and {gallery.shape[1]} of the gallery."
        )
    most = len(gallery) - (own is not None)
    if not 1 <= k <= most or block < _LANE or queries_at_once < 1:
        raise ValueError(
            f"`nearest` needs `1 <= k <= {most}`, `block >= {_LANE}` and "
            f"`queries_at_once >= 1`, got {k!r}, {block!r} and {queries_at_once!r}."
        )
    left_out = np.full(len(queries), -1) if own is None else np.asarray(own)
    if left_out.shape != (len(queries),):
        raise ValueError(
            f"`nearest` needs `own` of shape ({len(queries)},), got {left_out.shape}."
        )
    blocks = _blocks(gallery, min(block, len(gallery)))
    size = min(queries_at_once, len(queries))
    found = []
    for start in range(0, len(queries), size):
        part, without = queries[start : start + size], left_out[start : start + size]
        missing = size - len(part)  # so that one program serves all
        part = np.pad(part, ((0, missing), (0, 0)))
        without = np.pad(without, (0, missing)).astype(np.int32)
        best = jax.device_get(_best(part, blocks, without, len(gallery), k=k))
        found.append([x[: size - missing] for x in best])
    scores, indices = (np.concatenate(x) for x in zip(*found, strict=True))
    return Neighbours(np.clip(scores, -1, 1), indices)


def _blocks(gallery: np.ndarray, block: int) -> jax.Array:
    """Of shape (blocks, rows, features), rows whole lanes, zeros at the end."""
    rows = -(-block // _LANE) * _LANE
    count = -(-len(gallery) // rows)
    missing = count * rows - len(gallery)
    padded = np.pad(gallery, ((0, missing), (0, 0)))
    return jax.device_put(padded.reshape(count, rows, -1))


@functools.partial(jax.jit, static_argnames="k")
def _best(
    queries: Float[Array, "queries features"],
    blocks: Float[Array, "blocks rows features"],
    own: Int[Array, " queries"],
    length: Int[Array, ""],
    *,
    k: int,
) -> tuple[Float[Array, "queries k"], Int[Array, "queries k"]]:
    rows = blocks.shape[1]

    def look(carry: tuple[Array, Array], one: tuple[Array, Array]) -> tuple:
        number, block = one
        scores = jnp.matmul(queries, block.T, precision="highest")
        index = number * rows + jnp.arange(rows)
        is_there = (index < length)[None] & (index[None] != own[:, None])
        scores = jnp.where(is_there, scores, -jnp.inf)
        scores, place = _top(scores, min(k, rows))
        both = jnp.concatenate([carry[0], scores], axis=1)
        indices = jnp.concatenate([carry[1], number * rows + place], axis=1)
        best, chosen = jax.lax.top_k(both, k)  # of equal ones the first, the lowest
        return (best, jnp.take_along_axis(indices, chosen, axis=1)), None

    start = (
        jnp.full((len(queries), k), -jnp.inf),
        jnp.zeros((len(queries), k), jnp.int32),
    )
    numbers = jnp.arange(len(blocks), dtype=jnp.int32)
    return jax.lax.scan(look, start, (numbers, blocks))[0]


def _top(scores: Array, k: int) -> tuple[Array, Array]:
    """The k highest of each row, exactly: they lie in the k lanes of highest maxima."""
    lanes = scores.reshape(len(scores), -1, _LANE)
    if k >= lanes.shape[1]:
        return tuple(jax.lax.top_k(scores, k))
    chosen = jnp.sort(jax.lax.top_k(jnp.max(lanes, axis=2), k)[1], axis=1)
    inside = jnp.take_along_axis(lanes, chosen[:, :, None], axis=1)
    best, place = jax.lax.top_k(inside.reshape(len(scores), -1), k)
    lane = jnp.take_along_axis(chosen, place // _LANE, axis=1)
    return best, lane * _LANE + place % _LANE
