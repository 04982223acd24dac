import jax
import pytest

from hypersphere import aot, data, training
from hypersphere.training import _plan
from tests.training.small import config_of


class Here(aot.Target):
    """One device of this machine in place of one that is not here."""

    peak = 1e12
    options = {}

    def devices(self):
        return jax.devices()[:1]


@pytest.fixture
def here(monkeypatch):
    monkeypatch.setattr(_plan.aot, "parse_target", lambda _: Here("tpu", "v5e", "1x1"))


@pytest.mark.slow
def test_a_plan_tells_what_the_compiler_does_and_opens_no_data(here, monkeypatch):
    monkeypatch.setattr("hypersphere.data.load", None)
    config = config_of({"data.source": "cifar:nowhere", "model.width": 1 / 64})
    images = "8x8x1,classes=3,examples=48"
    found = training.dry_run(config, target="tpu:v5e", images=images)
    assert found["images"].train == 48 and found["parameters"] == 226
    assert found["mesh"] == {"data": 1, "fsdp": 1, "model": 1}
    assert found["memory_available"] == 15.75 * 2**30 > found["memory_bytes"] > 0
    assert found["flops"] > 0 and not found["collectives"]
    # A compiler that does not count: traced for this machine.
    uncounted = aot.Cost(None, 0, 0, 0, 0, 0, 0, {}, {})
    facts, two = found["images"], aot.Target("gpu", "h100", "2")
    again = _plan._flops(config, facts, uncounted, two)
    assert found["flops"] / 3 < 2 * again <= found["flops"]  # XLA repeats some
    assert found["communication_seconds"] == 0
    # A CPU counts no bytes outside; of a TPU the slower of the two.
    assert found["compute_seconds"] >= found["flops"] / Here.peak


@pytest.mark.slow
def test_what_does_not_fit_is_told_what_to_do(here, monkeypatch):
    small = aot.Chip(1.0, 1.0, 2**10, "1x1")
    monkeypatch.setattr(Here, "chip", small)
    config = config_of({"model.width": 1 / 64})
    told = r"does not fit: 0\.00 of 0\.00 GiB a device; halve .*batch_size=8.* or set"
    with pytest.raises(ValueError, match=told):
        training.dry_run(config, target="tpu:v5e")


@pytest.mark.parametrize(
    ("fields", "images", "told"),
    [
        ({"data.source": "cifar:x"}, "", "does not know the images of 'cifar:x'.*Give"),
        ({"data.source": "tfds:imagenet2012"}, "", "set `config.data.image_size`"),
        ({}, "8x8,classes=3", "positive integers, got `8x8,classes=3`"),
    ],
)
def test_images_that_are_not_known_are_asked_for(fields, images, told):
    with pytest.raises(ValueError, match=told):
        training.dry_run(config_of(fields), target="tpu:v5e", images=images)


def test_communication_is_a_ring_over_the_links():
    machine = aot.parse_target("gpu:h100:8")
    collectives = {
        "all-reduce": aot.Collective(2, 800),
        "all-gather": aot.Collective(1, 800),
        "reduce-scatter": aot.Collective(1, 100),
    }
    cost = aot.Cost(None, 0, 0, 0, 0, 0, 0, collectives, {})
    moved = 2 * 7 / 8 * 800 + 7 / 8 * 800 + 7 * 100
    assert _plan._communication_seconds(cost, machine) == moved / 450e9


def test_what_is_known_of_the_digits_is_what_they_are():
    shape, classes, train = _plan.KNOWN["mnist5k"]
    digits = data.load("mnist5k")
    assert (digits.image_shape, digits.num_classes) == (shape, classes)
    assert len(digits.train.labels) == train
