import dataclasses
import inspect

import pytest

from hypersphere import training


def test_a_config_survives_json():
    config = training.TrainConfig(steps=7, seed=11)
    config.init_fresh = ("head.*", "norm.*")
    config.optim.boundaries = (3, 5)
    config.data.source = "folder:a b/ü"
    assert training.from_json(training.to_json(config)) == config


def test_a_config_of_a_run_that_could_have_compared_losses_is_read():
    text = training.to_json(training.TrainConfig(steps=7))
    old = text.replace('"steps"', '"compare": [], "steps"', 1)
    assert training.from_json(old).steps == 7
    with pytest.raises(ValueError, match=r"no field `config\.compare`"):
        training.from_json(old.replace("[]", '["softmax"]', 1))


def test_every_field_is_described_where_it_is_defined():
    for kind in (
        training.TrainConfig,
        training.DataConfig,
        training.ModelConfig,
        training.LossConfig,
        training.OptimConfig,
        training.MeshConfig,
        training.GuardConfig,
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


def test_a_misspelt_field_inside_a_config_file_names_the_nearest():
    with pytest.raises(AttributeError) as misspelt:
        training.OptimConfig().learning_rat = 1.0
    assert "`config.optim.learning_rate`" in training.describe(misspelt.value)
    with pytest.raises(TypeError) as unknown:
        training.TrainConfig(stpes=3)
    assert "`config.steps`" in training.describe(unknown.value)
    assert training.describe(ValueError("as it is")) == "as it is"
