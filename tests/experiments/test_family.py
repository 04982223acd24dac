import pytest

from hypersphere import training
from hypersphere.experiments import Family, family


@family(operator=("plain", "linear"), depth=(9, 45), relu=(True, False))
def get_config(*, operator, depth, relu, scale):
    """A family of three axes."""
    config = training.TrainConfig(steps=7 if scale == "small" else 70)
    config.model.similarity = "none" if operator == "plain" else operator
    config.model.depth, config.model.relu = depth, relu
    return config


def test_without_a_text_every_axis_has_its_first_value():
    config = get_config()
    assert (config.steps, config.model.similarity) == (70, "none")
    assert (config.model.depth, config.model.relu) == (9, True)


def test_a_text_chooses_values_of_the_right_type():
    config = get_config("depth=45, relu=false,scale=small")
    assert (config.steps, config.model.depth) == (7, 45)
    assert config.model.relu is False


def test_the_function_keeps_its_name_and_docstring():
    assert isinstance(get_config, Family)
    assert get_config.__name__ == "get_config"
    assert get_config.__doc__ == "A family of three axes."


def test_variants_are_all_combinations_that_agree():
    assert len(get_config.variants()) == 8
    assert all(choices["scale"] == "paper" for choices in get_config.variants())
    chosen = get_config.variants("operator=linear,scale=small")
    assert len(chosen) == 4
    assert {c["operator"] for c in chosen} == {"linear"}
    assert len({tuple(c.items()) for c in chosen}) == 4


@pytest.mark.parametrize("text", ["", "depth=45", "relu=False,operator=linear"])
def test_the_texts_of_variants_give_their_configs(text):
    for choices in get_config.variants(text):
        pairs = ",".join(f"{name}={value}" for name, value in choices.items())
        config = get_config(pairs)
        assert config.model.depth == choices["depth"]
        assert config.model.relu is choices["relu"]


@pytest.mark.parametrize(
    ("axes", "message"),
    [
        (dict(scale=("a",)), "has the axis `scale` by itself"),
        (dict(k=()), "needs values, each once"),
        (dict(k=("A", "a")), "needs values, each once"),
        (dict(k=("a,b", "c")), "'a,b', which cannot be written among"),
    ],
)
def test_axes_that_a_text_cannot_choose_from_are_refused(axes, message):
    with pytest.raises(ValueError, match=message):
        family(**axes)(lambda **_: training.TrainConfig())


@pytest.mark.parametrize(
    ("text", "message"),
    [
        ("operater=plain", "no parameter 'operater'. Did you mean 'operator'"),
        ("operator=lineer", "one of plain, linear, got 'lineer'. Did you mean 'lin"),
        ("depth=10", "'depth' must be one of 9, 45, got '10'"),
        ("scale=tiny", "'scale' must be one of paper, small, got 'tiny'"),
        (
            "linear",
            "NAME=VALUE pairs .* got 'linear'. There are: operator=plain|linear",
        ),
    ],
)
def test_what_does_not_exist_is_told_with_what_does(text, message):
    with pytest.raises(ValueError, match=message):
        get_config(text)
