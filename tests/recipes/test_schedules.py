import numpy as np
import pytest

from tests.training.small import section


@pytest.mark.parametrize(
    ("schedule", "warmup", "expected"),
    [
        ("constant", 0, {0: 0.1, 99: 0.1}),
        ("constant", 10, {0: 0.0, 5: 0.05, 10: 0.1, 99: 0.1}),
        ("piecewise", 0, {29: 0.1, 30: 0.01, 59: 0.01, 60: 0.001}),
        ("piecewise", 10, {5: 0.05, 29: 0.1, 30: 0.01, 60: 0.001}),
        ("cosine", 0, {0: 0.1, 50: 0.05, 100: 0.0}),
        ("cosine", 20, {10: 0.05, 20: 0.1, 60: 0.05, 100: 0.0}),
        ("polynomial", 0, {0: 0.1, 50: 0.025, 100: 0.0}),
        ("polynomial", 20, {10: 0.05, 20: 0.1, 60: 0.025, 100: 0.0}),
        ("trapezoid", 0, {0: 0.1, 60: 0.1, 80: 0.05, 100: 0.0}),
        ("trapezoid", 60, {30: 0.05, 60: 0.1, 61: 0.0975, 100: 0.0}),
    ],
)
def test_schedules_reach_what_they_say(schedule, warmup, expected):
    config = section(
        "optim",
        learning_rate=0.1,
        schedule=schedule,
        boundaries=(30, 60),
        power=2.0,
        cooldown=40,
        warmup=warmup,
    )
    rate = config.make_schedule(100)
    for step, value in expected.items():
        np.testing.assert_allclose(rate(step), value, atol=1e-7)


@pytest.mark.parametrize("warmup", [0, 20])
@pytest.mark.parametrize("schedule", ["cosine", "polynomial", "trapezoid"])
def test_what_falls_ends_at_the_final_share(schedule, warmup):
    config = section(
        "optim",
        learning_rate=0.1,
        schedule=schedule,
        final=0.25,
        cooldown=30,
        warmup=warmup,
    )
    rates = [float(config.make_schedule(100)(step)) for step in range(101)]
    np.testing.assert_allclose(rates[100], 0.025, rtol=1e-6)
    np.testing.assert_allclose(rates[warmup], 0.1, rtol=1e-6)
    assert np.all(np.diff(rates[warmup:]) < 1e-7)


@pytest.mark.parametrize(
    ("fields", "message"),
    [
        ({"warmup": 100}, "`config.optim.warmup` must be shorter than `config.steps`"),
        ({"schedule": "piecewise"}, "at least one step, rising"),
        ({"schedule": "piecewise", "boundaries": (60, 30)}, "rising"),
        ({"schedule": "piecewise", "boundaries": (30, 30)}, "rising"),
        (
            {"schedule": "piecewise", "boundaries": (30,), "warmup": 30},
            "after `config.optim.warmup`",
        ),
        ({"schedule": "trapezoid", "cooldown": 0}, "at least one step"),
        (
            {"schedule": "trapezoid", "cooldown": 61, "warmup": 40},
            "got 61 of 100 steps and a warm-up of 40",
        ),
        ({"schedule": "cosin"}, "Did you mean 'cosine'"),
    ],
)
def test_durations_that_do_not_fit_are_told(fields, message):
    with pytest.raises(ValueError, match=message):
        section("optim", **fields).make_schedule(100)


@pytest.mark.parametrize(
    "fields",
    [
        {"warmup": "1 epoch"},
        {"schedule": "piecewise", "boundaries": ("50%",)},
        {"schedule": "trapezoid", "cooldown": "20%"},
    ],
)
def test_durations_must_be_resolved(fields):
    with pytest.raises(TypeError, match=r"in steps.* Call `resolve`"):
        section("optim", **fields).make_schedule(100)
