"""Penalties on parameters."""

import difflib
import functools
import math
import re
from collections.abc import Callable, Sequence
from typing import Any, NamedTuple

import jax
import jax.numpy as jnp
from flax import nnx

from hypersphere import nn, regularizers
from hypersphere._select import Path, dotted, matches
from hypersphere.training.settings._config import OptimConfig

_MANY = 2048  # filters, from which on energies are computed in blocks


def _energy(kernel: jax.Array, **options: Any) -> jax.Array:
    block = 1024 if kernel.shape[-1] > _MANY else 0
    return regularizers.hyperspherical_energy(kernel, block=block, **options)


PENALTIES: dict[str, Callable[[jax.Array], jax.Array]] = {
    "orthogonality": regularizers.orthogonality,
    **{
        form: functools.partial(regularizers.orthogonality, form=form)
        for form in ("dso", "mc", "srip")
    },
    "energy": _energy,
    "half_space_energy": functools.partial(_energy, half_space=True),
    "separation": regularizers.separation,
    "gram_determinant": regularizers.gram_determinant,
    "nearest_cosine": regularizers.nearest_cosine,
    "l2": lambda x: jnp.sum(jnp.square(x)),
}
"""What a name in `config.optim.penalties` means."""


class Penalty(NamedTuple):
    """An entry of `config.optim.penalties`."""

    pattern: str
    weight: float
    name: str


def penalties_of(config: OptimConfig) -> list[Penalty]:
    """The entries of `config.optim.penalties`, read.

    Raises:
        ValueError: If one is no `PATTERN: WEIGHT NAME`, or there is no such penalty.
    """
    found = []
    for text in config.penalties:
        parts = re.fullmatch(r"\s*(\S+)\s*:\s*(\S+)\s+(\w+)\s*", text)
        try:
            weight = float(parts[2]) if parts else math.nan
        except ValueError:
            weight = math.nan
        if not parts or not 0 < weight < math.inf:
            raise ValueError(
                "`config.optim.penalties` needs entries `PATTERN: WEIGHT NAME` with a "
                "positive weight, such as '*.kernel: 1e-4 orthogonality', got "
                f"{text!r}."
            )
        if parts[3] not in PENALTIES:
            close = difflib.get_close_matches(parts[3], PENALTIES, 1, 0.0)[0]
            raise ValueError(
                f"`config.optim.penalties` knows {', '.join(PENALTIES)}, got {text!r}. "
                f"Did you mean {close!r}?"
            )
        found.append(Penalty(parts[1], weight, parts[3]))
    return found


def check_penalty(model: nnx.Module, config: OptimConfig) -> None:
    """Raises if an L2 or a penalty has nothing to act on.

    Args:
        model: The network or, from `nnx.eval_shape`, its shapes.
        config: Its `l2` and `penalties` are looked at.

    Raises:
        ValueError: If the model has none of the layers, a pattern fits no parameter, or
            a penalty on filters one that has fewer than two.
    """
    params = _params(model)
    for pattern, _, name in penalties_of(config):
        chosen = [path for path in params if matches(pattern, path)]
        if not chosen:
            near = difflib.get_close_matches(pattern, map(dotted, params), 3, 0.0)
            raise ValueError(
                "`config.optim.penalties` needs patterns that fit a parameter, got "
                f"{pattern!r}. The nearest parameters are {', '.join(near)}."
            )
        for path in chosen:
            shape = params[path].shape
            if name != "l2" and (len(shape) < 2 or shape[-1] < 2):
                raise ValueError(
                    f"`config.optim.penalties` has {name!r} for {dotted(path)} of "
                    f"shape {tuple(shape)}, and compares filters, which lie along the "
                    f"last axis. Is it {pattern!r} that is too wide?"
                )
    if config.l2 and not _penalized(model)[1]:
        raise ValueError(
            f"`config.optim.l2={config.l2!r}` has no layer to act on: it is for "
            "`nnx.Conv`, `nnx.Linear`, `nn.AngularHead` and `nnx.BatchNorm`. Set it to "
            "0, and make it part of your loss or optimizer."
        )


def _params(model: nnx.Module) -> dict[Path, Any]:
    return dict(nnx.to_flat_state(nnx.state(model, nnx.Param)))


def _penalized(model: nnx.Module) -> tuple[list[nnx.Param], Sequence[nnx.Module]]:
    """The filters that are directions, and the layers that have an L2."""
    directions = list(nn.directions(model).values())
    known = {id(kernel) for kernel in directions}
    plain = (nnx.Conv, nnx.Linear, nn.AngularHead, nnx.BatchNorm)
    others = [
        module
        for _, module in nnx.iter_modules(model)
        if isinstance(module, plain)
        and id(getattr(module, "kernel", None)) not in known
    ]
    return directions, others


def penalty(model: nnx.Module, config: OptimConfig) -> jax.Array:
    """Orthogonality of spherical filters; L2 of plain layers and batch norms; others.

    Args:
        model: The network, whose `nn.directions` are held apart. Every parameter of
            plain layers, batch normalizations and the head but its scale counts for L2.
        config: Its `orthogonality` and `l2` are the weights, dimensionless, and its
            `penalties` say what else there is.

    Returns:
        A scalar to add to the loss, at least zero, float32.

    Example:
        >>> import jax.numpy as jnp
        >>> from flax import nnx
        >>> from hypersphere import recipes
        >>> from hypersphere.training.compute._penalty import penalty
        >>> model = nnx.Linear(2, 3, use_bias=False, rngs=nnx.Rngs(0))
        >>> model.kernel[...] = jnp.ones((2, 3))
        >>> print(penalty(model, recipes.Adam(l2=0.5)))
        3.0
    """
    directions, others = _penalized(model)
    total = jnp.zeros(())
    if config.orthogonality:
        for kernel in directions:
            apart = regularizers.orthogonality(kernel[...])
            total += config.orthogonality * apart
    if config.l2:
        kept = [
            m.kernel[...] if isinstance(m, nn.AngularHead) else nnx.state(m, nnx.Param)
            for m in others
        ]
        for leaf in jax.tree.leaves(kept):
            total += config.l2 * jnp.sum(jnp.square(leaf))
    for pattern, weight, name in penalties_of(config):
        params = nnx.state(model, nnx.Param)
        fn = PENALTIES[name]
        total += regularizers.penalty(params, fn, where={pattern: weight})
    return total
