"""The head in the training program: which levels go with what, and what they learn."""

import json
import os
import pathlib
import subprocess
import sys

import jax
import numpy as np
import pytest
from flax import nnx

from hypersphere import nn, training
from hypersphere.training.run import _load
from hypersphere.training.settings._check import check

ROOT = pathlib.Path(__file__).parents[2]


def config_of(loss, **head):
    config = training.TrainConfig()
    config.loss = loss
    for field, value in head.items():
        setattr(config.head, field, value)
    return config


@pytest.mark.parametrize(
    ("config", "message"),
    [
        (config_of("softmax", centres=2), r"config\.head` has no effect.*linear head"),
        (config_of("adacos", level="sampled"), "'sampled'` does not go with .*adacos"),
        (config_of("sphereface2", level="chunked"), "needs the cosines to all classes"),
        (config_of("magface", scale=8.0), "'magface'` has no use, or which it needs"),
        (config_of("arcface", scale=8.0), "no effect with `config.loss.scale=64.0`"),
        (config_of("madacos", scale=8.0), "'madacos'` has no use"),
        (config_of("arcface", share=0.5), "no effect with `config.head.level='full'`"),
        (config_of("w_softmax", learn_scale=True), "needs a `config.head.scale`"),
        (config_of("w_softmax", share=0.0), r"head\.share` must be in \(0, 1\]"),
    ],
)
def test_what_does_not_go_together_is_told_before_training(config, message):
    with pytest.raises(ValueError, match=message):
        check(config)


def test_smoothed_labels_need_all_classes():
    config = config_of({"name": "normface", "label_smoothing": 0.1}, level="chunked")
    with pytest.raises(ValueError, match="without `config.loss.label_smoothing=0.1`"):
        check(config)


@pytest.mark.slow
def test_levels_and_devices_change_no_loss_and_a_checkpoint_fits_them_all():
    flag = "--xla_force_host_platform_device_count=4"
    done = subprocess.run(
        [sys.executable, "-m", "tests.training.on_head"],
        cwd=ROOT,
        capture_output=True,
        text=True,
        timeout=600,
        env=os.environ | {"XLA_FLAGS": flag, "JAX_PLATFORMS": "cpu"},
    )
    assert not done.returncode, done.stderr[-3000:]
    found = json.loads(done.stdout)
    # All steps in chunks on 4 devices; two with all cosines on 4, two in chunks on one.
    assert found["divided"] == pytest.approx(found["resumed"], rel=1e-5)
    # 59 classes are 60 columns on 4 devices, where one is padding.
    assert (found["columns"], found["loaded"], found["centres"]) == (60, 59, 59)
    # 8 of each 15 classes: at most as many of the batch as there are examples.
    assert 8 <= len(found["moved"]) <= 32
    for first in (0, 15, 30, 45):
        inside = [i for i in found["moved"] if first <= i < first + 15]
        assert len(inside) == 8


def test_a_loaded_head_has_no_padding(draw):
    head = nn.AngularHead(4, 5, shards=4, centres=2, rngs=nnx.Rngs(0))
    wide, x = head.kernel.shape, draw((3, 4))
    before = jax.jit(lambda x: head(x)[0])(x)
    _load._drop_padding(head)
    assert (wide, head.kernel.shape) == ((4, 16), (4, 10))
    np.testing.assert_array_equal(jax.jit(lambda x: head(x)[0])(x), before)
