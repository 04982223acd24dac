"""Which answers are laid out by examples, as a TPU is fast at; only traced here."""

import jax
import jax.numpy as jnp
from jax.sharding import AbstractDevice, AbstractMesh

from hypersphere import ops
from tests.ops.test_curves import compile_for


def layouts(batch, features, window, *, kind="TPU v5 lite", devices=1):
    """The layouts that the gradient of a layer asks for, by the choices for a TPU."""
    x = jax.ShapeDtypeStruct((batch, 4, 4, 2), jnp.bfloat16)
    kernel = jax.ShapeDtypeStruct((window, window, 2, features), jnp.bfloat16)
    device = AbstractDevice(kind, None, "tpu")
    mesh = AbstractMesh((devices,), ("data",), abstract_device=device)

    def gradient(x, kernel):
        with jax.sharding.use_abstract_mesh(mesh):
            return jax.grad(lambda *a: ops.sphere_conv(*a).sum())(x, kernel)

    return [
        eqn.params["layout"].major_to_minor
        for eqn in jax.make_jaxpr(gradient)(x, kernel).eqns
        if eqn.primitive.name == "layout_constraint"
    ]


def test_a_small_tpu_has_examples_across_its_lanes_where_that_pays(monkeypatch):
    compile_for(monkeypatch, "tpu")
    by_examples = (1, 2, 3, 0)  # height, width, features, batch
    assert set(layouts(128, 128, 3)) == {by_examples}
    assert set(layouts(128, 128, 3, kind="TPU v6 lite")) == {by_examples}
    assert not layouts(128, 129, 3)
    assert not layouts(128, 128, 1)
    assert not layouts(128, 128, 3, kind="TPU v5")
    compile_for(monkeypatch, "cpu")
    assert not layouts(128, 128, 3)


def test_the_examples_of_each_device_have_to_fill_the_lanes(monkeypatch):
    compile_for(monkeypatch, "tpu")
    assert not layouts(127, 8, 3)
    assert layouts(512, 8, 3, devices=4)
    assert not layouts(256, 8, 3, devices=4)


def test_a_layer_without_a_mesh_is_the_same(monkeypatch):
    compile_for(monkeypatch, "tpu")
    x = jax.ShapeDtypeStruct((128 * jax.device_count(), 4, 4, 2), jnp.bfloat16)
    kernel = jax.ShapeDtypeStruct((3, 3, 2, 8), jnp.bfloat16)
    assert "layout_constraint" not in str(jax.make_jaxpr(ops.sphere_conv)(x, kernel))
