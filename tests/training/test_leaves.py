import jax
import jax.numpy as jnp
import numpy as np
import pytest

from hypersphere.training.checkpoints import _leaves


@pytest.mark.parametrize("generator", ["threefry2x32", "rbg", "unsafe_rbg"])
def test_random_keys_are_written_as_numbers_and_come_back(generator):
    keys = jax.random.split(jax.random.key(3, impl=generator), 2)
    template = _leaves.placed(jax.eval_shape(lambda: keys))
    there, wanted = _leaves.written(keys), _leaves.written(template)
    assert there.dtype == wanted.dtype == jnp.uint32
    assert there.shape == wanted.shape and wanted.sharding == template.sharding
    back = _leaves.read(there, template)
    assert back.dtype == keys.dtype
    np.testing.assert_array_equal(jax.random.key_data(back), there)


def test_other_arrays_are_written_as_they_are():
    array = jnp.ones(3, jnp.bfloat16)
    assert _leaves.written(array) is array
    assert _leaves.read(array, _leaves.placed(array)) is array


def test_the_first_three_differences_are_named():
    there = {name: "int32[]" for name in "abcde"}
    here = {"a": "int32[]", "b": "int8[]", "f": "int32[]"}
    assert _leaves.differences(there, there) == ""
    assert _leaves.differences(there, here) == (
        "b (int32[] there, int8[] here), c (int32[] there, nothing here), "
        "d (int32[] there, nothing here)"
    )


def test_a_template_without_a_sharding_goes_to_the_first_device():
    leaf = _leaves.placed(jax.ShapeDtypeStruct((2,), jnp.int8))
    assert leaf.sharding.device_set == {jax.devices()[0]}
