import dataclasses
import inspect

import pytest

from hypersphere import training
from hypersphere.training import _build, _config


def test_a_config_survives_json():
    config = training.TrainConfig(steps=7, compare=("softmax", "w_softmax"))
    config.optim.boundaries = (3, 5)
    config.data.source = "folder:a b/ü"
    assert training.from_json(training.to_json(config)) == config


def test_every_field_is_described_where_it_is_defined():
    for kind in (
        training.TrainConfig,
        training.DataConfig,
        training.ModelConfig,
        training.LossConfig,
        training.OptimConfig,
    ):
        text = inspect.getdoc(kind)
        for field in dataclasses.fields(kind):
            assert f"    {field.name}: " in text, f"{kind.__name__}.{field.name}"


@pytest.mark.parametrize(
    ("typed", "nearest"),
    [
        ("--config.stpes=3", "`config.steps`"),
        ("--config.optim.learning_rat=1", "`config.optim.learning_rate`"),
        ("--config.learning_rate=1", "`config.optim.learning_rate`"),
        ("--config.flip", "`config.data.flip`"),
        ("--noconfig.data.flipp", "`config.data.flip`"),
    ],
)
def test_a_misspelt_field_names_the_nearest(typed, nearest):
    with pytest.raises(ValueError, match=nearest):
        training.check_command_line(["train.py", "--workdir=x", typed])


def test_right_fields_pass():
    words = [f"--config={__file__}", "--config.data.flip", "--noconfig.data.flip"]
    training.check_command_line([*words, "--config.steps=3", "--config.steps", "4"])


def test_a_misspelt_field_in_json_is_named():
    with pytest.raises(
        ValueError, match=r"no field `config\.optim\.nam`.*optim\.name`"
    ):
        training.from_json('{"optim": {"nam": "sgd"}}')


@pytest.mark.parametrize(
    ("field", "value", "message"),
    [
        ("steps", 0, r"`config\.steps` must be at least 1, got 0"),
        ("data.std", 0.0, r"`config\.data\.std` must be positive"),
        ("optim.learning_rate", float("nan"), r"learning_rate` must be positive"),
        ("model.momentum", 1.0, r"`config\.model\.momentum` must be in \[0, 1\)"),
        ("loss.margin", 0.5, r"`config\.loss\.margin` must be at least 1"),
    ],
)
def test_a_number_out_of_range_is_named(field, value, message):
    config = training.TrainConfig()
    *parents, name = field.split(".")
    target = getattr(config, parents[0]) if parents else config
    setattr(target, name, value)
    with pytest.raises(ValueError, match=message):
        _config.check(config)


@pytest.mark.parametrize(
    ("part", "name", "message"),
    [
        (
            "loss",
            "sofmax",
            r"`config\.loss\.name` needs one of.*Did you mean 'softmax'",
        ),
        ("optim", "adamm", r"`config\.optim\.name` needs.*Did you mean 'adam'"),
    ],
)
def test_a_misspelt_choice_lists_what_there_is(part, name, message):
    config = training.TrainConfig()
    getattr(config, part).name = name
    with pytest.raises(ValueError, match=message):
        _build.make_loss(config.loss)
        _build.make_optimizer(config.optim, lambda step: 0.1)


@pytest.mark.parametrize(
    ("change", "message"),
    [
        (dict(schedule="piecewise"), r"boundaries` must be rising"),
        (dict(schedule="piecewise", boundaries=(3, 3)), r"rising steps.*\(3, 3\)"),
        (dict(schedule="piecewise", boundaries=(5, 3)), r"rising steps.*\(5, 3\)"),
        (dict(schedule="cosine", warmup_steps=1000), r"warmup_steps` must be below"),
    ],
)
def test_a_schedule_that_makes_no_sense_is_refused(change, message):
    config = training.TrainConfig(optim=training.OptimConfig(**change))
    with pytest.raises(ValueError, match=message):
        _config.check(config)


@pytest.mark.parametrize(
    ("loss", "model", "field"),
    [
        (dict(name="ga_softmax", label_smoothing=0.1), {}, "loss.label_smoothing"),
        (dict(name="a_softmax", floor=1e-4), {}, "loss.floor"),
        (dict(anneal=True), {}, "loss.anneal"),
        (dict(similarity="linear"), {}, "loss.similarity"),
        ({}, dict(norm_features=True, batch_norm=False), "model.norm_features"),
    ],
)
def test_a_field_without_effect_is_refused(loss, model, field):
    config = training.TrainConfig(
        loss=training.LossConfig(**loss), model=training.ModelConfig(**model)
    )
    with pytest.raises(ValueError, match=rf"`config\.{field}` has no effect"):
        _config.check(config)


def test_features_of_one_number_are_refused():
    config = training.TrainConfig(model=training.ModelConfig(feature_dim=1))
    with pytest.raises(ValueError, match=r"feature_dim` must be at least 2"):
        _config.check(config)


def test_a_misspelt_field_inside_a_config_file_names_the_nearest():
    with pytest.raises(AttributeError) as misspelt:
        training.OptimConfig().learning_rat = 1.0
    assert "`config.optim.learning_rate`" in training.describe(misspelt.value)
    with pytest.raises(TypeError) as unknown:
        training.TrainConfig(stpes=3)
    assert "`config.steps`" in training.describe(unknown.value)
    assert training.describe(ValueError("as it is")) == "as it is"
