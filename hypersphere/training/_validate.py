"""Whether the numbers of a config make sense, before anything is loaded or compiled."""

import difflib
from collections.abc import Mapping
from typing import Any

from hypersphere.training._config import LossConfig, ModelConfig, TrainConfig
from hypersphere.training._config_text import flat
from hypersphere.training._durations import parse_evaluator
from hypersphere.training._evaluators import parse_wanted
from hypersphere.training._mesh import parse_rule

STREAMED = ("tfds:", "folder:", "tar:")
"""How sources begin that can be read one image at a time."""


def choose(who: str, name: str, table: Mapping[str, Any]) -> Any:
    """The entry of a table, or a message that lists them all."""
    if name not in table:
        close = difflib.get_close_matches(name, table, n=1)
        hint = f" Did you mean {close[0]!r}?" if close else ""
        raise ValueError(
            f"`config.{who}` needs one of {', '.join(map(repr, table))}, got "
            f"{name!r}.{hint}"
        )
    return table[name]


def check(
    config: TrainConfig, *, own_model: bool = False, own_data: bool = False
) -> None:
    """Raises where a field is out of its range, before anything is loaded.

    Args:
        config: What would be trained.
        own_model: Whether another model may take the place of the config's.
        own_data: Whether another set takes the place of the config's.
    """
    fields = flat(config)
    for name, least in _AT_LEAST.items():
        if not least <= fields[name] < float("inf"):
            raise ValueError(
                f"`config.{name}` must be at least {least}, got {fields[name]!r}."
            )
    for name, (low, high, brackets) in _BETWEEN.items():
        value = fields[name]
        is_open = (brackets[0] == "(" and value == low) or (
            brackets[1] == ")" and value == high
        )
        if not low <= value <= high or is_open:
            until = (
                "positive"
                if high == _INFINITE
                else f"in {brackets[0]}{low}, {high}{brackets[1]}"
            )
            raise ValueError(f"`config.{name}` must be {until}, got {value!r}.")
    choose(
        "guard.full_disk", config.guard.full_disk, dict.fromkeys(("stop", "continue"))
    )
    for rule in config.mesh.rules:
        parse_rule(rule)
    for text in config.evaluators:
        _check_evaluator(config, text, own_model=own_model)
    _check_profile(config.profile)
    if config.model.feature_dim == 1:
        raise ValueError(
            "`config.model.feature_dim` must be at least 2, or 0 for the network's own "
            "length: one number has no angle."
        )
    if not own_data:
        _check_stream(config)
    _refuse_ignored(config)


def check_cadences(config: TrainConfig) -> None:
    """Raises where a duration in steps is zero or too long."""
    for name in ("steps", "log_every", "eval_every", "checkpoint_every"):
        if getattr(config, name) < 1:
            raise ValueError(
                f"`config.{name}` must be at least 1 step, got {getattr(config, name)}."
            )
    if config.profile and config.profile[1] > config.steps:
        raise ValueError(
            f"`config.profile` must end by the last step, {config.steps}, got "
            f"{config.profile!r}."
        )


_INFINITE = float("inf")

_AT_LEAST = {
    "batch_size": 1, "eval_batch_size": 1, "accumulate": 1, "seed": 0, "keep": 1,
    "keep_best": 0, "patience": 0, "max_steps_per_call": 1,
    "data.image_size": 0, "data.pad": 0, "data.threads": 0, "data.workers": 0,
    "data.rand_layers": 0, "data.mixup": 0, "data.cutmix": 0,
    "model.feature_dim": 0, "loss.floor": 0, "loss.margin": 1,
    "optim.orthogonality": 0, "optim.l2": 0, "optim.weight_decay": 0,
    "optim.clip_norm": 0, "optim.unit_norm_every": 0,
    "mesh.data": -1, "mesh.fsdp": 1, "mesh.model": 1,
    "guard.max_skipped": 0, "guard.spike": 0, "guard.window": 2, "guard.max_rewinds": 0,
}  # fmt: skip

_BETWEEN = {
    "data.std": (0, _INFINITE, "()"),
    "data.min_crop": (0, 1, "(]"),
    "data.crop_fraction": (0, 1, "(]"),
    "data.max_bad": (0, 1, "[]"),
    "data.rand_magnitude": (0, 10, "[]"),
    "data.erase": (0, 1, "[]"),
    "model.momentum": (0, 1, "[)"),
    "model.epsilon": (0, _INFINITE, "()"),
    "model.dropout": (0, 1, "[)"),
    "loss.label_smoothing": (0, 1, "[)"),
    "optim.learning_rate": (0, _INFINITE, "()"),
    "optim.factor": (0, _INFINITE, "()"),
    "optim.power": (0, _INFINITE, "()"),
    "optim.momentum": (0, 1, "[)"),
    "optim.ema": (0, 1, "[)"),
}


def _check_evaluator(config: TrainConfig, text: str, *, own_model: bool) -> None:
    """Raises if an entry cannot be read or asks for what the run does not have."""
    name, _ = parse_evaluator(text)
    statistics = parse_wanted(name).statistics
    if name == "test":
        raise ValueError(
            f"`config.evaluators` needs further evaluations, got {text!r}, which is "
            "what `config.eval_every` is for."
        )
    if statistics == "batch" and not config.model.batch_norm and not own_model:
        raise ValueError(
            f"`config.evaluators` has {text!r}, which needs batch normalization, and "
            "`config.model.batch_norm=False`. Leave `@batch` out."
        )
    is_zero = config.model.batch_norm and config.model.averages == "zero"
    if statistics == "debiased" and (
        not is_zero or config.optim.ema or config.init_from
    ):
        raise ValueError(
            f"`config.evaluators` has {text!r}, which needs averages that start at "
            "zero: `config.model.averages='zero'` with batch normalization, no "
            "`config.optim.ema` and no `config.init_from`. Other averages need no "
            "correction; leave `@debiased` out."
        )


def _check_profile(profile: tuple[int, ...]) -> None:
    if profile and not (len(profile) == 2 and 1 <= profile[0] <= profile[1]):
        raise ValueError(
            "`config.profile` must be the first and the last step, counted from 1, or "
            f"empty, got {profile!r}."
        )


def _check_stream(config: TrainConfig) -> None:
    """Raises where a streamed set lacks what makes its images one size."""
    if not config.data.stream:
        return
    source = config.data.source
    if not source.startswith(STREAMED):
        raise ValueError(
            f"`config.data.stream` needs a source that starts with "
            f"{', '.join(STREAMED)}, got {source!r}. Leave it at False: that set fits "
            "on the device."
        )
    if not config.data.image_size:
        raise ValueError(
            "`config.data.stream` needs `config.data.image_size`, the side of a crop, "
            "such as 224 pixels, got 0."
        )


def _refuse_ignored(config: TrainConfig) -> None:
    """Raises where a field is set that another leaves without effect."""
    fields = flat(config)
    ignored = _ignored_of_model(config.model) + _ignored_of_loss(config.loss)
    for name, cause, is_ignored in ignored:
        if is_ignored:
            raise ValueError(
                f"`config.{name}` has no effect with `config.{cause}="
                f"{fields[cause]!r}`. Leave it at its default."
            )


_Ignored = list[tuple[str, str, bool]]  # a field, what it depends on, whether it is


def _ignored_of_model(model: ModelConfig) -> _Ignored:
    is_spherenet, is_resnet = model.name == "spherenet", model.name == "resnet"
    is_plain, has_features = model.similarity == "none", model.feature_dim > 0
    is_other = model.shortcut != ModelConfig().shortcut
    has_magnitude = bool(model.magnitude)
    norm_features, has_norm = model.norm_features, model.batch_norm
    return [
        ("model.feature_dim", "model.name", has_features and not is_spherenet),
        ("model.norm_features", "model.name", norm_features and not is_spherenet),
        ("model.norm_features", "model.batch_norm", norm_features and not has_norm),
        ("model.shortcut", "model.name", is_other and not is_resnet),
        ("model.pre_activation", "model.name", model.pre_activation and not is_resnet),
        ("model.magnitude", "model.similarity", has_magnitude and is_plain),
        ("model.magnitude", "model.sphere_norm", has_magnitude and model.sphere_norm),
    ]


def _ignored_of_loss(loss: LossConfig) -> _Ignored:
    has_margin = loss.name in ("ga_softmax", "a_softmax")
    own = loss.name in ("softmax", "a_softmax")
    return [
        ("loss.anneal", "loss.name", loss.anneal and not has_margin),
        ("loss.label_smoothing", "loss.name", loss.label_smoothing > 0 and has_margin),
        ("loss.floor", "loss.name", loss.floor > 0 and has_margin),
        ("loss.similarity", "loss.name", bool(loss.similarity) and own),
    ]
