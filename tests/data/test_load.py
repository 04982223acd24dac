import sys

import numpy as np
import pytest
from PIL import Image

from hypersphere import data
from hypersphere.data import _memory


@pytest.mark.parametrize(
    "source", ["", "cifar10", "mnist5k:", "tfds:", "folder:", "idx:", "web:cats"]
)
def test_unknown_source_lists_the_forms(source):
    message = (
        "`mnist5k`, `tfds:NAME`, `folder:PATH`, `tar:PATH`, `idx:PATH`, "
        "`cifar:PATH` or `synthetic:HxWxC,classes=K,examples=N`, got "
        f"`source='{source}'`"
    )
    with pytest.raises(ValueError, match=message):
        data.load(source)


@pytest.mark.parametrize(
    ("options", "message"),
    [
        ({"image_size": -1}, "`image_size >= 0`.*`image_size=-1`"),
        ({"test_fraction": 0.0}, "`0 < test_fraction < 1`.*`test_fraction=0.0`"),
        ({"test_fraction": 1.0}, "`0 < test_fraction < 1`.*`test_fraction=1.0`"),
        ({"seed": -1}, r"`0 <= seed < 2\*\*64`, got `seed=-1`"),
    ],
)
def test_options_out_of_range_are_refused(options, message):
    with pytest.raises(ValueError, match=message):
        data.load("mnist5k", **options)


def test_image_size_resizes_arrays_as_pillow_does():
    original = data.load("mnist5k").test.images[3, ..., 0]
    resized = data.load("mnist5k", image_size=20).test.images[3, ..., 0]
    expected = Image.fromarray(original).resize((20, 20), Image.Resampling.BICUBIC)
    np.testing.assert_array_equal(resized, np.asarray(expected))


def test_image_size_cuts_out_the_center():
    source = "synthetic:8x16x2,classes=2,examples=10"
    wide = data.load(source).train.images
    square = data.load(source, image_size=8).train.images
    np.testing.assert_array_equal(square, wide[:, :, 4:12])


def test_own_size_leaves_every_pixel():
    same = data.load("mnist5k", image_size=28)
    np.testing.assert_array_equal(same.train.images, data.load("mnist5k").train.images)


def test_a_set_too_large_for_memory_is_refused(monkeypatch):
    monkeypatch.setattr(_memory, "MAX_BYTES", 2**20)
    message = "0.000977 GiB.*got 5,000 of 64x64x1, which take 0.0191 GiB.*image_size"
    with pytest.raises(ValueError, match=message):
        data.load("mnist5k", image_size=64)


@pytest.mark.parametrize(
    ("source", "package"), [("folder:x", "PIL"), ("tfds:x", "tensorflow_datasets")]
)
def test_a_missing_reader_is_named(monkeypatch, source, package):
    for module in [
        name for name in sys.modules if name.startswith("hypersphere.data._")
    ]:
        if module.endswith(("_folder", "_images", "_tfds")):
            monkeypatch.delitem(sys.modules, module)
    monkeypatch.setitem(sys.modules, package, None)
    message = rf"needs the package `{package}`.*pip install 'hypersphere-jax\[train\]'"
    with pytest.raises(ModuleNotFoundError, match=message):
        data.load(source)
