import dataclasses
import math
import pathlib

import numpy as np
import pytest

from hypersphere import recipes, training
from hypersphere.training.settings._types import typed


@pytest.mark.parametrize(
    ("path", "value", "meant"),
    [
        ("batch_size", np.int64(8), 8),
        ("steps", 4.0, 4),
        ("steps", np.float32(4), 4),
        ("optim.learning_rate", 1, 1.0),
        ("optim.learning_rate", np.float16(0.5), 0.5),
        ("data.data_dir", pathlib.Path("a/b"), "a/b"),
        ("data.flip", np.bool_(True), True),
        ("profile", [1, np.int32(2)], (1, 2)),
        ("init_fresh", ["head.*"], ("head.*",)),
        ("log_every", "2 epochs", "2 epochs"),
        ("data.mean", [1, np.float32(2.5), 3], (1.0, 2.5, 3.0)),
        ("data.std", np.float64(3), 3.0),
    ],
)
def test_what_means_the_same_is_converted(path, value, meant):
    config = training.TrainConfig()
    *sections, name = path.split(".")
    section = getattr(config, sections[0]) if sections else config
    setattr(section, name, value)
    found = typed(config)
    found = getattr(getattr(found, sections[0]) if sections else found, name)
    assert found == meant and type(found) is type(meant)
    assert getattr(section, name) is not found or value is found  # it is a copy


@pytest.mark.parametrize(
    ("path", "value", "message"),
    [
        ("model.relu", "False", r"model\.relu` needs True or False, got 'False' \(str"),
        ("model.relu", 1, "needs True or False, got 1"),
        ("optim.learning_rate", "1e-3", "needs a number, got '1e-3'.*quotation marks"),
        ("optim.clip_norm", None, "needs a number, got None"),
        (
            "steps",
            4.5,
            "needs a number of steps, or a text such .*, got 4.5",
        ),
        ("steps", math.nan, "needs a number of steps"),
        ("seed", True, "needs a whole number, got True"),
        ("batch_size", math.inf, "needs a whole number, got inf"),
        ("data.source", 3, "needs a text, got 3"),
        ("data", {"source": "x"}, r"needs a `DataConfig`.*config\.data\.FIELD = VALUE"),
        ("data.mean", (1.0, "2"), "needs a number, or one for each channel, got "),
        ("init_fresh", "head.*", "needs a tuple of texts, got 'head"),
        ("mesh.rules", (1,), r"mesh\.rules` needs a text, got 1"),
    ],
)
def test_other_types_are_refused_by_the_name_of_their_field(path, value, message):
    config = training.TrainConfig()
    *sections, name = path.split(".")
    setattr(getattr(config, sections[0]) if sections else config, name, value)
    with pytest.raises(ValueError, match=message):
        training.train(config, "/nowhere/at/all")


def test_what_a_type_of_ones_own_holds_is_left_to_it():
    @dataclasses.dataclass
    class Own:
        some: float | None = None
        pair: tuple[str, float] = ("a", 1.0)
        number: int = 0

    own = Own(some=2.5, number=10**400)
    assert typed(own) == own
    with pytest.raises(ValueError, match="`config.number` needs a whole number"):
        typed(Own(number=np.array("x")))


def test_fields_of_other_recipes_are_still_refused_by_name():
    config = training.TrainConfig(loss=recipes.WSoftmax())
    config.loss.margin = 2.0
    with pytest.raises(ValueError, match="no effect with"):
        training.train(config, "/nowhere/at/all")
