"""Steps that look at some classes of the head, and learn nothing of the others."""

from typing import Any, NamedTuple

import jax
import jax.numpy as jnp
import optax

from hypersphere import ops, optim

HEAD = ("head", "kernel")
"""Where the class centres are among the parameters of a network."""


class Sampling(NamedTuple):
    """How a head's classes are chosen.

    Attributes:
        num_classes: How many there are.
        share: How many of them a step looks at.
        centres: Columns per class.
        shards: Devices that the classes are divided over.
    """

    num_classes: int
    share: float
    centres: int
    shards: int


class Some(NamedTuple):
    """A state as if the chosen classes were all there are.

    Attributes:
        params: The parameters.
        optimizer: What the optimizer remembers.
        labels: Of the batch, as places among the chosen classes.
        columns: Which; a tree like the parameters.
    """

    params: Any
    optimizer: Any
    labels: jax.Array
    columns: Any


def some_classes(
    key: jax.Array,
    sampling: Sampling,
    optimizer: optax.GradientTransformation,
    state: Any,
    labels: jax.Array,
) -> Some:
    """Chooses classes for a batch, and takes what belongs to them out of a state.

    Args:
        key: Of the draw.
        sampling: How they are chosen.
        optimizer: Of the run.
        state: A `TrainState`.
        labels: Of the whole batch, int32.
    """
    classes, places = ops.sample_classes(
        key, labels, sampling.num_classes, share=sampling.share, shards=sampling.shards
    )
    chosen = optim.Columns(
        index=classes, group=sampling.centres, shards=sampling.shards
    )

    def mark(keys: Any, leaf: Any) -> Any:
        del leaf
        return chosen if tuple(key.key for key in keys) == HEAD else False

    columns = jax.tree_util.tree_map_with_path(mark, state.params)
    memory, params = optim.take_columns(
        optimizer, state.optimizer, state.params, columns
    )
    return Some(params, memory, places, columns)


def among(labels: jax.Array, places: jax.Array, others: jax.Array) -> jax.Array:
    """The places of labels that are those of a batch in another order."""
    where = jnp.argmax(labels[None, :] == others[:, None], axis=1)
    return places[where]
