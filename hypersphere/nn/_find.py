"""Which layers of a model answer with angles, and which do not."""

from typing import Any

from flax import nnx

from hypersphere._select import dotted, shown
from hypersphere.nn._head import AngularHead
from hypersphere.nn._norm import SphereNorm

_NORMS = (
    nnx.BatchNorm,
    nnx.LayerNorm,
    nnx.RMSNorm,
    nnx.GroupNorm,
    nnx.InstanceNorm,
    nnx.SpectralNorm,
    nnx.WeightNorm,
)
_SHOWN = 8  # paths of a kind of layer in a line of the log


def spherical_layers(model: nnx.Module) -> dict[str, nnx.Module]:
    """The layers that answer with angles, by their path in a model.

    Args:
        model: Any NNX module, also a single layer, whose path is "".

    Returns:
        Each convolution, dense layer, head and `nn.SphereNorm` of this package, and
        each layer that has `directions`, under its dotted path.

    Example:
        >>> from flax import nnx
        >>> from hypersphere import nn
        >>> rngs = nnx.Rngs(0)
        >>> model = nnx.Sequential(nn.SphereLinear(4, 3, rngs=rngs), nnx.relu)
        >>> list(nn.spherical_layers(model))
        ['layers.0']
    """
    return {
        dotted(path): layer
        for path, layer in nnx.iter_graph(model)
        if _is_spherical(layer)
    }


def plain_layers(model: nnx.Module) -> dict[str, nnx.Module]:
    """The layers with weights that do not answer with angles, by their path.

    Args:
        model: Any NNX module, also a single layer, whose path is "".

    Returns:
        Each module that holds an `nnx.Param` of at least two axes itself, and is
        neither spherical, nor inside an `nn.SphereNorm`, nor a normalization: also an
        embedding, an adapter, or a class of one's own, which `nn.spherize` leaves.

    Example:
        >>> from flax import nnx
        >>> from hypersphere import nn
        >>> rngs = nnx.Rngs(0)
        >>> layers = nn.SphereLinear(4, 3, rngs=rngs), nnx.Linear(3, 2, rngs=rngs)
        >>> list(nn.plain_layers(nnx.Sequential(*layers)))
        ['layers.1']
    """
    parts = inside_norms(model) | _inside_similarities(model)
    return {
        dotted(path): node
        for path, node in nnx.iter_graph(model)
        if isinstance(node, nnx.Module)
        and not isinstance(node, _NORMS)
        and not _is_spherical(node)
        and id(node) not in parts
        and any(_is_matrix(value) for value in vars(node).values())
    }


def inside_norms(model: nnx.Module) -> set[int]:
    """The identities of the layers that an `nn.SphereNorm` wraps."""
    nodes = [node for _, node in nnx.iter_graph(model)]
    return {id(node.layer) for node in nodes if isinstance(node, SphereNorm)}


def _inside_similarities(model: nnx.Module) -> set[int]:
    layers = [node for _, node in nnx.iter_graph(model) if _is_spherical(node)]
    similarities = [getattr(layer, "similarity", None) for layer in layers]
    return {
        id(node)
        for similarity in similarities
        if isinstance(similarity, nnx.Module)
        for _, node in nnx.iter_graph(similarity)
    }


def named(layers: dict[str, nnx.Module]) -> str:
    """Layers by their type: `2 Embed (a, b), 1 Linear (head)`."""
    kinds: dict[str, list[str]] = {}
    for path, layer in layers.items():
        kinds.setdefault(type(layer).__name__, []).append(shown(path))
    told = []
    for kind, paths in kinds.items():
        more = [f"{len(paths) - _SHOWN} more"] if len(paths) > _SHOWN else []
        told.append(f"{len(paths)} {kind} ({', '.join(paths[:_SHOWN] + more)})")
    return ", ".join(told)


def _is_spherical(node: Any) -> bool:
    return isinstance(node, AngularHead) or hasattr(type(node), "directions")


def _is_matrix(value: Any) -> bool:
    return isinstance(value, nnx.Param) and len(getattr(value, "shape", ())) > 1
