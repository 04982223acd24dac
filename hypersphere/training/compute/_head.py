"""The class centres of a network's head: their padding, and steps on some of them."""

import dataclasses
from collections.abc import Callable, Mapping
from typing import Any

import jax
import jax.numpy as jnp
import optax

from hypersphere import nn, ops, optim
from hypersphere.training.settings._config import TrainConfig

PATH = ("head", "kernel")
"""Where the class centres are among the parameters of a network."""


@dataclasses.dataclass(frozen=True)
class Chosen:
    """The classes that a step looks at, and learns something of.

    Args:
        optimizer: Of the run.
        columns: A tree like the parameters, as for `optim.take_columns`.
        labels: Of the whole batch.
        at: Where the class of each label is among those that are chosen.
    """

    optimizer: optax.GradientTransformation
    columns: Any
    labels: jax.Array
    at: jax.Array

    def take(self, state: Any) -> tuple[Any, Any]:
        """Parameters and the optimizer's memory as if the chosen were all there are."""
        memory, params = optim.take_columns(
            self.optimizer, state.optimizer, state.params, self.columns
        )
        return params, memory

    def put(self, state: Any, memory: Any, params: Any) -> tuple[Any, Any]:
        """Memory and parameters of a state, with those of the chosen after a step."""
        return optim.put_columns(
            self.optimizer, state.optimizer, state.params, memory, params, self.columns
        )

    def places(self, labels: jax.Array) -> jax.Array:
        """Where the classes of labels are that the batch has, in any order."""
        return self.at[jnp.argmax(self.labels[None, :] == labels[:, None], axis=1)]


def sampler(
    head: Any, config: TrainConfig, optimizer: optax.GradientTransformation
) -> Callable[[jax.Array, Any, jax.Array], Chosen] | None:
    """(key, parameters, labels) -> chosen classes; None where all are looked at.

    Raises:
        ValueError: If a device has fewer classes than are to be chosen of them.
    """
    if config.head.level != "sampled":
        return None
    shards = config.mesh.model

    def chosen_places(key: jax.Array, labels: jax.Array) -> tuple[jax.Array, jax.Array]:
        return ops.sample_classes(
            key, labels, head.num_classes, share=config.head.share, shards=shards
        )

    def choose(key: jax.Array, params: Any, labels: jax.Array) -> Chosen:
        classes, places = chosen_places(key, labels)
        columns = optim.Columns(index=classes, group=head.centres, shards=shards)
        marks = jax.tree_util.tree_map_with_path(
            lambda keys, _: columns if _names(keys) == PATH else False, params
        )
        return Chosen(optimizer, marks, labels, places)

    labels = jax.ShapeDtypeStruct((config.batch_size,), jnp.int32)
    jax.eval_shape(chosen_places, jax.eval_shape(jax.random.key, 0), labels)
    return choose


def padded(head: Any, template: Any) -> dict[str, int]:
    """Paths of class centres in a state, and of what mirrors them -> their number.

    Args:
        head: A network's, or anything else.
        template: The shapes of a `TrainState`.
    """
    if not isinstance(head, nn.AngularHead):
        return {}
    return {
        jax.tree_util.keystr(keys): head.num_classes * head.centres
        for keys, leaf in jax.tree_util.tree_leaves_with_path(template)
        if leaf.shape == head.kernel.shape and _names(keys[-2:]) == PATH
    }


def of_params(padded: Mapping[str, int]) -> dict[str, int]:
    """What `padded` says of the parameters, by their paths among these."""
    start = ".params"
    return {k.removeprefix(start): n for k, n in padded.items() if k.startswith(start)}


def _names(keys: Any) -> tuple[Any, ...]:
    return tuple(getattr(key, "key", None) for key in keys)
