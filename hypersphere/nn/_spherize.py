"""Spherical layers put into a model that exists already."""

import difflib
import inspect
import logging
from typing import Any, TypeVar

import jax
import numpy as np
from flax import nnx

from hypersphere import ops
from hypersphere._select import (
    Path,
    Where,
    check_where,
    dotted,
    is_selected,
    matches,
    patterns,
)
from hypersphere.nn._conv import SphereConv
from hypersphere.nn._head import AngularHead
from hypersphere.nn._linear import SphereLinear
from hypersphere.nn._norm import SphereNorm
from hypersphere.nn._similarity import Similarity
from hypersphere.nn._transpose import SphereConvTranspose

Model = TypeVar("Model", bound=nnx.Module)

SPHERICAL: dict[type, Any] = {
    nnx.Conv: SphereConv,
    nnx.ConvTranspose: SphereConvTranspose,
    nnx.Linear: SphereLinear,
}


def spherize(
    model: Model,
    *,
    where: Where = None,
    similarity: Similarity = ops.Cosine(),
    eps: float = 1e-2,
    rngs: nnx.Rngs | None = None,
) -> Model:
    """A copy of a model whose convolutions and dense layers answer with angles.

    Every `nnx.Conv`, `nnx.ConvTranspose` and `nnx.Linear` that `where` selects becomes
    the `nn.SphereConv`, `nn.SphereConvTranspose` or `nn.SphereLinear` with the same
    weights, bias and settings, and with what else was put on it. All else is copied as
    it is, subclasses of the three and what an `nn.SphereNorm` wraps included; layers
    and parameters that were shared are shared again. Nothing in the copy belongs to the
    old model. Which layers were changed is logged to the logger "hypersphere", at level
    INFO, and `nn.spherical_layers` finds them in the copy.

    A selected last layer answers in [-1, 1], which as logits is too small for a
    softmax: leave it out, or multiply its answer by a scale.

    Args:
        model: Any NNX module, also a single layer.
        where: Which layers: a glob pattern on their path, such as "blocks.*.conv1" or
            "*.conv", where a star also stands for dots; a list of patterns; or a
            function `where(path, layer)` of the path as a tuple. By default all. A
            layer at several places has the path that `nnx.iter_graph` gives it.
        similarity: The function g from cosines in [-1, 1] to responses, or a module
            class such as `nn.LearnableSigmoid`, which is instantiated for every layer.
        eps: The smallest length that counts, in the units of the input; positive.
        rngs: Random keys for a similarity that draws its parameters; by default
            `nnx.Rngs(0)`.

    Returns:
        The changed copy, of the type of `model` unless it is a selected layer itself.

    Raises:
        TypeError: If `model` is not an `nnx.Module`, `similarity` is not callable, or
            `where` is none of the above.
        ValueError: If a pattern matches no layer, no layer is selected, the model has
            none that could be, or `eps` is not positive.

    Example:
        >>> from flax import nnx
        >>> from hypersphere import nn
        >>> rngs = nnx.Rngs(0)
        >>> model = nnx.Sequential(nnx.Linear(4, 8, rngs=rngs), nnx.relu)
        >>> spherical = nn.spherize(model, where="layers.*")
        >>> list(nn.spherical_layers(spherical))
        ['layers.0']
        >>> type(model.layers[0]).__name__, type(spherical.layers[0]).__name__
        ('Linear', 'SphereLinear')

    References:
        Liu et al., Deep Hyperspherical Learning, NIPS 2017.
        https://arxiv.org/abs/1711.03189
    """
    if not isinstance(model, nnx.Module):
        raise TypeError(
            "`spherize` needs `model` to be an `nnx.Module`, got "
            f"`{type(model).__name__}`. For a Linen model, see `linen.spherize`."
        )
    check_where("spherize", where)
    layers = _plain_layers(model)
    chosen = [path for path, layer in layers.items() if is_selected(where, path, layer)]
    _check_found(where, list(layers), chosen)
    model = _copy(model)
    rngs = rngs or nnx.Rngs(0)
    nodes = dict(nnx.iter_graph(model))
    for path in chosen:
        plain = nodes[path]
        spherical = _spherical(plain, similarity=similarity, eps=eps, rngs=rngs)
        # The object itself changes, so that all that hold it, whether a module, a
        # list, a tuple or a second owner, hold the spherical layer.
        object.__setattr__(plain, "__class__", type(spherical))
        vars(plain).clear()
        vars(plain).update(vars(spherical))
    logging.getLogger("hypersphere").info(
        "spherize changed %d of %d layers: %s",
        len(chosen),
        len(layers),
        ", ".join(map(dotted, chosen)),
    )
    return model


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
        if isinstance(layer, AngularHead) or hasattr(type(layer), "directions")
    }


def _plain_layers(model: nnx.Module) -> dict[Path, Any]:
    """The layers that can be changed, by path."""
    nodes = list(nnx.iter_graph(model))
    wrapped = [node.layer for _, node in nodes if isinstance(node, SphereNorm)]
    return {
        path: node
        for path, node in nodes
        if type(node) in SPHERICAL and not any(node is layer for layer in wrapped)
    }


def _check_found(where: Where, paths: list[Path], chosen: list[Path]) -> None:
    """Raises unless there are layers, and every pattern matches one of them."""
    if not paths:
        raise ValueError(
            "`spherize` needs a model with an `nnx.Conv`, `nnx.ConvTranspose` or "
            "`nnx.Linear`, got one without. Subclasses are left as they are."
        )
    names = [dotted(path) for path in paths]
    for pattern in patterns(where):
        if not any(matches(pattern, path) for path in paths):
            nearest = difflib.get_close_matches(pattern, names, n=5, cutoff=0.0)
            raise ValueError(
                "`spherize` needs patterns that match a convolution or dense layer, "
                f"got `where={pattern!r}`. The nearest layers are {nearest}."
            )
    if not chosen:
        raise ValueError(
            "`spherize` needs `where` to select a layer, and it selects none of the "
            f"{len(names)}, which begin with {names[:5]}, got `where={where!r}`."
        )


def _copy(model: Model) -> Model:
    """The model with variables and buffers of its own, which may then be donated."""
    graphdef, state = nnx.split(model)
    arrays = (jax.Array, np.ndarray)
    return nnx.merge(
        graphdef,
        jax.tree.map(lambda x: x.copy() if isinstance(x, arrays) else x, state),
    )


def _spherical(plain: Any, **arguments: Any) -> nnx.Module:
    """The spherical layer with the settings and the very variables of a plain one."""
    # A setting of a Flax layer is an attribute of its name.
    names = inspect.signature(type(plain).__init__).parameters
    settings = {name: getattr(plain, name) for name in names if hasattr(plain, name)}
    layer = SPHERICAL[type(plain)](
        **settings,
        **arguments,
        kernel_init=lambda *_: plain.kernel.get_raw_value(),
        bias_init=lambda *_: plain.bias.get_raw_value(),
    )
    layer.kernel, layer.bias = plain.kernel, plain.bias
    for name, value in vars(plain).items():
        if not hasattr(layer, name):  # what its owner has put on it
            try:
                setattr(layer, name, value)
            except ValueError:  # it holds variables, as `nnx.data` allows
                setattr(layer, name, nnx.data(value))
    return layer
