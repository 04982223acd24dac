"""Which layers of a model are meant: by a pattern on their path, or by a predicate."""

import fnmatch
from collections.abc import Callable, Sequence
from typing import Any, TypeAlias

Path: TypeAlias = tuple[Any, ...]
Where: TypeAlias = str | Sequence[str] | Callable[[Path, Any], bool] | None


def dotted(path: Path) -> str:
    """A path as it is written in Python: "blocks.0.conv"."""
    return ".".join(map(str, path))


def shown(path: Path | str) -> str:
    """A path for people, for whom an empty one says nothing."""
    return (path if isinstance(path, str) else dotted(path)) or "the model"


def patterns(where: Where) -> tuple[str, ...]:
    """The glob patterns, of which a predicate has none."""
    if where is None or callable(where):
        return ()
    return (where,) if isinstance(where, str) else tuple(where)


def check_where(who: str, where: Any) -> None:
    """Raises unless `where` is a pattern, some of them, a predicate or None."""
    listed = isinstance(where, Sequence) and all(isinstance(w, str) for w in where)
    if not (where is None or callable(where) or listed):
        raise TypeError(
            f"`{who}` needs `where` to be a pattern such as 'blocks.*.conv1', a list "
            "of patterns, or a function of a layer's path and the layer, got "
            f"`where={where!r}`."
        )


def matches(pattern: str, path: Path) -> bool:
    """Whether a glob pattern is the whole dotted path; a star spans dots as well."""
    return fnmatch.fnmatchcase(dotted(path), pattern)


def matches_below(pattern: str, path: Path) -> bool:
    """Whether a glob pattern is the dotted path, or that of something it is inside."""
    ends = range(1, len(path) + 1) if path else [0]
    return any(matches(pattern, path[:end]) for end in ends)


def is_selected_below(where: Where, path: Path, layer: Any) -> bool:
    """Whether a layer at a path is meant, or something that it is inside."""
    if where is None or callable(where):
        return is_selected(where, path, layer)
    return any(matches_below(pattern, path) for pattern in patterns(where))


def is_selected(where: Where, path: Path, layer: Any) -> bool:
    """Whether a layer at a path is meant."""
    if where is None:
        return True
    if callable(where):
        return bool(where(path, layer))
    return any(matches(pattern, path) for pattern in patterns(where))
