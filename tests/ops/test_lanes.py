"""Which answers are laid out by examples, as a TPU is fast at; only traced here."""

import jax
import jax.numpy as jnp
import pytest
from jax.sharding import AbstractMesh, AxisType

from hypersphere import ops
from tests.ops.test_curves import compile_for


def layouts(batch, features, window, mesh=None):
    """The layouts that the gradient of a layer asks for, by a TPU's choices."""
    x = jax.ShapeDtypeStruct((batch, 4, 4, 2), jnp.bfloat16)
    kernel = jax.ShapeDtypeStruct((window, window, 2, features), jnp.bfloat16)
    total = lambda x, kernel: ops.sphere_conv(x, kernel).sum()  # noqa: E731

    def gradient(x, kernel):
        if mesh is None:
            return jax.grad(total)(x, kernel)
        with jax.sharding.use_abstract_mesh(mesh):
            return jax.grad(total)(x, kernel)

    found = jax.make_jaxpr(gradient)(x, kernel).eqns
    return [
        eqn.params["layout"].major_to_minor
        for eqn in found
        if eqn.primitive.name == "layout_constraint"
    ]


@pytest.mark.parametrize(
    ("batch", "features", "window", "is_by_examples"),
    [
        (jax.device_count() * 128, 128, 3, True),
        (jax.device_count() * 128, 129, 3, False),
        (jax.device_count() * 128, 128, 1, False),
        (jax.device_count() * 128 - 1, 128, 3, False),
    ],
)
def test_a_tpu_has_examples_across_its_lanes_where_that_pays(
    batch, features, window, is_by_examples, monkeypatch
):
    compile_for(monkeypatch, "tpu")
    by_examples = (1, 2, 3, 0)  # height, width, features, batch
    expected = {by_examples} if is_by_examples else set()
    assert set(layouts(batch, features, window)) == expected
    compile_for(monkeypatch, "cpu")
    assert layouts(batch, features, window) == []


def test_the_examples_of_each_device_have_to_fill_the_lanes(monkeypatch):
    compile_for(monkeypatch, "tpu")
    four = AbstractMesh((4,), ("data",), axis_types=(AxisType.Auto,))
    assert layouts(512, 8, 3, four)
    assert not layouts(256, 8, 3, four)
