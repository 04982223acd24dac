"""Parameters of one run as the beginning of another."""

import difflib
from collections.abc import Mapping
from types import MappingProxyType
from typing import Any

import jax
import numpy as np

from hypersphere._select import Path, dotted, matches
from hypersphere.training.machine import _mesh


def graft(
    fresh: Any,
    donor: Any,
    patterns: tuple[str, ...],
    *,
    must_fit: bool = True,
    padded: Mapping[str, int] = MappingProxyType({}),
) -> Any:
    """Arrays of another run, but for those that start afresh.

    Args:
        fresh: Arrays of this run, as nested dictionaries.
        donor: Those of the other run; they are copied, and may be given again.
        patterns: Globs on the dotted paths of what starts afresh.
        must_fit: Whether every pattern has to fit one of them.
        padded: Path of an array, as `jax.tree_util.keystr` writes it -> how many
            entries of its last axis are no padding, which the donor's has not.

    Returns:
        A tree as `fresh`.

    Raises:
        ValueError: If a pattern fits nothing, or the other run has no such array, or
            one of another shape, or one that this run has not.

    Example:
        >>> import jax.numpy as jnp
        >>> from hypersphere.training.checkpoints._graft import graft
        >>> fresh = {"conv": jnp.zeros(2), "head": jnp.zeros(3)}
        >>> donor = {"conv": jnp.ones(2), "head": jnp.ones(5)}
        >>> print(*graft(fresh, donor, ("head",)).values())
        [1. 1.] [0. 0. 0.]
    """
    if must_fit:
        _check_patterns((fresh, donor), patterns)
    given = {
        jax.tree_util.keystr(keys): leaf
        for keys, leaf in jax.tree_util.tree_flatten_with_path(donor)[0]
    }

    def choose(keys: Any, leaf: Any) -> Any:
        path = _mesh.names(keys)
        if any(matches(pattern, path) for pattern in patterns):
            return leaf
        name = jax.tree_util.keystr(keys)
        other = given.get(name)
        if other is not None and name in padded and other.shape[-1] == padded[name]:
            more = leaf.shape[-1] - padded[name]
            other = np.pad(other, [(0, 0)] * (other.ndim - 1) + [(0, more)])
        if other is None or other.shape != leaf.shape:
            there = "nothing" if other is None else f"shape {other.shape}"
            raise ValueError(
                f"`config.init_from` needs a run with {dotted(path)} of shape "
                f"{leaf.shape}, got {there}. Add {dotted(path)!r} to "
                "`config.init_fresh` to start it afresh."
            )
        # A copy: the step will overwrite what it is given.
        whole = np.array(other, leaf.dtype)
        return jax.make_array_from_callback(
            leaf.shape, leaf.sharding, lambda index: whole[index]
        )

    _refuse_more(fresh, donor, patterns)
    return jax.tree_util.tree_map_with_path(choose, fresh)


def without_padding(tree: Any, padded: Mapping[str, int]) -> Any:
    """Arrays on the host, of which some lose the end of their last axis.

    Args:
        tree: The arrays.
        padded: As for `graft`.
    """

    def cut(keys: Any, leaf: Any) -> Any:
        return leaf[..., : padded.get(jax.tree_util.keystr(keys), leaf.shape[-1])]

    return jax.tree_util.tree_map_with_path(
        lambda keys, leaf: cut(keys, leaf) if np.ndim(leaf) else leaf, tree
    )


def _refuse_more(fresh: Any, donor: Any, patterns: tuple[str, ...]) -> None:
    """Raises if the other run has arrays that nobody has said to leave behind."""
    here = set(_paths(fresh))
    more = [
        path
        for path in _paths(donor)
        if path not in here and not any(matches(each, path) for each in patterns)
    ]
    if more:
        told = ", ".join(map(dotted, more[:3]))
        raise ValueError(
            f"The run of `config.init_from` has {len(more)} arrays that this network "
            f"lacks: {told}{', ...' * (len(more) > 3)}. Is it the network that was "
            f"meant? Add patterns for them, such as {dotted(more[0])!r}, to "
            "`config.init_fresh` to leave them behind."
        )


def _paths(tree: Any) -> list[Path]:
    leaves = jax.tree_util.tree_leaves_with_path(tree)
    return [_mesh.names(keys) for keys, _ in leaves]


def _check_patterns(trees: Any, patterns: tuple[str, ...]) -> None:
    paths = [path for tree in trees for path in _paths(tree)]
    for pattern in patterns:
        if not any(matches(pattern, path) for path in paths):
            nearest = difflib.get_close_matches(
                pattern, map(dotted, paths), n=3, cutoff=0.0
            )
            raise ValueError(
                "`config.init_fresh` needs patterns that fit a parameter, got "
                f"{pattern!r}. The nearest parameters are {', '.join(nearest)}."
            )
