"""Whole training programs for machines that are not here, by their own compilers."""

import importlib
import importlib.util

import pytest

from hypersphere import training

is_missing = importlib.util.find_spec("libtpu") is None
pytestmark = [
    pytest.mark.aot,
    pytest.mark.skipif(is_missing, reason="needs the extra aot"),
]


def planned(name, target, per_device, operator, **choices):
    config = importlib.import_module(f"configs.{name}").get_config(
        ",".join(f"{k}={v}" for k, v in {"operator": operator, **choices}.items())
    )
    devices = 4 if target.endswith("2x2") else int(target.rsplit(":", 1)[-1])
    config.batch_size = devices * per_device
    return training.dry_run(config, target=target)


def assert_only_gradients_travel(spherical, plain):
    """All that crosses devices is reduced, and a sphere adds nothing to it."""
    assert set(spherical["collectives"]) == set(plain["collectives"]) == {"all-reduce"}
    ours, theirs = (found["collectives"]["all-reduce"] for found in (spherical, plain))
    assert ours[1] == pytest.approx(theirs[1], rel=0.01)


@pytest.mark.parametrize("name", ["imagenet_sphere", "imagenet_sphere_resnet50"])
def test_a_run_on_imagenet_fits_on_eight_gpus_and_sums_gradients_alone(name):
    spherical, plain = (
        planned(name, "gpu:h100:8", 128, operator) for operator in ("linear", "plain")
    )
    assert spherical["mesh"] == {"data": 8, "fsdp": 1, "model": 1}
    assert 0 < spherical["memory_bytes"] < spherical["memory_available"]
    assert_only_gradients_travel(spherical, plain)


def test_a_small_run_on_imagenet_fits_on_four_tpus_and_sums_gradients_alone():
    spherical, plain = (
        planned("imagenet_sphere", "tpu:v5e:2x2", 16, operator, scale="small")
        for operator in ("linear", "plain")
    )
    assert 0 < spherical["memory_bytes"] < spherical["memory_available"]
    assert spherical["flops"] > plain["flops"] > 0
    assert_only_gradients_travel(spherical, plain)


def test_what_a_tpu_has_no_memory_for_is_told_with_what_to_do():
    told = r"does not fit: \d+\.\d+ of 15\.75 GiB a device; halve .*batch_size=1200000"
    with pytest.raises(ValueError, match=told):
        planned("imagenet_sphere", "tpu:v5e:2x2", 300_000, "plain", scale="small")
