"""Cosines to more class centres than fit into memory at once: chunk by chunk."""

import dataclasses
import functools
import math
from collections.abc import Callable
from typing import Any

import jax
import jax.numpy as jnp
from jax import lax
from jaxtyping import Array, Float, Int

from hypersphere._checks import check_positive
from hypersphere.ops._angles import clip_cosine, unit

Logits = Callable[[Array, Array, Any], Array]
"""(cosines (batch, chunk), those of right classes (batch, 1), arguments) -> logits."""


@functools.partial(
    jax.tree_util.register_dataclass,
    data_fields=["features", "kernel"],
    meta_fields=["num_classes", "centres", "shards", "chunk", "eps"],
)
@dataclasses.dataclass(frozen=True, kw_only=True)
class ChunkedCosines:
    """Cosines between features and class centres that are never made all at once.

    Losses on cosines take it in place of an array wherever they need no more than a sum
    over the classes. Forward, the sum is kept and nothing else; backward, cosines are
    computed again, chunk by chunk. So no array of (batch, classes) exists, but for the
    forward mode of differentiation, which is refused.

    Args:
        features: Unit vectors, at least float32.
        kernel: Class centres of any length, as columns. Those of one class are
            neighbours; columns past the last class are padding.
        num_classes: How many classes there are.
        centres: Centres per class; the nearest counts.
        shards: Parts that the columns are divided into, over as many devices. Sums go
            over each by itself first.
        chunk: Classes that are looked at together.
        eps: The smallest length of a centre that counts, in its units; positive.

    Raises:
        ValueError: If shapes or numbers do not fit.

    Example:
        >>> import jax.numpy as jnp
        >>> from hypersphere import losses, ops
        >>> features, labels = jnp.array([[1.0, 0.0], [0.0, 1.0]]), jnp.array([0, 1])
        >>> cos = ops.ChunkedCosines(
        ...     features=features, kernel=jnp.eye(2), num_classes=2, chunk=1
        ... )
        >>> cos.shape, [int(best) for best in cos.argmax()]
        ((2, 2), [0, 1])
        >>> each = losses.normface(cos, labels, scale=4.0)
        >>> [round(float(loss), 3) for loss in each]
        [0.018, 0.018]
    """

    features: Float[Array, "batch features"]
    kernel: Float[Array, "features columns"]
    num_classes: int
    centres: int = 1
    shards: int = 1
    chunk: int = 2048
    eps: float = 1e-2

    def __post_init__(self):
        if not hasattr(self.kernel, "shape"):
            return  # a tree of something else
        check_positive("ChunkedCosines", eps=self.eps)
        shapes = self.features.shape, self.kernel.shape
        parts = self.shards * self.centres
        needed = self.num_classes * self.centres
        if (
            [len(shape) for shape in shapes] != [2, 2]
            or shapes[0][1] != shapes[1][0]
            or shapes[1][1] % parts
            or shapes[1][1] < needed
            or self.chunk < 1
        ):
            raise ValueError(
                "`ChunkedCosines` needs `features` of shape (batch, n), a `kernel` of "
                f"shape (n, a multiple of {parts}, at least {needed}) and `chunk >= 1`,"
                f" got `features.shape={shapes[0]}`, `kernel.shape={shapes[1]}` and "
                f"`chunk={self.chunk}`."
            )

    @property
    def shape(self) -> tuple[int, int]:
        """Of the array that is not made: (batch, num_classes)."""
        return self.features.shape[0], self.num_classes

    @property
    def ndim(self) -> int:
        """Two."""
        return 2

    @property
    def dtype(self) -> Any:
        """That of the features."""
        return self.features.dtype

    def __len__(self) -> int:
        return self.shape[0]

    def array(self) -> Float[Array, "batch num_classes"]:
        """All of them after all."""
        return self._cosines(self.features, self.kernel)[:, : self.num_classes]

    def of(self, labels: Int[Array, " batch"]) -> Float[Array, "batch 1"]:
        """The cosine of each example to one class.

        Args:
            labels: Index of the class, in [0, num_classes). A negative one counts from
                the end, one past it gives NaN.
        """
        labels = self._counted(labels)
        _, columns, own = _Call(self, lambda *_: jnp.zeros(()))._own(self, labels)
        return own(self.features, columns)

    def argmax(self, axis: int = -1) -> Int[Array, " batch"]:
        """The nearest class of each example, the first one of several as near.

        Args:
            axis: That of the classes, the last.
        """
        del axis

        def look(i: Array, best: tuple[Array, Array]) -> tuple[Array, Array]:
            def of_shard(shard: Array, kernel: Array) -> tuple[Array, Array]:
                classes, is_new = self._classes(shard, i)
                cos = self._cosines(self.features, self._part(kernel, i))
                cos = jnp.where(is_new[None, :], cos, -jnp.inf)
                index = jnp.argmax(cos, axis=-1)
                return jnp.max(cos, axis=-1), classes[index]

            value, index = self._over_shards(of_shard)
            is_nearer = value > best[0]
            return jnp.where(is_nearer, value, best[0]), jnp.where(
                is_nearer, index, best[1]
            )

        shape = self.shards, len(self)
        start = jnp.full(shape, -jnp.inf, self.dtype), jnp.zeros(shape, jnp.int32)
        value, index = lax.fori_loop(0, self._count, look, start)
        best = jnp.argmax(value, axis=0)[None]
        return jnp.take_along_axis(index, best, axis=0)[0]

    def right_and_rest(
        self, labels: Int[Array, " batch"], logits: Logits, arguments: Any
    ) -> tuple[Float[Array, "batch 1"], Float[Array, " batch"]]:
        """The cosine of each right class, and the log of the sum over the others.

        Args:
            labels: Index of the right class, as for `of`.
            logits: (cosines of some classes, those of the right ones, arguments) ->
                the logits of the first.
            arguments: A tree of numbers, or of arrays that broadcast against (batch,
                1). Gradients go there too.

        Returns:
            The cosines, and the logarithm of the sum of `exp(logits)` over all classes
            that are not right.
        """
        dtype, labels = self.dtype, self._counted(labels)
        arguments = jax.tree.map(lambda x: jnp.asarray(x, dtype), arguments)
        blank = jnp.zeros((len(self), self._size), dtype)
        pure, hoisted = jax.closure_convert(logits, blank, blank[:, :1], arguments)
        call = _Call(self, pure)
        return call(self.features, self.kernel, labels, (arguments, hoisted))

    @property
    def _per_shard(self) -> int:
        """Classes of a shard, padding among them."""
        return self.kernel.shape[1] // (self.shards * self.centres)

    @property
    def _size(self) -> int:
        return min(self.chunk, self._per_shard)

    @property
    def _count(self) -> int:
        return math.ceil(self._per_shard / self._size)

    def _start(self, i: Array) -> Array:
        """The first class of a chunk in its shard; the last chunk begins earlier."""
        return jnp.minimum(i * self._size, self._per_shard - self._size)

    def _classes(self, shard: Array, i: Array) -> tuple[Array, Array]:
        """The classes of a chunk, and which of them are there and were not before."""
        inside = self._start(i) + jnp.arange(self._size)
        classes = shard * self._per_shard + inside
        return classes, (inside >= i * self._size) & (classes < self.num_classes)

    def _part(self, kernel: Array, i: Array) -> Array:
        """The columns of a chunk, from those of its shard."""
        start, size = self._start(i) * self.centres, self._size * self.centres
        return lax.dynamic_slice_in_dim(kernel, start, size, axis=1)

    def _cosines(self, features: Array, part: Array) -> Array:
        """To the classes of some columns, (batch, classes)."""
        columns = unit(part.astype(features.dtype), axis=0, eps=self.eps)
        return self._nearest(clip_cosine(features @ columns))

    def _at(self, features: Array, part: Array) -> Array:
        """Of each example to the centres of one class, (batch, 1)."""
        columns = unit(part.astype(features.dtype), axis=0, eps=self.eps)
        cos = jnp.einsum("bd,dbk->bk", features, columns)
        return self._nearest(clip_cosine(cos))

    def _nearest(self, cos: Array) -> Array:
        if self.centres == 1:
            return cos
        return nearest_subcentre(cos.reshape(len(cos), -1, self.centres))

    def _over_shards(self, function: Callable[..., Any], *each: Any) -> Any:
        """What (shard, its columns, its part of further trees) gives, stacked."""
        shards = self.kernel.reshape(self.kernel.shape[0], self.shards, -1)
        axes = (0, 1, *(0 for _ in each))
        return jax.vmap(function, axes)(jnp.arange(self.shards), shards, *each)

    def _counted(self, labels: Array) -> Array:
        return jnp.where(labels < 0, labels + self.num_classes, labels)

    def _columns(self, labels: Array) -> Array:
        """Which columns are those of each example's class, (batch, centres)."""
        return labels[:, None] * self.centres + jnp.arange(self.centres)[None, :]


class _Call:
    """`right_and_rest` with a derivative that computes cosines again."""

    def __init__(self, cosines: ChunkedCosines, logits: Callable[..., Array]):
        self._cosines, self._logits = cosines, logits
        self._call = jax.custom_vjp(lambda *given: self._forward(*given)[0])
        self._call.defvjp(self._forward, self._backward)

    def __call__(self, *given: Any) -> tuple[Array, Array]:
        return self._call(*given)

    def _of_chunk(
        self, cosines: ChunkedCosines, shard: Array, i: Array, labels: Array
    ) -> Callable[..., Array]:
        """(features, columns, right cosines, arguments) -> logits of wrong classes."""
        classes, is_new = cosines._classes(shard, i)
        is_wrong = is_new[None, :] & (classes[None, :] != labels[:, None])

        def logits(features: Array, part: Array, own: Array, given: Any) -> Array:
            (arguments, hoisted), cos = given, cosines._cosines(features, part)
            found = self._logits(cos, own, arguments, *hoisted)
            return jnp.where(is_wrong, found, -jnp.inf)

        return logits

    def _own(
        self, cosines: ChunkedCosines, labels: Array
    ) -> tuple[Array, Array, Callable[[Array, Array], Array]]:
        """The right classes' columns, shard by shard, and what makes cosines of them.

        Returns:
            Which columns of each shard, (shards, batch, centres), one past the end for
            classes that are elsewhere; these; and (features, columns) -> cosines,
            (batch, 1).
        """
        width = cosines.kernel.shape[1] // cosines.shards
        first = width * jnp.arange(cosines.shards)[:, None, None]
        inside = cosines._columns(labels)[None] - first
        is_here = (inside[..., :1] >= 0) & (inside[..., :1] < width)
        index = jnp.where(is_here, inside, width)  # past the end
        take = lambda shard, kernel, index: jnp.take(  # noqa: E731
            kernel, index, axis=1, mode="clip"
        )
        columns = cosines._over_shards(take, index).astype(cosines.dtype)

        def own(features: Array, columns: Array) -> Array:
            each = jax.vmap(cosines._at, (None, 0))(features, columns)
            is_class = (labels >= 0) & (labels < cosines.num_classes)
            found = jnp.sum(jnp.where(is_here, each, 0), axis=0)
            return jnp.where(is_class[:, None], found, jnp.nan)

        return index, columns, own

    def _forward(
        self, features: Array, kernel: Array, labels: Array, given: Any
    ) -> tuple[tuple[Array, Array], Any]:
        cosines = dataclasses.replace(self._cosines, features=features, kernel=kernel)
        _, columns, make_own = self._own(cosines, labels)
        own = make_own(features, columns)

        def add(i: Array, sums: tuple[Array, Array]) -> tuple[Array, Array]:
            def of_shard(shard: Array, kernel: Array) -> Array:
                call = self._of_chunk(cosines, shard, i, labels)
                return call(features, cosines._part(kernel, i), own, given)

            logits = cosines._over_shards(of_shard)
            top = jnp.maximum(sums[0], jnp.max(logits, axis=-1))
            level = jnp.where(jnp.isfinite(top), top, 0)
            new = jnp.sum(jnp.exp(logits - level[..., None]), axis=-1)
            return top, sums[1] * jnp.exp(sums[0] - level) + new

        shape = cosines.shards, len(features)
        start = jnp.full(shape, -jnp.inf, cosines.dtype), jnp.zeros(shape, own.dtype)
        top, total = lax.fori_loop(0, cosines._count, add, start)
        rest = jax.nn.logsumexp(top + jnp.log(total), axis=0)
        return (own, rest), (features, kernel, labels, given, own, rest)

    def _backward(self, kept: Any, slopes: tuple[Array, Array]) -> Any:
        features, kernel, labels, given, own, rest = kept
        of_own, of_rest = slopes
        cosines = dataclasses.replace(self._cosines, features=features, kernel=kernel)
        level = jnp.where(jnp.isfinite(rest), rest, 0)[:, None]

        def add(i: Array, carry: Any) -> Any:
            def of_shard(shard: Array, kernel: Array, slope: Array) -> Any:
                call = self._of_chunk(cosines, shard, i, labels)
                part = cosines._part(kernel, i)
                logits, back = jax.vjp(call, features, part, own, given)
                more, of_part, *others = back(
                    jnp.exp(logits - level) * of_rest[:, None]
                )
                there = cosines._part(slope, i) + of_part
                start = cosines._start(i) * cosines.centres
                slope = lax.dynamic_update_slice_in_dim(slope, there, start, axis=1)
                return slope, (more, *others)

            slope, total = carry
            slope, more = cosines._over_shards(of_shard, slope)
            return slope, jax.tree.map(jnp.add, total, more)

        shards = cosines.shards
        width = kernel.shape[1] // shards
        zeros = jnp.zeros((shards, kernel.shape[0], width), kernel.dtype)
        totals = jax.tree.map(
            lambda x: jnp.zeros((shards, *x.shape), x.dtype), (features, own, given)
        )
        slope, totals = lax.fori_loop(0, cosines._count, add, (zeros, totals))
        of_features, more_own, of_given = jax.tree.map(lambda x: x.sum(0), totals)
        index, columns, make_own = self._own(cosines, labels)
        _, back = jax.vjp(make_own, features, columns)
        more_features, of_columns = back(of_own + more_own)
        # Examples of one class are summed up first: half precision would lose them.
        is_same = (labels[:, None] == labels[None, :]).astype(of_columns.dtype)
        of_columns = jnp.einsum("ab,sdbk->sdak", is_same, of_columns)

        def put(slope: Array, i: Array, more: Array) -> Array:
            found = jnp.take(slope, i, axis=1, mode="clip") + more
            return slope.at[:, i].set(found.astype(slope.dtype), mode="drop")

        slope = jax.vmap(put)(slope, index, of_columns)
        of_kernel = jnp.moveaxis(slope, 0, 1).reshape(kernel.shape)
        return of_features + more_features, of_kernel, None, of_given


def nearest_subcentre(
    cos: Float[Array, "batch classes centres"],
) -> Float[Array, "batch classes"]:
    """The cosine to the nearest of the several centres of each class.

    Args:
        cos: Cosines to all centres, in [-1, 1].

    Returns:
        The largest of each class. The gradient goes to that centre, to the first one
        of several that are as near.

    Example:
        >>> import jax.numpy as jnp
        >>> from hypersphere import ops
        >>> print(ops.nearest_subcentre(jnp.array([[[0.1, 0.7], [0.4, 0.2]]])))
        [[0.7 0.4]]

    References:
        Deng et al., Sub-center ArcFace, ECCV 2020.
    """
    index = jnp.argmax(cos, axis=-1, keepdims=True)
    return jnp.take_along_axis(cos, index, axis=-1)[..., 0]
