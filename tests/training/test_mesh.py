import json
import os
import pathlib
import subprocess
import sys

import jax
import numpy as np
import pytest
from jax.sharding import AbstractMesh, PartitionSpec as P

from hypersphere import training
from hypersphere.training.machine import _mesh

ROOT = pathlib.Path(__file__).parents[2]


def sizes(*, data=1, fsdp=1, model=1):
    """A mesh of any size, without its devices."""
    return AbstractMesh((data, fsdp, model), _mesh.AXES)


def test_the_devices_are_divided_among_the_axes():
    mesh = _mesh.make_mesh(training.MeshConfig())
    assert dict(mesh.shape) == {"data": 1, "fsdp": 1, "model": 1}


@pytest.mark.parametrize("wrong", [dict(data=3), dict(fsdp=2), dict(model=5)])
def test_a_mesh_that_does_not_divide_the_devices_is_refused(wrong):
    with pytest.raises(ValueError, match=r"number of devices, 1, got.*data` at -1"):
        _mesh.make_mesh(training.MeshConfig(**wrong))


def test_a_batch_must_divide_over_devices_and_parts():
    _mesh.check_batch(sizes(data=4, fsdp=2), 48, 3)
    with pytest.raises(ValueError, match=r"multiple of 24.*got 50\. Use 48 or 72"):
        _mesh.check_batch(sizes(data=4, fsdp=2), 50, 3)
    with pytest.raises(ValueError, match=r"Use 24\."):
        _mesh.check_batch(sizes(data=4, fsdp=2), 5, 3)


@pytest.mark.parametrize(
    ("path", "shape", "spec"),
    [
        ("head.kernel", (16, 10), P(None, "model")),
        ("stages.0.conv.kernel", (3, 3, 8, 16), P(None, None, None, "fsdp")),
        ("stages.0.conv.kernel", (3, 3, 16, 7), P(None, None, "fsdp", None)),
        ("stages.0.conv.kernel", (3, 3, 3, 7), P()),
        ("stages.0.norm.scale", (16,), P()),
    ],
)
def test_the_first_rule_that_fits_divides_a_parameter(path, shape, spec):
    rules = training.MeshConfig().rules
    where = tuple(path.split("."))
    assert _mesh.spec_of(where, shape, sizes(fsdp=4, model=2), rules) == spec


def test_without_a_fitting_rule_a_parameter_is_everywhere():
    assert _mesh.spec_of(("a",), (4, 4), sizes(fsdp=2), ("b: auto",)) == P()


@pytest.mark.parametrize(
    ("rule", "message"),
    [
        (
            "head.kernel: model",
            r"has 1 axes.*kernel has 2 dimensions, \(16, 10\)",
        ),
        ("head.kernel: - model", r"over model=3, which does not divide 10"),
        ("head.kernel model", r"needs `PATTERN: AXES`"),
        ("head.kernel:", r"needs `PATTERN: AXES`"),
    ],
)
def test_a_rule_that_cannot_be_followed_says_why(rule, message):
    with pytest.raises(ValueError, match=message):
        _mesh.spec_of(("head", "kernel"), (16, 10), sizes(model=3), (rule,))


def test_one_process_has_all_rows():
    mesh = _mesh.make_mesh(training.MeshConfig())
    assert _mesh.local_rows(mesh, 8) == (0, 1)


def test_arrays_arrive_as_they_are(draw):
    mesh = _mesh.make_mesh(training.MeshConfig())
    rows = np.asarray(draw((6, 2)))
    np.testing.assert_array_equal(_mesh.to_batch(mesh, rows, 6), rows)
    tree = _mesh.everywhere(mesh, {"a": rows, "b": np.int32(3)})
    jax.tree.map(np.testing.assert_array_equal, tree, {"a": rows, "b": np.int32(3)})


@pytest.mark.slow
@pytest.mark.parametrize(
    ("similarity", "meshes"),
    [
        ("linear", ["1x8x1", "2x2x2"]),
        ("learnable_sigmoid", ["1x2x4"]),
    ],
)
def test_every_mesh_of_eight_devices_gives_the_losses_of_one(similarity, meshes):
    environment = os.environ | {
        "JAX_PLATFORMS": "cpu",
        "XLA_FLAGS": "--xla_force_host_platform_device_count=8",
    }
    done = subprocess.run(
        [
            sys.executable,
            "-m",
            "tests.training.on_devices",
            similarity,
            "1x1x1",
            *meshes,
        ],
        cwd=ROOT,
        env=environment,
        capture_output=True,
        text=True,
        timeout=600,
    )
    assert done.returncode == 0, done.stderr
    answers = json.loads(done.stdout)
    one = answers.pop("1x1x1")
    assert not one["divided"] and len(set(one["losses"])) == len(one["losses"]) == 20
    for mesh, many in answers.items():
        np.testing.assert_allclose(
            many["losses"], one["losses"], rtol=1e-5, err_msg=mesh
        )
        assert (many["right"], many["examples"]) == (one["right"], one["examples"])
        parts = list(many["divided"])
        axes = dict(zip(("data", "fsdp", "model"), mesh.split("x"), strict=True))
        if axes["fsdp"] != "1":  # parameters, Adam's two memories and the average
            assert sum("conv']['kernel" in part for part in parts) >= 4 * 4
        if axes["model"] != "1":
            assert sum("head']['kernel" in part for part in parts) == 4
