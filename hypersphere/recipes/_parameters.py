"""Parameters by their paths: which ones patterns fit, and what happens to those."""

import difflib
from collections.abc import Callable, Collection, Sequence
from typing import Any

import jax
from flax import nnx

from hypersphere._select import matches


def ranks_of(model: nnx.Module) -> dict[str, int]:
    """The number of axes of each parameter, by its path."""
    params = nnx.to_pure_dict(nnx.state(model, nnx.Param))
    leaves = jax.tree_util.tree_leaves_with_path(params)
    return {path_of(keys): leaf.ndim for keys, leaf in leaves}


def by_path(function: Callable[[str, Any], Any]) -> Callable[[Any], Any]:
    """Maps a tree leaf by leaf, with each one's path.

    Made for trees of which Optax has masked a part, so that a fixed tree would not fit.
    """
    return lambda tree: jax.tree_util.tree_map_with_path(
        lambda keys, leaf: function(path_of(keys), leaf), tree
    )


def mask(paths: Collection[str]) -> Callable[[Any], Any]:
    return by_path(lambda path, _: path in paths)


def path_of(keys: Any) -> str:
    return jax.tree_util.keystr(keys, simple=True, separator=".")


def is_kernel(path: str) -> bool:
    return path.split(".")[-1] == "kernel"


def inner(kernels: Collection[str]) -> set[str]:
    """The kernels outside of the head."""
    return {path for path in kernels if path.split(".")[0] != "head"}


def fitting(field: str, patterns: Sequence[str], paths: Collection[str]) -> set[str]:
    """The parameters that the patterns of a field fit; each must fit one."""
    chosen = set()
    for pattern in patterns:
        found = {path for path in paths if matches(pattern, (path,))}
        if not found:
            nearest = difflib.get_close_matches(pattern, paths, n=3, cutoff=0.0)
            raise ValueError(
                f"`config.optim.{field}` needs patterns that fit a parameter, got "
                f"{pattern!r}. The nearest parameters are {', '.join(nearest)}."
            )
        chosen |= found
    return chosen
