import math

import pytest

from hypersphere import recipes
from hypersphere.training.settings._config import TrainConfig
from hypersphere.training.settings._durations import resolve, to_steps

DATA = {"batch_size": 128, "examples": 5_000}


@pytest.mark.parametrize(
    ("duration", "steps"),
    [
        (300, 300),
        (0, 0),
        ("300", 300),
        ("1_000", 1_000),
        ("1e3 steps", 1_000),
        ("1 step", 1),
        (" 300 STEPS ", 300),
        ("5 epochs", 195),  # 195.3
        ("5epochs", 195),
        ("1 epoch", 39),  # 39.06
        ("0.5 epochs", 20),  # 19.53
        (".5 epochs", 20),
        ("10000 examples", 78),  # 78.1
        ("64 examples", 1),  # half a step
        ("192 examples", 2),  # one and a half
        ("1 example", 1),  # a hundredth of a step, but positive
        ("0 epochs", 0),
        ("2.5%", 50),
        ("2.5 percent", 50),
        ("0.01 %", 1),
        ("100%", 2_000),
    ],
)
def test_a_duration_is_the_nearest_number_of_steps(duration, steps):
    assert to_steps("d", duration, **DATA, total=2_000) == steps


def test_decimal_fractions_are_exact():
    # In floating point, 0.29 * 100 is 28.999999999999996.
    assert math.floor(0.29 * 100) == 28
    assert to_steps("d", "0.29 epochs", batch_size=1, examples=150) == 44  # 43.5
    assert to_steps("d", "3e8 epochs", batch_size=1, examples=7) == 21 * 10**8


@pytest.mark.parametrize(
    ("duration", "message"),
    [
        ("5 epochs 3 steps", "`config.d` needs one number and one unit"),
        ("5 epochs3", "needs one number and one unit"),
        ("5 epcohs", "Did you mean 'epochs'"),
        ("5 exmples", "Did you mean 'examples'"),
        ("5 perc", "Did you mean '%'"),
        ("-1 epochs", "at least 0 steps, got '-1 epochs'"),
        (-1, "at least 0 steps, got -1"),
        ("nan epochs", "needs a number and a unit"),
        ("inf", "needs a number and a unit"),
        ("epochs", "needs a number and a unit"),
        ("", "needs a number and a unit"),
        ("10%", "nothing that this could be a percentage of"),
    ],
)
def test_a_wrong_duration_is_told_with_its_field(duration, message):
    with pytest.raises(ValueError, match=message):
        to_steps("config.d", duration, **DATA)


@pytest.mark.usefixtures("as_a_user")
@pytest.mark.parametrize("duration", [2.5, None, True])
def test_a_duration_is_a_whole_number_or_a_text(duration):
    with pytest.raises(TypeError, match=r"`config.d` needs a whole number of steps"):
        to_steps("config.d", duration, **DATA)


def full_config():
    return TrainConfig(
        steps="10 epochs",
        batch_size=100,
        log_every="1%",
        eval_every="0.5 epochs",
        evaluators=("train every 1 epoch", "folder:my images every 10%"),
        checkpoint_every="1000 examples",
        optim=recipes.Adam(
            schedule=recipes.Piecewise(boundaries=("50%", 400)), warmup="1 epoch"
        ),
    )


def test_every_duration_of_a_config_is_resolved():
    resolved = resolve(full_config(), examples=5_000)
    assert resolved.steps == 500
    assert (resolved.log_every, resolved.eval_every) == (5, 25)
    assert resolved.checkpoint_every == 10
    told = [str(entry) for entry in resolved.evaluators]
    assert told == ["train every 50", "folder:my images every 50"]
    assert resolved.optim.boundaries == (250, 400)
    assert resolved.optim.warmup == 50


def test_resolving_changes_nothing_else_and_nothing_twice():
    config = full_config()
    config.data.source = "folder:x"
    config.loss = recipes.GASoftmax(margin=2.0)
    resolved = resolve(config, examples=5_000)
    assert resolved.data == config.data and resolved.loss == config.loss
    assert resolve(resolved, examples=7) == resolved
    assert config.optim.warmup == "1 epoch"
    resolved.data.source = "folder:y"
    assert config.data.source == "folder:x"


@pytest.mark.parametrize(
    ("change", "message"),
    [
        ({"steps": "10%"}, "`config.steps` needs steps, epochs or examples"),
        ({"eval_every": "3 days"}, "`config.eval_every` needs one of the units"),
        ({"optim": recipes.Adam(warmup="x")}, "`config.optim.warmup` needs a number"),
        (
            {"optim": recipes.Adam(schedule=recipes.Piecewise(boundaries=(-3,)))},
            "`config.optim.schedule.boundaries`",
        ),
        (
            {"evaluators": ("train every day",)},
            "`config.evaluators.every` needs a number",
        ),
        ({"evaluators": ("train every 0 epochs",)}, "Leave the entry out"),
    ],
)
def test_a_config_names_the_field_that_is_wrong(change, message):
    with pytest.raises(ValueError, match=message):
        resolve(TrainConfig(**change), examples=5_000)


def test_a_duration_beyond_what_steps_are_counted_to_is_refused():
    with pytest.raises(ValueError, match=r"'1e30 epochs', which are 3\.91e\+31"):
        to_steps("config.steps", "1e30 epochs", **DATA)
