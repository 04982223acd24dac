"""Parameters of one run as the beginning of another."""

from typing import Any

import jax

from hypersphere._select import dotted, matches
from hypersphere.training import _mesh


def graft(fresh: Any, donor: Any, patterns: tuple[str, ...]) -> Any:
    """Parameters of another run, but for those that start afresh.

    Raises:
        ValueError: If the other run has no such parameter, or one of another shape.
    """
    given = {
        jax.tree_util.keystr(keys): leaf
        for keys, leaf in jax.tree_util.tree_flatten_with_path(donor)[0]
    }

    def choose(keys: Any, leaf: Any) -> Any:
        path = _mesh.names(keys)
        if any(matches(pattern, path) for pattern in patterns):
            return leaf
        other = given.get(jax.tree_util.keystr(keys))
        if other is None or other.shape != leaf.shape:
            there = "nothing" if other is None else f"shape {other.shape}"
            raise ValueError(
                f"`config.init_from` needs a run with {dotted(path)} of shape "
                f"{leaf.shape}, got {there}. Add {dotted(path)!r} to "
                "`config.init_fresh` to start it afresh."
            )
        return other

    return jax.tree_util.tree_map_with_path(choose, fresh)
