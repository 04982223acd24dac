import json
import sys

import jax
import jax.export
import jaxtyping
import numpy as np
import pytest
from flax import nnx
from safetensors.numpy import load_file

from hypersphere import data, training
from hypersphere.training import _export
from tests.training.small import leave_run


@pytest.fixture(scope="module")
def exported(tmp_path_factory):
    """The folders of a run and of its export."""
    folder = tmp_path_factory.mktemp("export")
    config = training.TrainConfig(steps=2, batch_size=8, eval_batch_size=8)
    config.data.source = "synthetic:8x8x1,classes=3,examples=48"
    config.model.depth, config.model.width = 3, 1 / 64
    config.model.similarity = "learnable_sigmoid"
    config.loss.name, config.optim.ema = "w_softmax", 0.5
    leave_run(config, folder / "run")
    jaxtyping.config.update("jaxtyping_disable", True)  # a batch of any size is no int
    yield folder / "run", training.export(folder / "run", folder / "out")
    jaxtyping.config.update("jaxtyping_disable", False)


@pytest.mark.slow
@pytest.mark.parametrize("batch", [1, 5])
def test_the_program_gives_the_models_scores_for_any_batch(exported, batch):
    run, out = exported
    program = jax.export.deserialize(bytearray((out / "model.stablehlo").read_bytes()))
    assert program.platforms == ("cpu", "cuda", "tpu")
    model, config = training.load(run)
    images = data.load(config.data.source).test.images[:batch]
    cos, _ = jax.jit(lambda images: model(data.normalize(images)))(images)
    # The program has the weights as constants, which XLA folds before it compiles.
    np.testing.assert_allclose(program.call(images), cos, rtol=1e-6, atol=1e-7)


@pytest.mark.slow
def test_the_weights_are_there_by_their_paths(exported):
    run, out = exported
    arrays = load_file(out / "weights.safetensors")
    model, _ = training.load(run)
    np.testing.assert_array_equal(arrays["head.kernel"], model.head.kernel[...])
    sigmoid = model.stages[0][0].conv.similarity.raw
    np.testing.assert_array_equal(arrays["stages.0.0.conv.similarity.raw"], sigmoid)
    kept = nnx.state(model, (nnx.Param, nnx.BatchStat))
    assert len(arrays) == len(jax.tree.leaves(kept))


@pytest.mark.slow
def test_a_reader_learns_what_goes_in_and_what_comes_out(exported):
    told = json.loads((exported[1] / "model.json").read_text())
    assert told["image_shape"] == [8, 8, 1] and told["class_names"] == ["0", "1", "2"]
    assert told["config"]["loss"]["name"] == "w_softmax"


def test_names_of_classes_come_from_the_data_and_are_not_invented(tmp_path):
    images = training.Images("", (8, 8, 1), 2, 9, class_names=("cat", "dog"))
    assert _export._class_names(tmp_path, images) == ["cat", "dog"]
    with pytest.warns(UserWarning, match="names of the 2 classes.*are not known"):
        assert _export._class_names(tmp_path, images._replace(class_names=())) is None


def test_nothing_to_export_says_so(tmp_path):
    with pytest.raises(FileNotFoundError, match=r"no config\.json"):
        training.export(tmp_path, tmp_path / "out")
    assert not (tmp_path / "out").exists()


@pytest.mark.slow
def test_a_missing_package_is_named(exported, monkeypatch, tmp_path):
    monkeypatch.setitem(sys.modules, "safetensors.numpy", None)
    message = r"needs the package `safetensors.*\[export\]"
    with pytest.raises(ModuleNotFoundError, match=message):
        training.export(exported[0], tmp_path)
