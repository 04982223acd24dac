import dataclasses
import inspect

import pytest

from hypersphere import recipes, training
from hypersphere.training.command import with_overrides
from hypersphere.training.settings import check


def test_a_config_survives_json():
    config = training.TrainConfig(steps=7, seed=11)
    config.init_fresh = ("head.*", "norm.*")
    config.loss = recipes.GASoftmax(margin=1.5)
    config.optim.schedule = recipes.Piecewise(boundaries=(3, 5))
    config.evaluators = ("test@batch of 5 every 2",)
    config.data.source = "folder:a b/ü"
    assert training.from_json(training.to_json(config)) == config


def test_a_config_of_a_run_that_could_have_compared_losses_is_read():
    text = training.to_json(training.TrainConfig(steps=7))
    old = text.replace('"steps"', '"compare": [], "steps"', 1)
    assert training.from_json(old).steps == 7
    with pytest.raises(ValueError, match=r"no field `config\.compare`"):
        training.from_json(old.replace("[]", '["softmax"]', 1))


SECTIONS = (
    training.TrainConfig,
    training.DataConfig,
    training.MeshConfig,
    training.GuardConfig,
    training.Evaluation,
)
RECIPES = [kind for kinds in recipes.FAMILIES.values() for kind in kinds.values()]


@pytest.mark.parametrize("kind", [*SECTIONS, *RECIPES], ids=lambda kind: kind.__name__)
def test_every_field_is_described_where_it_is_defined(kind):
    text = "\n".join(inspect.cleandoc(base.__doc__ or "") for base in kind.__mro__)
    for field in dataclasses.fields(kind):
        assert f"    {field.name}: " in text, f"{kind.__name__}.{field.name}"


def test_a_recipe_has_the_fields_of_its_name_and_no_other():
    config = training.TrainConfig()
    assert not hasattr(config.loss, "margin")
    with pytest.raises(AttributeError, match=r"a field of ga_softmax and "):
        config.loss.margin  # noqa: B018
    config.loss = recipes.GASoftmax(margin=1.5)
    assert (config.loss.name, config.loss.margin) == ("ga_softmax", 1.5)
    with pytest.raises(TypeError, match=r"needs one of recipes\.Softmax\(\)"):
        config.loss = recipes.SGD()


def test_the_order_of_a_name_and_its_fields_does_not_matter():
    config = training.TrainConfig()
    config.loss.label_smoothing = 0.1
    config.loss.margin, config.loss.similarity = 1.5, "cosine"
    config.loss.name = "w_softmax"
    assert config.loss.similarity == "cosine" and config.loss.label_smoothing == 0.1
    config.loss.name = "ga_softmax"
    assert config.loss.margin == 1.5
    told = r"loss\.label_smoothing=0\.1` has no effect.*softmax and w_softmax"
    with pytest.raises(ValueError, match=told):
        check(config)
    config.loss.label_smoothing = 0.0  # as if it had not been set
    check(config)


def test_a_schedule_is_set_by_its_name_and_by_the_fields_of_the_optimizer():
    config = training.TrainConfig()
    config.optim.final, config.optim.schedule = 0.1, "cosine"
    assert config.optim.schedule == recipes.Cosine(final=0.1)
    assert config.optim.final == 0.1


def test_a_field_of_a_schedule_survives_the_choice_of_an_optimizer():
    config = training.TrainConfig()
    config.optim.final, config.optim.name = 0.1, "sgd"
    config.optim.schedule = "cosine"
    assert config.optim == recipes.SGD(schedule=recipes.Cosine(final=0.1))


def test_a_recipe_that_two_configs_share_is_changed_in_one():
    one, other = (
        training.TrainConfig(loss=shared) for shared in [recipes.ArcFace()] * 2
    )
    one.loss = "softmax"
    assert other.loss == recipes.ArcFace()

    class Mine(recipes.ArcFace):
        """No recipe of a name."""

    with pytest.raises(TypeError, match=r"needs one of recipes\.Softmax"):
        one.loss = Mine()


OLD = """{
    "loss": {"name": "w_softmax", "similarity": "", "margin": 4.0, "floor": 0.5},
    "optim": {
        "name": "sgd", "schedule": "piecewise", "boundaries": [3], "cooldown": "20%"
    },
    "evaluators": ["train every 5"]
}"""


def test_a_config_that_was_stored_with_the_fields_of_all_losses_is_read(caplog):
    config = training.from_json(OLD)
    assert config.loss == recipes.WSoftmax(floor=0.5)
    assert config.optim == recipes.SGD(schedule=recipes.Piecewise(boundaries=(3,)))
    assert config.evaluators == (training.Evaluation(source="train", every=5),)
    assert not caplog.records
    training.from_json(OLD.replace("4.0", "1.25"))
    assert "margin=1.25, a field of ga_softmax" in caplog.records[0].getMessage()


@pytest.mark.parametrize(
    "words",
    [
        ("--config.loss=ga_softmax", "--config.loss.margin=1.5"),
        ("--config.loss.margin", "1.5", "--config.loss=ga_softmax"),
        ("--config.loss.margin=1.5", "--config.loss.name=ga_softmax"),
    ],
)
def test_a_command_line_chooses_a_loss_before_its_fields(words):
    config = with_overrides(training.TrainConfig(), words)
    assert config.loss == recipes.GASoftmax(margin=1.5)


def test_a_section_that_starts_afresh_tells_what_it_has_lost():
    config, told = training.TrainConfig(), []
    config.loss.label_smoothing = 0.1
    kept = with_overrides(config, ["--config.loss.name=w_softmax"], told.append)
    assert kept.loss.label_smoothing == 0.1 and not told
    fresh = with_overrides(config, ["--config.loss=w_softmax"], told.append)
    assert fresh.loss.label_smoothing == 0.0
    assert "loss.label_smoothing=0.1 no longer" in told[0]
    assert config.loss == recipes.Softmax(label_smoothing=0.1)


def test_a_command_line_sets_sections_inside_of_sections():
    words = [
        "--config.optim.schedule.factor=0.5",
        "--config.optim.boundaries=(3,'50%')",
        "--config.optim.schedule=piecewise",
        "--config.optim=sgd",
        "--config.evaluators=('train every 5', 'test@batch every 2%')",
        "--noconfig.model.relu",
    ]
    config = with_overrides(training.TrainConfig(), words)
    schedule = recipes.Piecewise(boundaries=(3, "50%"), factor=0.5)
    assert config.optim == recipes.SGD(schedule=schedule)
    assert [entry.name for entry in config.evaluators] == ["train", "test@batch"]
    assert config.model.relu is False
    last = ["--config.loss.name=arcface", "--config.loss=cosface"]
    two = with_overrides(config, ["--config.data.mean", "-1.5", *last])
    assert two.data.mean == -1.5 and two.loss == recipes.CosFace()
    apart = with_overrides(
        config, ["--config.model.relu", "True", "--config.seed", "3"]
    )
    assert apart.model.relu is True and apart.seed == 3
    one = with_overrides(config, ["--config.evaluators=train every 7"])
    assert one.evaluators == (training.Evaluation(source="train", every=7),)


@pytest.mark.parametrize(
    ("word", "message"),
    [
        ("--config.loss.margin=2", r"no `margin`: it is a field of ga_softmax and "),
        ("--config.loss=ga_softmx", r"Did you mean 'ga_softmax'"),
        ("--config.optim.schedule=cosin", r"Did you mean 'cosine'"),
        ("--config.steps.x=2", r"no field `config\.steps\.x`"),
        ("--confg.steps=2", r"'--confg\.steps=2' sets no field"),
        ("steps=2", r"'steps=2' sets no field"),
    ],
)
def test_a_wrong_choice_is_told(word, message):
    with pytest.raises(ValueError, match=message):
        with_overrides(training.TrainConfig(), [word])


@pytest.mark.parametrize(
    ("typed", "nearest"),
    [
        ("--config.stpes=3", "`config.steps`"),
        ("--config.optim.learning_rat=1", "`config.optim.learning_rate`"),
        ("--config.learning_rate=1", "`config.optim.learning_rate`"),
        ("--config.flip", "`config.data.flip`"),
        ("--config.optim.lr=1", "mean `config.optim.learning_rate`"),
        ("--config.lr=1", "mean `config.optim.learning_rate`"),
        ("--config.epochs=1", "mean `config.steps`"),
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
        recipes.Adam().learning_rat = 1.0
    assert "`config.optim.learning_rate`" in training.describe(misspelt.value)
    with pytest.raises(TypeError) as unknown:
        training.TrainConfig(stpes=3)
    assert "`config.steps`" in training.describe(unknown.value)
    assert training.describe(ValueError("as it is")) == "as it is"
