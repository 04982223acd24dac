"""Spherical layers put into a model that exists already, and taken out again."""

import difflib
import functools
import logging
from collections.abc import Callable
from typing import Any, TypeVar

import jax
import numpy as np
from flax import nnx

from hypersphere import ops
from hypersphere._checks import check_positive
from hypersphere._select import (
    Path,
    Where,
    check_where,
    dotted,
    is_selected_below,
    matches_below,
    patterns,
    shown,
)
from hypersphere.nn._convert import (
    base_of_spherical,
    become,
    plain_of,
    spherical_of,
    why_not,
)
from hypersphere.nn._find import inside_norms, named, plain_layers
from hypersphere.nn._similarity import Scaled, Similarity

Model = TypeVar("Model", bound=nnx.Module)


def spherize(
    model: Model,
    *,
    where: Where = None,
    similarity: Similarity = ops.Cosine(),
    eps: float = 1e-2,
    subclasses: bool = False,
    head: Where = None,
    head_scale: float | None = None,
    learn_head_scale: bool = False,
    rngs: nnx.Rngs | None = None,
) -> Model:
    """A copy of a model whose convolutions and dense layers answer with angles.

    Every `nnx.Conv`, `nnx.ConvTranspose`, `nnx.Linear`, `nnx.LinearGeneral` (such as
    the projections of `nnx.MultiHeadAttention`) and `nnx.Einsum` that `where` selects
    becomes the layer of this package with the same weights, bias and settings, and with
    what else was put on it. All else is copied as it is, what an `nn.SphereNorm` wraps
    included; layers and parameters that were shared are shared again, stacked layers
    (`nnx.vmap`, `nnx.scan`) stay stacked, abstract ones abstract. Nothing in the copy
    belongs to the old model. Which layers were changed and which with weights were left
    plain is logged to the logger "hypersphere", at level INFO; `nn.spherical_layers`
    and `nn.plain_layers` find them in the copy.

    A selected last layer answers in [-1, 1], which as logits is too small for a
    softmax: leave it out, or name it as `head` and give it a `head_scale`. The gates of
    recurrent cells are dense layers too; they would be in [-1, 1] before the sigmoid
    that opens and closes them, and neither open nor close: leave them out.

    Args:
        model: Any NNX module, also a single layer.
        where: Which layers: a glob pattern on their path, such as "blocks.*.conv1" or
            "*.conv", where a star also stands for dots; a list of patterns; or a
            function `where(path, layer)` of the path as a tuple. A pattern that is the
            path of a module means every layer below it. By default all. A layer at
            several places has the path that `nnx.iter_graph` gives it.
        similarity: The function g from cosines in [-1, 1] to responses, or a module
            class such as `nn.LearnableSigmoid`, which is instantiated for every layer.
        eps: The smallest length that counts, in the units of the input; positive.
        subclasses: Whether classes that are derived from these are changed, too. What
            they do besides they still do; one that multiplies in a way of its own is
            refused when it is called.
        head: Which of the selected layers gives scores, like `where`.
        head_scale: What the answers of the head are multiplied by; positive. None for
            no head.
        learn_head_scale: Whether that is learned, as by `nn.Scaled`.
        rngs: Random keys for a similarity that draws its parameters; by default
            `nnx.Rngs(0)`.

    Returns:
        The changed copy, of the type of `model` unless it is a selected layer itself.

    Raises:
        TypeError: If `model` is not an `nnx.Module`, `similarity` is not callable, or
            `where` is none of the above.
        ValueError: If a pattern matches no layer, no layer is selected, the model has
            none that could be, the head is not among them, or a number is not positive.

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
    check_positive("spherize", eps=eps)
    can = functools.partial(why_not, subclasses=subclasses)
    chosen, all_of_them = _chosen("spherize", model, where, can)
    heads = _heads(chosen, head, head_scale)
    scaled = functools.partial(
        Scaled,
        similarity=similarity,
        scale=head_scale or 1.0,
        learn_scale=learn_head_scale,
    )
    copy = _copy(model)
    rngs = rngs or nnx.Rngs(0)
    nodes = dict(nnx.iter_graph(copy))
    for path in chosen:
        own = scaled if path in heads else similarity
        layer = nodes[path]
        become(layer, spherical_of(layer, similarity=own, eps=eps, rngs=rngs))
    logging.getLogger("hypersphere").info(
        "spherize changed %d of %d layers: %s; left plain: %s",
        len(chosen),
        len(all_of_them),
        ", ".join(map(shown, chosen)),
        named(plain_layers(copy)) or "none",
    )
    return copy


def unspherize(model: Model, *, where: Where = None) -> Model:
    """A copy of a model whose spherical layers are Flax's again, with their weights.

    The way back from `spherize`; also for models that were built of spherical layers.
    What a similarity has learned is left behind; a line at level INFO of the logger
    "hypersphere" tells which layers were changed and which had such. `nn.SphereNorm`,
    `nn.DecoupledConv` and `nn.AngularHead` have no twin in Flax and stay.

    Args:
        model: Any NNX module, also a single layer.
        where: Which layers, as for `nn.spherize`. By default all.

    Returns:
        The changed copy.

    Raises:
        TypeError: If `model` is not an `nnx.Module` or `where` is of a wrong kind.
        ValueError: If a pattern matches no layer, or no layer is selected.

    Example:
        >>> from flax import nnx
        >>> from hypersphere import nn
        >>> layer = nn.SphereLinear(4, 3, rngs=nnx.Rngs(0))
        >>> type(nn.unspherize(layer)).__name__
        'Linear'
    """
    chosen, _ = _chosen("unspherize", model, where, _why_not_back)
    return _each("unspherize", model, chosen, plain_of)


def with_similarity(
    model: Model,
    similarity: Similarity,
    *,
    where: Where = None,
    rngs: nnx.Rngs | None = None,
) -> Model:
    """A copy of a model whose spherical layers have another similarity.

    Args:
        model: Any NNX module, also a single layer.
        similarity: As for `nn.spherize`.
        where: Which layers, as for `nn.spherize`. By default all that `nn.spherize`
            makes; a head keeps its scale.
        rngs: Random keys for a similarity that draws its parameters; by default
            `nnx.Rngs(0)`.

    Returns:
        The changed copy: the same weights, settings and `eps`.

    Raises:
        TypeError: If `model` is not an `nnx.Module`, `similarity` is not callable, or
            `where` is of a wrong kind.
        ValueError: If a pattern matches no layer, or no layer is selected.

    Example:
        >>> from flax import nnx
        >>> from hypersphere import nn, ops
        >>> layer = nn.SphereLinear(4, 3, rngs=nnx.Rngs(0))
        >>> nn.with_similarity(layer, ops.Linear()).similarity
        Linear()
    """
    rngs = rngs or nnx.Rngs(0)

    def changed(layer: Any) -> nnx.Module:
        old, own = layer.similarity, similarity
        if isinstance(old, Scaled):
            is_learned = old.log_scale is not None
            own = functools.partial(
                Scaled, similarity=similarity, scale=old.scale, learn_scale=is_learned
            )
        plain = plain_of(layer)
        made: Any = spherical_of(plain, similarity=own, eps=layer.eps, rngs=rngs)
        if isinstance(old, Scaled) and old.log_scale is not None:
            made.similarity.log_scale = old.log_scale
        return made

    chosen, _ = _chosen("with_similarity", model, where, _why_not_back)
    return _each("with_similarity", model, chosen, changed)


def _why_not_back(layer: Any) -> str:
    try:
        base_of_spherical(type(layer))
    except StopIteration:
        return "is none that `spherize` makes"
    return ""


def _each(
    who: str, model: Model, paths: list[Path], change: Callable[[Any], Any]
) -> Model:
    """A copy with changed layers, and a line in the log."""
    model = _copy(model)
    nodes = dict(nnx.iter_graph(model))
    left = []
    for path in paths:
        learned = _learned(nodes[path])
        become(nodes[path], change(nodes[path]))
        left += [path] if learned - _learned(nodes[path]) else []
    logging.getLogger("hypersphere").info(
        "%s changed %d layers: %s; what similarities had learned is left behind in: %s",
        who,
        len(paths),
        ", ".join(map(shown, paths)),
        ", ".join(map(shown, left)) or "none",
    )
    return model


def _learned(layer: Any) -> set[int]:
    """The identities of the parameters of a layer's similarity."""
    similarity = getattr(layer, "similarity", None)
    if not isinstance(similarity, nnx.Module):
        return set()
    nodes = [node for _, node in nnx.iter_graph(similarity)]
    return {id(node) for node in nodes if isinstance(node, nnx.Param)}


def _chosen(
    who: str, model: Any, where: Where, why: Callable[[Any], str]
) -> tuple[list[Path], list[Path]]:
    """The layers that are meant, and all that could be.

    Raises unless there are some, and every pattern matches one of them.
    """
    if not isinstance(model, nnx.Module):
        raise TypeError(
            f"`{who}` needs `model` to be an `nnx.Module`, got "
            f"`{type(model).__name__}`. For a Linen model, see `linen.spherize`."
        )
    check_where(who, where)
    wrapped = inside_norms(model)
    nodes = {
        path: node
        for path, node in nnx.iter_graph(model)
        if isinstance(node, nnx.Module)
    }
    reasons = {
        path: "is wrapped by an `nn.SphereNorm`" if id(node) in wrapped else why(node)
        for path, node in nodes.items()
    }
    paths = [path for path, reason in reasons.items() if not reason]
    if not paths:
        found = plain_layers(model)
        reasons = {dotted(path): reason for path, reason in reasons.items()}
        first = next((f": {path} {reasons[path]}" for path in found if path), "")
        raise ValueError(
            f"`{who}` needs a model with a layer that it can change, got one without"
            + (f"; it has {named(found)}{first}." if found else ".")
        )
    chosen = [path for path in paths if is_selected_below(where, path, nodes[path])]
    names = [dotted(path) for path in paths]
    for pattern in patterns(where):
        if any(matches_below(pattern, path) for path in paths):
            continue
        for path, node in sorted(nodes.items(), key=lambda pair: len(pair[0])):
            if matches_below(pattern, path):
                raise ValueError(
                    f"`{who}` cannot change what `where={pattern!r}` matches: "
                    f"{shown(path)}, a `{type(node).__name__}`, "
                    f"{reasons[path]}."
                )
        nearest = difflib.get_close_matches(pattern, names, n=5, cutoff=0.0)
        raise ValueError(
            f"`{who}` needs patterns that match a layer that it can change, got "
            f"`where={pattern!r}`. The nearest layers are {nearest}."
        )
    if not chosen:
        raise ValueError(
            f"`{who}` needs `where` to select a layer, and it selects none of the "
            f"{len(names)}, which begin with {names[:5]}, got `where={where!r}`."
        )
    return chosen, paths


def _heads(chosen: list[Path], head: Where, scale: float | None) -> list[Path]:
    """The layers that give scores."""
    if scale is None and head is None:
        return []
    if scale is None or head is None:
        names = [dotted(path) for path in chosen]
        raise ValueError(
            "`spherize` needs both `head`, which of the layers gives scores, and "
            f"`head_scale`, such as 16, got `head={head!r}` and `head_scale={scale!r}`."
            f" The last layers are {names[-3:]}."
        )
    check_where("spherize", head)
    check_positive("spherize", head_scale=scale)
    found = [path for path in chosen if is_selected_below(head, path, None)]
    if not found:
        names = [dotted(path) for path in chosen]
        raise ValueError(
            f"`spherize` needs a `head` among the layers that it changes, got "
            f"`head={head!r}`. The last ones are {names[-5:]}."
        )
    return found


def _copy(model: Model) -> Model:
    """The model with variables and buffers of its own, which may then be donated."""
    graphdef, state = nnx.split(model)
    arrays = (jax.Array, np.ndarray)
    return nnx.merge(
        graphdef,
        jax.tree.map(lambda x: x.copy() if isinstance(x, arrays) else x, state),
    )
