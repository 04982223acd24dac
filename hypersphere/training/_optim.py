"""What a step does with gradients and weights: the optimizer and the average."""

import dataclasses
import difflib
import math
import re
from collections.abc import Callable, Collection, Sequence
from typing import Any

import jax
import jax.numpy as jnp
import optax
from flax import nnx
from optax import contrib

from hypersphere import nn, optim
from hypersphere._select import matches
from hypersphere.training._config import OptimConfig
from hypersphere.training._penalty import penalty as penalty
from hypersphere.training._schedules import SCHEDULES, make_schedule
from hypersphere.training._validate import choose

# Muon's steps have the root mean square of Adam's, which is about this.
_ADAM_RMS = 0.2


def make_optimizer(
    config: OptimConfig, steps: int, model: nnx.Module
) -> optax.GradientTransformation:
    """The optimizer of a config, without the penalties, which are part of the loss.

    A step is made in this order. The gradient is clipped to `clip_norm`. The algorithm
    makes a direction of it. Where something decays, `weight_decay` times the parameter
    is added, for every algorithm alike; LAMB, as published, scales each layer's sum.
    The learning rate of each parameter follows, and in the end `unit_norm_every` puts
    spherical filters back on the sphere. Frozen parameters take no part: not in the
    gradient's length either, and they have no state.

    Muon takes the kernels outside of `head`, as matrices (fan_in, filters), and Adam
    the rest. One learning rate serves both: Muon's steps are scaled to the size of
    Adam's.

    Args:
        config: Its durations in steps, as `resolve` makes them.
        steps: Of the whole run.
        model: The network or, from `nnx.eval_shape`, its shapes.

    Returns:
        A transformation for `nnx.to_pure_dict(nnx.state(model, nnx.Param))`; its
        `update` needs the parameters. With only a name and a learning rate in the
        config it is Optax's own.

    Raises:
        TypeError: If a duration is still a text.
        ValueError: If there is no such optimizer or schedule, a pattern fits no
            parameter, or a setting would have no effect.

    Example:
        >>> import jax
        >>> import jax.numpy as jnp
        >>> from flax import nnx
        >>> from hypersphere import nn
        >>> from hypersphere.training._config import OptimConfig
        >>> from hypersphere.training._optim import make_optimizer
        >>> model = nn.SphereLinear(4, 3, rngs=nnx.Rngs(0))
        >>> params = nnx.to_pure_dict(nnx.state(model, nnx.Param))
        >>> config = OptimConfig(name="sgd", learning_rate=0.5, frozen=("bias",))
        >>> optimizer = make_optimizer(config, 10, model)
        >>> gradients = jax.tree.map(jnp.ones_like, params)
        >>> updates, _ = optimizer.update(gradients, optimizer.init(params), params)
        >>> print(updates["bias"], updates["kernel"][0])
        [0. 0. 0.] [-0.5 -0.5 -0.5]

    References:
        Jordan et al., Muon, 2024. https://kellerjordan.github.io/posts/muon/
        Liu et al., Muon is Scalable for LLM Training, 2025: the size of its steps.
        https://arxiv.org/abs/2502.16982
        You et al., Large Batch Optimization for Deep Learning (LAMB), ICLR 2020.
        https://arxiv.org/abs/1904.00962
    """
    ranks = _ranks(model)
    frozen = _chosen("frozen", config.frozen, ranks)
    trained = [path for path in ranks if path not in frozen]
    if not trained:
        raise ValueError(
            "`config.optim.frozen` must leave a parameter to train, got "
            f"{config.frozen!r}, which is all {len(ranks)}."
        )
    spherical = frozenset(nn.directions(model))
    kernels = {path for path, rank in ranks.items() if _is_kernel(path) and rank >= 2}
    decay = _decay(config, ranks, kernels - spherical, frozen)
    optimizer = optax.chain(
        *([optax.clip_by_global_norm(config.clip_norm)] if config.clip_norm else []),
        *_direction(config, kernels, decay),
        _learning_rate(config, steps, trained),
        *_unit_norm(config, spherical - frozen),
    )
    if not frozen:
        return optimizer
    return optax.partition(
        {"trained": optimizer, "frozen": optax.set_to_zero()},
        _by_path(lambda path, _: "frozen" if path in frozen else "trained"),
    )


def _direction(
    config: OptimConfig,
    kernels: Collection[str],
    decay: list[optax.GradientTransformation],
) -> list[optax.GradientTransformation]:
    """The algorithm and the decay, which comes after it but inside of LAMB."""
    table = {
        "adam": lambda: [optax.scale_by_adam(), *decay],
        "adamw": lambda: [optax.scale_by_adam(), *decay],
        "sgd": lambda: [*_momentum(config), *decay],
        "lion": lambda: [optax.scale_by_lion(), *decay],
        "lamb": lambda: [
            optax.scale_by_adam(eps=1e-6), *decay, optax.scale_by_trust_ratio()
        ],
        "muon": lambda: [*_muon(kernels), *decay],
    }  # fmt: skip
    return choose("optim.name", config.name, table)()


def _momentum(config: OptimConfig) -> list[optax.GradientTransformation]:
    if not config.momentum:
        return []
    return [optax.trace(config.momentum, nesterov=config.nesterov)]


def _muon(kernels: Collection[str]) -> list[optax.GradientTransformation]:
    """Muon's direction for kernels but those of the head, Adam's for the rest."""

    def is_matrix(path: str) -> bool:
        return path in kernels and path.split(".")[0] != "head"

    def axes(path: str, leaf: Any) -> contrib.MuonDimensionNumbers | None:
        if not is_matrix(path):
            return None
        *fan_in, filters = range(leaf.ndim)
        return contrib.MuonDimensionNumbers(fan_in, filters)

    def resized(path: str, update: Any) -> Any:
        # Optax has scaled by sqrt(max(1, filters / fan_in)); together they are
        # sqrt(max(fan_in, filters)), which makes the mean square of an entry one.
        size = _ADAM_RMS * math.sqrt(math.prod(update.shape[:-1]))
        return size * update if is_matrix(path) else update

    # At the rate -1, of which Optax takes the negative, a step is the direction.
    direction = contrib.muon(-1.0, muon_weight_dimension_numbers=_by_path(axes))
    return [direction, optax.stateless(lambda updates, _: _by_path(resized)(updates))]


def _decay(
    config: OptimConfig, paths: Collection[str], default: set[str], frozen: set[str]
) -> list[optax.GradientTransformation]:
    if config.weight_decay:
        chosen = _chosen("decay", config.decay, paths) if config.decay else default
        if decayed := chosen - frozen:
            return [optax.add_decayed_weights(config.weight_decay, _mask(decayed))]
        raise ValueError(
            f"`config.optim.weight_decay={config.weight_decay!r}` has no parameter to "
            "act on: all kernels are spherical or frozen. Name some in "
            "`config.optim.decay`, or set it to 0."
        )
    if config.decay or config.name == "adamw":
        what = "config.optim.decay" if config.decay else "config.optim.name='adamw'"
        raise ValueError(
            f"`{what}` needs a positive `config.optim.weight_decay`, got "
            f"{config.weight_decay!r}. AdamW without decay is 'adam'."
        )
    return []


def _learning_rate(
    config: OptimConfig, steps: int, trained: Sequence[str]
) -> optax.GradientTransformation:
    """One rate for all, or one for each group of parameters."""
    schedules: dict[str, optax.Schedule] = {"": make_schedule(config, steps)}
    groups: dict[str, str] = {}
    for text in config.rates:
        pattern, changes = _parse_rate(text, config)
        chosen = _chosen("rates", [pattern], trained) - set(groups)
        if not chosen:
            raise ValueError(
                f"`config.optim.rates` has {text!r}, which comes too late: patterns "
                "before it take all its parameters. Put the narrower one first."
            )
        groups |= dict.fromkeys(chosen, text)
        schedules[text] = make_schedule(dataclasses.replace(config, **changes), steps)
    if not groups:
        return optax.scale_by_learning_rate(schedules[""])
    return optax.partition(
        {group: optax.scale_by_learning_rate(s) for group, s in schedules.items()},
        _by_path(lambda path, _: groups.get(path, "")),
    )


def _parse_rate(text: str, config: OptimConfig) -> tuple[str, dict[str, Any]]:
    """The pattern, and the fields of the config that are others for what it fits."""
    parts = re.fullmatch(r"\s*(\S+)\s*:\s*([\d.e+-]+)(?:\s+(\w+))?\s*", text)
    try:
        share = float(parts[2]) if parts else 0.0
    except ValueError:
        share = 0.0
    if not parts or not 0 < share < math.inf:
        raise ValueError(
            "`config.optim.rates` needs entries `PATTERN: SHARE` or `PATTERN: SHARE "
            f"SCHEDULE` with a positive share, such as 'head.*: 10', got {text!r}. "
            "What is not to be trained belongs into `config.optim.frozen`."
        )
    schedule = parts[3] or config.schedule
    choose("optim.rates", schedule, SCHEDULES)
    changes = {"learning_rate": share * config.learning_rate, "schedule": schedule}
    return parts[1], changes


def _unit_norm(
    config: OptimConfig, spherical: Collection[str]
) -> list[optax.GradientTransformation]:
    every = config.unit_norm_every
    if not every:
        return []
    if not spherical:
        raise ValueError(
            f"`config.optim.unit_norm_every={every!r}` needs spherical filters that "
            "are trained, and there are none. Set it to 0."
        )
    return [optax.masked(optim.keep_unit_norm(every=every), _mask(spherical))]


def _ranks(model: nnx.Module) -> dict[str, int]:
    """The number of axes of each parameter, by its path."""
    params = nnx.to_pure_dict(nnx.state(model, nnx.Param))
    leaves = jax.tree_util.tree_leaves_with_path(params)
    return {_path(keys): leaf.ndim for keys, leaf in leaves}


def _by_path(function: Callable[[str, Any], Any]) -> Callable[[Any], Any]:
    """Maps a tree leaf by leaf, with each one's path.

    Made for trees of which Optax has masked a part, so that a fixed tree would not fit.
    """
    return lambda tree: jax.tree_util.tree_map_with_path(
        lambda keys, leaf: function(_path(keys), leaf), tree
    )


def _mask(paths: Collection[str]) -> Callable[[Any], Any]:
    return _by_path(lambda path, _: path in paths)


def _path(keys: Any) -> str:
    return jax.tree_util.keystr(keys, simple=True, separator=".")


def _is_kernel(path: str) -> bool:
    return path.split(".")[-1] == "kernel"


def _chosen(field: str, patterns: Sequence[str], paths: Collection[str]) -> set[str]:
    """The parameters that the patterns of a field fit; each must fit one."""
    chosen = set()
    for pattern in patterns:
        fitting = {path for path in paths if matches(pattern, (path,))}
        if not fitting:
            nearest = difflib.get_close_matches(pattern, paths, n=3, cutoff=0.0)
            raise ValueError(
                f"`config.optim.{field}` needs patterns that fit a parameter, got "
                f"{pattern!r}. The nearest parameters are {', '.join(nearest)}."
            )
        chosen |= fitting
    return chosen


def average(ema: Any, new: Any, step: Any, *, decay: float) -> Any:
    """The exponential moving average of weights, with the newest ones in it.

    It keeps the share `min(decay, (1 + step) / (10 + step))`, so that the average of
    the first steps is not that of the fresh weights.

    Args:
        ema: The average so far, a tree of arrays.
        new: The weights after an update, a tree of the same shapes and dtypes.
        step: Updates made before this one, a scalar, at least 0.
        decay: Share of the average that is kept at most, in [0, 1).

    Returns:
        A tree with the dtypes of `ema`. What is not floating point is that of `new`.

    Example:
        >>> import jax.numpy as jnp
        >>> from hypersphere.training._optim import average
        >>> old, new = {"w": jnp.array(1.0)}, {"w": jnp.array(2.0)}
        >>> print(*(average(old, new, s, decay=0.75)["w"] for s in (0, 8, 99)))
        1.9 1.5 1.25
    """
    share = 1 - jnp.minimum(decay, (1 + step) / (10 + step))

    def blended(old: jax.Array, now: jax.Array) -> jax.Array:
        if not jnp.issubdtype(now.dtype, jnp.inexact):
            return now
        # As a difference, which leaves weights that do not change as they are.
        return (old + share * (now - old)).astype(old.dtype)

    return jax.tree.map(blended, ema, new)
