import jax
import jax.numpy as jnp
import numpy as np
import pytest

from hypersphere.training.checkpoints._fingerprint import fingerprints, finite

FLOATS = ["float16", "bfloat16", "float32", "float64"]
INTEGERS = [f"{sign}int{bits}" for sign in ("", "u") for bits in (8, 16, 32, 64)]


def reference(array):
    """The documented formula on a NumPy array, with Python's whole numbers."""
    size = array.dtype.itemsize
    words = [
        int.from_bytes(array.ravel()[i].tobytes()[k : k + 4], "little")
        for i in range(array.size)
        for k in range(0, size, 4)
    ]
    total = 0
    for i, word in enumerate(words):
        mixed = (word + 0x9E3779B9 * i) % 2**32
        mixed = (mixed ^ (mixed >> 16)) * 0x85EBCA6B % 2**32
        mixed = (mixed ^ (mixed >> 13)) * 0xC2B2AE35 % 2**32
        total += mixed ^ (mixed >> 16)
    return total % 2**32


def fingerprint(array):
    return int(fingerprints({"x": array})["x"])


def bits_at_random(dtype, shape):
    """Any bit pattern: NaNs, infinities, subnormals and -0 among them."""
    generator = np.random.default_rng(7)
    size = int(np.prod(shape)) * np.dtype(dtype).itemsize
    return generator.integers(0, 256, size, np.uint8).view(dtype).reshape(shape)


@pytest.mark.parametrize("dtype", [*FLOATS, *INTEGERS])
def test_it_is_the_documented_sum_for_every_type(dtype):
    with jax.enable_x64(dtype.endswith("64")):
        array = bits_at_random(jnp.dtype(dtype), (3, 4, 2))
        on_device = jax.device_put(array)
        assert on_device.dtype == array.dtype
        assert fingerprint(on_device) == reference(array)


def test_booleans_scalars_empty_arrays_and_keys_have_one():
    flags = np.array([True, False, True])
    assert fingerprint(jax.device_put(flags)) == reference(flags.astype(np.uint32))
    assert fingerprint(jax.device_put(np.int32(5))) == reference(np.int32([5]))
    assert fingerprint(jax.device_put(np.zeros((0, 3), np.float32))) == 0
    keys = jax.random.split(jax.random.key(1), 3)
    assert fingerprint(keys) == reference(np.asarray(jax.random.key_data(keys)))


@pytest.mark.parametrize("dtype", ["uint8", "bfloat16", "float32"])
def test_every_single_bit_flip_changes_it(dtype):
    array = bits_at_random(jnp.dtype(dtype), (2, 4))
    one = fingerprint(jax.device_put(array))
    raw = np.frombuffer(array.tobytes(), np.uint8)
    for bit in range(raw.size * 8):
        flipped = raw.copy()
        flipped[bit // 8] ^= 1 << (bit % 8)
        changed = flipped.view(array.dtype).reshape(array.shape)
        assert fingerprint(jax.device_put(changed)) != one


def test_it_sees_order_signs_of_zero_and_payloads_of_nan():
    assert fingerprint(jnp.float32([1, 2])) != fingerprint(jnp.float32([2, 1]))
    assert fingerprint(jnp.float32([0.0])) != fingerprint(jnp.float32([-0.0]))
    nans = np.uint32([0x7FC00000, 0x7FC00001]).view(np.float32)
    assert fingerprint(jnp.asarray(nans[:1])) != fingerprint(jnp.asarray(nans[1:]))


def test_one_tree_is_compiled_once():
    leaves = {"a": jnp.ones(5), "b": jnp.ones((2, 7), jnp.int8)}
    fingerprints(leaves)
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(
            "hypersphere.training.checkpoints._fingerprint._fingerprint", None
        )
        fingerprints({"a": jnp.zeros(5), "b": jnp.zeros((2, 7), jnp.int8)})
        with pytest.raises(TypeError, match=r"not callable"):  # a new tree is traced
            fingerprints({"c": jnp.zeros(5)})


def test_finite_names_the_arrays_with_nan_or_infinity():
    leaves = {
        "good": jnp.ones(2, jnp.bfloat16),
        "nan": jnp.array([1.0, jnp.nan]),
        "infinite": jnp.array([-jnp.inf]),
        "whole": jnp.array([1, 2]),
        "key": jax.random.key(0),
    }
    found = finite(leaves)
    assert {name for name in found if not found[name]} == {"nan", "infinite"}
