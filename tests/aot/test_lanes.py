"""That a TPU's compiler takes the layout asked for, on one device and on several."""

import importlib.util

import jax
import jax.numpy as jnp
import numpy as np
import pytest
from jax.sharding import Mesh, NamedSharding, PartitionSpec as P

from hypersphere import aot, ops

is_missing = importlib.util.find_spec("libtpu") is None
pytestmark = [
    pytest.mark.aot,
    pytest.mark.skipif(is_missing, reason="needs the extra aot"),
]


def test_examples_lie_across_lanes_and_no_activation_travels():
    target = aot.parse_target("tpu:v5e:2x2")
    mesh = Mesh(np.array(target.devices()), ("data",))
    divided, whole = NamedSharding(mesh, P("data")), NamedSharding(mesh, P())

    def slopes(x, kernel):
        with jax.sharding.use_abstract_mesh(mesh.abstract_mesh):
            respond = lambda *a: ops.sphere_conv(*a, similarity=ops.Linear())  # noqa: E731
            answer, pull = jax.vjp(respond, x, kernel)
            return pull(answer)

    arguments = [
        jax.ShapeDtypeStruct((512, 8, 8, 128), jnp.bfloat16),
        jax.ShapeDtypeStruct((3, 3, 128, 128), jnp.bfloat16),
    ]
    places = (divided, whole)
    jitted = jax.jit(slopes, in_shardings=places, out_shardings=places)
    text = target.compile(jitted.lower(*arguments)).as_text()
    assert "bf16[128,8,8,128]{0,3,2,1" in text
    assert "all-reduce" in text
    for travels in ("all-gather", "all-to-all", "collective-permute"):
        assert travels not in text
