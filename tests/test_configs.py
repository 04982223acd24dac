import importlib
import pathlib

import pytest

from hypersphere import training

FOLDER = pathlib.Path(__file__).parents[1] / "configs"
NAMES = sorted(path.stem for path in FOLDER.glob("*.py"))


def get_config(name):
    return importlib.import_module(f"configs.{name}").get_config()


def test_there_are_configs():
    assert {"quickstart", "features_2d", "cifar10_sphere", "cifar10_plain"} <= set(
        NAMES
    )


@pytest.mark.parametrize("name", NAMES)
def test_the_docstring_gives_the_command_and_what_was_reached(name):
    text = importlib.import_module(f"configs.{name}").__doc__
    assert f"python train.py --config=configs/{name}.py --workdir=" in text
    assert "Reached:" in text and "Claim:" in text


@pytest.mark.slow
@pytest.mark.parametrize("name", NAMES)
def test_two_steps_on_synthetic_images(name, tmp_path):
    config = get_config(name)
    config.steps = config.log_every = config.eval_every = config.checkpoint_every = 2
    config.batch_size, config.eval_batch_size = 8, 8
    config.data.source = "synthetic:16x16x1,classes=3,examples=16"
    config.data.stream, config.data.image_size, config.optim.warmup = False, 0, 0
    config.model.width = 1 / 64
    assert training.train(config, tmp_path)["test_accuracy"] >= 0


def test_the_plain_baseline_differs_in_the_convolution_only():
    sphere, plain = get_config("cifar10_sphere"), get_config("cifar10_plain")
    plain.model.similarity = sphere.model.similarity
    assert plain == sphere


def test_the_authors_recipe_is_theirs():
    config = get_config("cifar10_sphere")
    assert (config.steps, config.batch_size) == (64_000, 128)
    assert config.optim.boundaries == (34_000, 54_000)
    assert (config.model.averages, config.model.momentum) == ("zero", 0.999)
