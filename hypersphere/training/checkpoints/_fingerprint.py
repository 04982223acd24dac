"""Fingerprints of arrays: whether any bit has changed, found out on the device."""

from collections.abc import Callable, Hashable

import jax
import jax.numpy as jnp
from jaxtyping import Array, Bool, UInt32

_GOLDEN = 0x9E3779B9  # odd, so that multiples of it differ for 2**32 indices


def fingerprints(leaves: dict[str, Array]) -> dict[str, UInt32[Array, ""]]:
    """The fingerprint of each array: a 32-bit sum that depends on all of its bits.

    Each element is read as one 32-bit word (two, if it has 64 bits; its bits padded by
    zeros, if it has fewer). With `w[i]` the i-th word in row-major order, the
    fingerprint is `sum(mix(w[i] + 0x9E3779B9 * i))` modulo `2**32`.

    A change within one word is always noticed: for a given `i`, adding a constant and
    `mix` are bijections of the 32-bit words, so that exactly one term of the sum takes
    another value; and two sums modulo `2**32` that differ in one term differ. Changes
    in several words go unnoticed with a chance of about `2**-32`.

    The terms may be added in any order, so that the result is the same for every way of
    sharding an array over devices and processes; nothing but the sums is communicated.
    The values are compared as bits: NaNs with other payloads differ, and so do 0 and
    -0. It is no protection against somebody who forges a file.

    Args:
        leaves: Arrays of any shape and of booleans, integers or floats of 8 to 64 bits,
            or typed random keys. Of several processes, each calls this with the same
            global arrays.

    Returns:
        For each name a scalar, the same on all devices. It is computed asynchronously;
        the arrays may be donated to another computation at once.

    Example:
        >>> import jax.numpy as jnp
        >>> from hypersphere.training.checkpoints._fingerprint import fingerprints
        >>> one, other = jnp.array([0.0, 1.0]), jnp.array([-0.0, 1.0])
        >>> found = fingerprints({"one": one, "same": one + 0, "other": other})
        >>> bool(found["one"] == found["same"]), bool(found["one"] == found["other"])
        (True, False)
    """
    return _for_each_set_of_devices(_fingerprints, leaves)


def finite(leaves: dict[str, Array]) -> dict[str, Bool[Array, ""]]:
    """Whether each array is free of NaN and infinity; others than floats are.

    Args:
        leaves: Arrays of any shape and type.

    Returns:
        For each name a scalar, the same on all devices, computed asynchronously.

    Example:
        >>> import jax.numpy as jnp
        >>> from hypersphere.training.checkpoints._fingerprint import finite
        >>> bool(finite({"loss": jnp.array([1.0, jnp.nan])})["loss"])
        False
    """
    return _for_each_set_of_devices(_finite, leaves)


def _for_each_set_of_devices(
    function: Callable[[dict[str, Array]], dict[str, Array]], leaves: dict[str, Array]
) -> dict[str, Array]:
    """One call for most trees, as a compiled function takes arrays of one mesh only."""
    groups: dict[Hashable, dict[str, Array]] = {}
    for name, leaf in leaves.items():
        groups.setdefault(frozenset(leaf.devices()), {})[name] = leaf
    found = [function(group) for group in groups.values()]
    return {name: scalar for group in found for name, scalar in group.items()}


@jax.jit
def _fingerprints(leaves: dict[str, Array]) -> dict[str, UInt32[Array, ""]]:
    return {name: _fingerprint(leaf) for name, leaf in leaves.items()}


@jax.jit
def _finite(leaves: dict[str, Array]) -> dict[str, Bool[Array, ""]]:
    return {
        name: jnp.isfinite(leaf).all()
        if jnp.issubdtype(leaf.dtype, jnp.inexact)
        else jnp.array(True)
        for name, leaf in leaves.items()
    }


@jax.jit  # traced once for all arrays of a shape
def _fingerprint(leaf: Array) -> UInt32[Array, ""]:
    """The sum of mixed words. A reshape to count them would gather a sharded array."""
    words = _words(leaf)
    index = jnp.zeros_like(words)
    for axis, size in enumerate(words.shape):
        index = index * jnp.uint32(size) + jax.lax.broadcasted_iota(
            jnp.uint32, words.shape, axis
        )
    return jnp.sum(_mix(words + jnp.uint32(_GOLDEN) * index), dtype=jnp.uint32)


def _words(leaf: Array) -> UInt32[Array, "..."]:
    if jnp.issubdtype(leaf.dtype, jax.dtypes.prng_key):
        return jax.random.key_data(leaf).astype(jnp.uint32)
    if leaf.dtype == jnp.bool_:
        return leaf.astype(jnp.uint32)
    unsigned = {1: jnp.uint8, 2: jnp.uint16}.get(leaf.dtype.itemsize, jnp.uint32)
    return jax.lax.bitcast_convert_type(leaf, unsigned).astype(jnp.uint32)


def _mix(word: UInt32[Array, "..."]) -> UInt32[Array, "..."]:
    """A bijection under which every bit of a word has an effect on every other.

    Xor with an own right shift and products with odd numbers can all be undone.
    """
    word = (word ^ (word >> 16)) * jnp.uint32(0x85EBCA6B)
    word = (word ^ (word >> 13)) * jnp.uint32(0xC2B2AE35)
    return word ^ (word >> 16)
