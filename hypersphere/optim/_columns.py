"""Steps of an optimizer on some columns of a parameter, and on those alone."""

import dataclasses
from typing import Any, TypeVar

import jax
import jax.numpy as jnp
import optax
from jaxtyping import Array, Int

Tree = TypeVar("Tree")


@dataclasses.dataclass(frozen=True, kw_only=True, eq=False)
class Columns:
    """Some entries of an array's last axis, shard by shard.

    Args:
        index: Which, each once: of classes, if several columns belong to each. Those of
            one shard are neighbours, and as many as those of every other.
        group: Neighbouring columns that go together.
        shards: Equal neighbouring parts of the array, over as many devices: nothing is
            sent from one to the other.

    Example:
        >>> import jax.numpy as jnp
        >>> from hypersphere import optim
        >>> columns = optim.Columns(index=jnp.array([3, 0]))
        >>> columns.take(jnp.arange(4.0)[None])
        Array([[3., 0.]], dtype=float32)
        >>> columns.put(jnp.zeros((1, 4)), jnp.array([[7.0, 8.0]]))
        Array([[8., 0., 0., 7.]], dtype=float32)
    """

    index: Int[Array, " chosen"]
    group: int = 1
    shards: int = 1

    def take(self, whole: Array) -> Array:
        """The columns of an array."""
        taken = jax.vmap(lambda x, i: x[..., i, :], (-3, 0), -3)
        return taken(*self._parts(whole)).reshape(*whole.shape[:-1], -1)

    def put(self, whole: Array, columns: Array) -> Array:
        """The array with other columns in their place."""
        put = jax.vmap(
            lambda x, i, new: x.at[..., i, :].set(new, unique_indices=True),
            (-3, 0, -3),
            -3,
        )
        parts, index = self._parts(whole)
        return put(parts, index, self._divided(columns)).reshape(whole.shape)

    def _parts(self, whole: Array) -> tuple[Array, Array]:
        parts = self._divided(whole)
        index = self.index.reshape(self.shards, -1)
        return parts, index - parts.shape[-2] * jnp.arange(self.shards)[:, None]

    def _divided(self, x: Array) -> Array:
        return x.reshape(*x.shape[:-1], self.shards, -1, self.group)


def take_columns(
    optimizer: optax.GradientTransformation,
    state: Tree,
    params: Tree,
    columns: Any,
) -> tuple[Tree, Tree]:
    """The state of an optimizer, and parameters, as if some columns were all there are.

    Take the gradients of a loss of these parameters, update these and the state by
    them, and give what comes of it to `put_columns`. All that an optimizer keeps for
    each entry of a parameter, such as a momentum, goes along; what it keeps once, such
    as a count of steps, counts every step. So a column that is left out for a while
    keeps its momentum as it was, and Adam's correction for the first steps is over for
    columns that are chosen late.

    Args:
        optimizer: A transformation of Optax that keeps arrays of a parameter's shape,
            or numbers: not Adafactor, whose are sums of rows and columns. What it
            measures of a whole parameter, as LAMB does, it measures of the columns.
        state: Of it.
        params: Any tree.
        columns: A tree like `params`, with `Columns` for the parameters of which some
            are taken and anything else, but for None, for the others.

    Returns:
        State and parameters, smaller.

    Example:
        >>> import jax.numpy as jnp
        >>> import optax
        >>> from hypersphere import optim
        >>> optimizer, params = optax.adam(0.1), {"kernel": jnp.zeros((2, 5))}
        >>> columns = {"kernel": optim.Columns(index=jnp.array([4, 1]))}
        >>> whole = optimizer.init(params), params
        >>> state, some = optim.take_columns(optimizer, *whole, columns)
        >>> updates, state = optimizer.update({"kernel": jnp.ones((2, 2))}, state, some)
        >>> some = optax.apply_updates(some, updates)
        >>> state, params = optim.put_columns(optimizer, *whole, state, some, columns)
        >>> print(params["kernel"][0].round(1))
        [ 0.  -0.1  0.   0.  -0.1]

    References:
        An et al., Partial FC, CVPR 2022. https://arxiv.org/abs/2203.15565
    """
    marks = _marks(optimizer, state, params, columns)
    return _taken(state, marks), _taken(params, columns)


def put_columns(
    optimizer: optax.GradientTransformation,
    state: Tree,
    params: Tree,
    new_state: Tree,
    new_params: Tree,
    columns: Any,
) -> tuple[Tree, Tree]:
    """What `take_columns` was taken from, with what has become of it.

    Args:
        optimizer: As for `take_columns`.
        state: Of all columns, before the step.
        params: Likewise.
        new_state: Of those that were taken, after it.
        new_params: Likewise.
        columns: As for `take_columns`.

    Returns:
        State and parameters of all columns, after the step: where a column was not
        taken, what it was.

    Example:
        >>> import jax.numpy as jnp
        >>> import optax
        >>> from hypersphere import optim
        >>> whole, new = jnp.zeros((1, 3)), jnp.array([[5.0]])
        >>> columns = optim.Columns(index=jnp.array([2]))
        >>> optimizer = optax.sgd(0.1)
        >>> state, new_state = optimizer.init(whole), optimizer.init(new)
        >>> _, params = optim.put_columns(
        ...     optimizer, state, whole, new_state, new, columns
        ... )
        >>> print(params)
        [[0. 0. 5.]]
    """
    marks = _marks(optimizer, state, params, columns)
    return _put(state, new_state, marks), _put(params, new_params, columns)


def _marks(optimizer: Any, state: Any, params: Any, columns: Any) -> Any:
    """A tree like the state, with `Columns` where it mirrors a parameter with such."""

    def mark(leaf: Any, chosen: Any, param: Any) -> Any:
        if _is_masked(leaf) or not isinstance(chosen, Columns):
            return leaf
        return chosen if jnp.shape(leaf) == jnp.shape(param) else leaf

    return optax.tree_map_params(
        optimizer, mark, state, columns, params, is_leaf=_is_masked
    )


def _is_masked(x: Any) -> bool:
    return isinstance(x, optax.MaskedNode)


def _taken(tree: Any, marks: Any) -> Any:
    return jax.tree.map(
        lambda x, mark: mark.take(x) if isinstance(mark, Columns) else x, tree, marks
    )


def _put(old: Any, new: Any, marks: Any) -> Any:
    return jax.tree.map(
        lambda x, y, mark: mark.put(x, y) if isinstance(mark, Columns) else y,
        old,
        new,
        marks,
    )
