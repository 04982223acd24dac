import importlib
import math
import pathlib
import re

import pytest
from flax import nnx

from hypersphere import training
from hypersphere.experiments import Family
from hypersphere.training.settings import check, resolve

FOLDER = pathlib.Path(__file__).parents[1] / "configs"
NAMES = sorted(path.stem for path in FOLDER.glob("*.py"))


SCALES = ("paper", "small")


def get_config(name, parameters=""):
    make = importlib.import_module(f"configs.{name}").get_config
    return make(parameters) if parameters else make()


def variants(name, scale):
    """Every combination of a config's parameters; one without for a plain config."""
    make = importlib.import_module(f"configs.{name}").get_config
    if isinstance(make, Family):
        return make.variants(f"scale={scale}")
    return [{}] if scale == "paper" else []


def test_there_are_configs():
    assert {"quickstart", "features_2d", "cifar10_sphere", "cifar10_plain"} <= set(
        NAMES
    )


@pytest.mark.parametrize("name", NAMES)
def test_the_docstring_gives_the_command_and_what_was_reached(name):
    text = importlib.import_module(f"configs.{name}").__doc__
    assert re.search(rf"--config=configs/{name}\.py(:[a-z0-9_=.,]+)?\s", text)
    assert "Reached:" in text and "Claim:" in text


@pytest.mark.parametrize("name", NAMES)
def test_parameters_that_a_docstring_mentions_exist(name):
    text = importlib.import_module(f"configs.{name}").__doc__
    for other, parameters in re.findall(r"configs/(\w+)\.py:([\w=.,]+)", text):
        assert get_config(other, parameters)


@pytest.mark.parametrize(
    ("name", "parameters"),
    [
        pytest.param(
            name,
            ",".join(f"{key}={value}" for key, value in choices.items()),
            marks=pytest.mark.slow if number % 4 else (),  # of many a quarter is fast
        )
        for name in NAMES
        for scale in SCALES
        for number, choices in enumerate(variants(name, scale))
    ],
)
def test_every_combination_is_a_run_that_makes_sense(name, parameters):
    config = get_config(name, parameters)
    check(config)
    assert training.from_json(training.to_json(config)) == config


# One of each network and loss; the others differ in fields that fast tests look at.
TRAINED = (
    "cifar10_sphere",
    "cifar10plus_sphere_resnet32",
    "features_2d",
    "imagenet_sphere",
)


@pytest.mark.slow
@pytest.mark.parametrize("name", TRAINED)
def test_a_few_steps_on_synthetic_images(name, tmp_path):
    config = get_config(name)
    config.steps = config.log_every = config.eval_every = config.checkpoint_every = 12
    config.evaluators = ()
    config.batch_size, config.eval_batch_size = 8, 8
    config.data.source = "synthetic:32x32x1,classes=3,examples=16"
    config.data.stream, config.data.image_size, config.optim.warmup = False, 0, 0
    config.model.width = 1 / 64 if config.model.name == "spherenet" else 1 / 16
    config.model.depth = min(config.model.depth, 20)
    assert training.train(config, tmp_path)["test_accuracy"] >= 0


def test_the_plain_baseline_differs_in_the_convolution_only():
    sphere, plain = get_config("cifar10_sphere"), get_config("cifar10_plain")
    plain.model.similarity = sphere.model.similarity
    assert plain == sphere


def test_the_authors_recipe_is_theirs():
    config = resolve(get_config("cifar10_sphere"), examples=50_000)
    assert (config.steps, config.batch_size) == (64_000, 128)
    assert config.optim.boundaries == (34_000, 54_000)
    assert (config.model.averages, config.model.momentum) == ("zero", 0.999)


def test_the_schedules_are_those_of_the_paper_and_of_later_code():
    imagenet = resolve(get_config("imagenet_sphere"), examples=1_281_167)
    assert (imagenet.steps, imagenet.optim.name) == (550_000, "sgd")
    assert imagenet.optim.boundaries == (200_000, 375_000)
    cifar100 = resolve(get_config("cifar100_sphere_resnet32"), examples=50_000)
    assert cifar100.steps == 42_500
    assert cifar100.optim.boundaries == (20_000, 30_000, 37_500)


@pytest.mark.slow
def test_the_wide_resnet_has_the_published_number_of_weights():
    for operator in ("linear", "plain"):
        config = get_config("cifar10plus_sphere_resnet32", f"operator={operator}")
        images = training.Images("", (32, 32, 3), 10, 50_000)
        model = nnx.eval_shape(
            lambda: config.model.make(config, images)  # noqa: B023
        )
        leaves = nnx.to_flat_state(nnx.state(model, nnx.Param))
        sizes = {path: math.prod(leaf.shape) for path, leaf in leaves}
        weights = sum(n for path, n in sizes.items() if path[-1] == "kernel")
        assert (weights, sum(sizes.values()) - weights) == (16_687_392, 14_784)


def test_batches_of_all_sizes_see_as_many_images():
    for scale in SCALES:
        seen = {
            config.steps * config.batch_size
            for choices in variants("ablation_sphere_norm", scale)
            for config in [
                get_config(
                    "ablation_sphere_norm",
                    ",".join(f"{key}={value}" for key, value in choices.items()),
                )
            ]
        }
        assert len(seen) == 1


def test_a_softness_at_the_end_of_a_name_is_that_of_its_sigmoid():
    config = get_config("ablation_loss", "operator=sigmoid_0.1,loss=ga_sigmoid_0.7")
    assert (config.model.similarity, config.model.k) == ("sigmoid", 0.1)
    assert (config.loss.similarity, config.loss.k) == ("sigmoid", 0.7)
