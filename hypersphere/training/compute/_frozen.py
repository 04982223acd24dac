"""What it means that a layer is frozen, besides that its parameters stay."""

from typing import Any

from flax import nnx

from hypersphere._select import Path, matches


def still_layers(model: nnx.Module, patterns: tuple[str, ...]) -> frozenset[Path]:
    """The layers with running averages of which everything is frozen.

    Args:
        model: The network or its shapes.
        patterns: Of what is frozen, globs on dotted paths.

    Returns:
        The paths of layers with `use_running_average` of whose own parameters each fits
        a pattern; of those without parameters, whose other variables do.

    Example:
        >>> from flax import nnx
        >>> from hypersphere.training.compute._frozen import still_layers
        >>> norms = nnx.List([nnx.BatchNorm(2, rngs=nnx.Rngs(0)) for _ in range(2)])
        >>> sorted(still_layers(nnx.Sequential(*norms), ("layers.0.*", "*.bias")))
        [('layers', 0)]
    """
    return frozenset(
        path
        for path, layer in nnx.iter_modules(model)
        if hasattr(layer, "use_running_average") and _is_frozen(path, layer, patterns)
    )


def hold_still(model: nnx.Module, paths: frozenset[Path]) -> None:
    """Has the layers use their running averages, which then do not move either."""
    if paths:
        for path, layer in nnx.iter_modules(model):
            if path in paths:
                setattr(layer, "use_running_average", True)  # noqa: B010  of any class


def _is_frozen(path: Path, layer: Any, patterns: tuple[str, ...]) -> bool:
    own = {k: v for k, v in vars(layer).items() if isinstance(v, nnx.Variable)}
    params = [name for name, value in own.items() if isinstance(value, nnx.Param)]
    names = params or list(own)
    return bool(names) and all(
        any(matches(pattern, (*path, name)) for pattern in patterns) for name in names
    )
