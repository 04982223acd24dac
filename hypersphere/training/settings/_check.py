"""Whether the numbers of a config make sense, before anything is loaded or compiled."""

import dataclasses
from typing import Any

from hypersphere import data
from hypersphere.training.settings._config import TrainConfig
from hypersphere.training.settings._evaluation import Evaluation
from hypersphere.training.settings._fields import check_field
from hypersphere.training.settings._recipe import Recipe
from hypersphere.training.settings._rules import parse_rule
from hypersphere.training.settings._types import typed


def check(
    config: TrainConfig, *, own_model: bool = False, own_data: bool = False
) -> TrainConfig:
    """Raises where a field is of a wrong type or out of its range.

    Args:
        config: What would be trained.
        own_model: Whether another model may take the place of the config's.
        own_data: Whether another set takes the place of the config's.

    Returns:
        A copy whose fields hold the types they are annotated with.

    Raises:
        ValueError: If a field does not; nothing has been loaded by then.
    """
    config = typed(config)
    _check_fields(config, "")
    for rule in config.mesh.rules:
        parse_rule(rule)
    for entry in config.evaluators:
        _check_evaluator(config, entry, own_model=own_model)
    _check_profile(config.profile)
    _check_head(config)
    if not own_data:
        _check_stream(config)
    return config


def _check_fields(section: Any, prefix: str) -> None:
    """Raises where a field is out of its range, or its section has no such field."""
    if isinstance(section, Recipe):
        section.refuse_others()
    for field in dataclasses.fields(section):
        value = getattr(section, field.name)
        if dataclasses.is_dataclass(value):
            _check_fields(value, f"{prefix}{field.name}.")
        else:
            check_field(prefix + field.name, field, value)
    if isinstance(section, Recipe):
        section.check()


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


def _check_evaluator(
    config: TrainConfig, entry: Evaluation, *, own_model: bool
) -> None:
    """Raises if an entry asks for what the run does not have."""
    model = config.model
    if entry.name in ("test", "validation"):
        raise ValueError(
            f"`config.evaluators` needs further evaluations, got '{entry}', which is "
            "what `config.eval_every` is for."
        )
    needs_batch_norm = entry.statistics in ("batch", "recalibrated")
    if needs_batch_norm and not model.batch_norm and not own_model:
        raise ValueError(
            f"`config.evaluators` has '{entry}', which needs batch normalization, and "
            f"`config.model.batch_norm=False`. Leave `@{entry.statistics}` out."
        )
    is_zero = model.batch_norm and model.averages == "zero"
    if entry.statistics == "debiased" and (
        not is_zero or config.optim.ema or config.init_from
    ):
        raise ValueError(
            f"`config.evaluators` has '{entry}', which needs averages that start at "
            "zero: `config.model.averages='zero'` with batch normalization, no "
            "`config.optim.ema` and no `config.init_from`. Other averages need no "
            "correction; leave `@debiased` out."
        )


def _check_head(config: TrainConfig) -> None:
    """Raises if head, loss and optimizer do not go together."""
    head = config.head
    head.check()
    config.loss.check_head(head)
    if head.dtype != "float32" and config.optim.ema:
        raise ValueError(
            f"`config.head.dtype={head.dtype!r}` does not go with `config.optim.ema`: "
            "an average in half precision would stand still. Leave one at its default."
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
    if not data.is_streamed(source):
        raise ValueError(
            f"`config.data.stream` needs a source {', '.join(data.streamed_forms())}, "
            f"got {source!r}. Leave it at False: that set fits on the device."
        )
    if not config.data.image_size:
        raise ValueError(
            "`config.data.stream` needs `config.data.image_size`, the side of a crop, "
            "such as 224 pixels, got 0."
        )
