"""The arrays of a tree by name, as they are written and as they come back."""

from typing import Any

import jax
import jax.numpy as jnp


def flatten(tree: Any) -> dict[str, Any]:
    """The leaves of a tree by their paths.

    Args:
        tree: Any tree.

    Returns:
        The leaves, in their order in the tree.

    Example:
        >>> from hypersphere.training.checkpoints._leaves import flatten
        >>> flatten({"dense": [1, 2]})
        {"['dense'][0]": 1, "['dense'][1]": 2}
    """
    leaves, _ = jax.tree_util.tree_flatten_with_path(tree)
    return {jax.tree_util.keystr(path): leaf for path, leaf in leaves}


def kind(leaf: Any) -> str:
    """The type and shape of an array or `jax.ShapeDtypeStruct`, as `float32[3, 2]`."""
    return f"{leaf.dtype}{list(leaf.shape)}"


def differences(there: dict[str, str], here: dict[str, str]) -> str:
    """The first three names of which the kinds differ, in words; "" if none do.

    Args:
        there: The `kind` of each array of a checkpoint.
        here: The same of a template.

    Example:
        >>> from hypersphere.training.checkpoints._leaves import differences
        >>> differences({"x": "int32[3]"}, {"x": "int32[4]"})
        'x (int32[3] there, int32[4] here)'
    """
    return ", ".join(
        f"{name} ({there.get(name, 'nothing')} there, {here.get(name, 'nothing')} here)"
        for name in sorted(dict(there.items() ^ here.items()))[:3]
    )


def as_there(leaf: jax.ShapeDtypeStruct, there: str, kept: int) -> Any:
    """The template of an array as it was saved, if that differs in padding alone.

    Args:
        leaf: Its template here.
        there: Its `kind` as it was saved.
        kept: How many entries of its last axis are no padding.
    """
    size = there.rpartition(", ")[2].rpartition("[")[2].rstrip("]")
    shape = (*leaf.shape[:-1], int(size)) if size.isdigit() else leaf.shape
    other = jax.ShapeDtypeStruct(shape, leaf.dtype, sharding=leaf.sharding)
    if shape == leaf.shape or kind(other) != there or shape[-1] < kept:
        return leaf
    place: Any = leaf.sharding  # its devices need not divide what was saved
    if isinstance(place, jax.sharding.NamedSharding):
        mesh, axes = place.mesh, []
        if shape[0] % mesh.size == 0:  # else it is whole on each for a moment
            axes = [tuple(mesh.axis_names)]
        place = jax.sharding.NamedSharding(mesh, jax.sharding.PartitionSpec(*axes))
    return jax.ShapeDtypeStruct(shape, leaf.dtype, sharding=place)


def padded(
    name: str, array: jax.Array, template: jax.ShapeDtypeStruct, kept: int
) -> jax.Array:
    """An array with as much padding, zeros, on its last axis as its template.

    Raises:
        ValueError: If what would be cut off is no padding.
    """
    if array.shape == template.shape:
        return array
    if jnp.any(array[..., kept:]):
        raise ValueError(
            f"The checkpoint's {name} has more than {kept} columns that are no "
            "padding: it holds other classes, or more centres of each. Choose another "
            "--workdir."
        )
    size, last = template.shape[-1], array.shape[-1]

    def fit(x: jax.Array) -> jax.Array:
        more = [(0, 0)] * (x.ndim - 1) + [(0, max(size - last, 0))]
        return jnp.pad(x[..., :size], more)

    return jax.jit(fit, out_shardings=template.sharding)(array)


def placed(leaf: Any) -> jax.ShapeDtypeStruct:
    """The template of an array with a sharding: its own, or else the first device.

    Raises:
        ValueError: If the sharding does not divide the shape.
    """
    sharding = getattr(leaf, "sharding", None)
    if sharding is None:
        sharding = jax.sharding.SingleDeviceSharding(jax.local_devices()[0])
    sharding.shard_shape(leaf.shape)
    return jax.ShapeDtypeStruct(leaf.shape, leaf.dtype, sharding=sharding)


def written(leaf: Any) -> Any:
    """What is written of an array: of random keys, which Orbax 0.11 cannot read, bits.

    Args:
        leaf: An array, or a `jax.ShapeDtypeStruct` with a sharding.

    Returns:
        An array or template of the same sharding.
    """
    if not _is_key(leaf):
        return leaf
    if not isinstance(leaf, jax.ShapeDtypeStruct):
        return jax.random.key_data(leaf)
    bits = jax.eval_shape(jax.random.key_data, leaf)
    return jax.ShapeDtypeStruct(bits.shape, bits.dtype, sharding=leaf.sharding)


def read(array: jax.Array, template: jax.ShapeDtypeStruct) -> jax.Array:
    """Undoes `written`: what was read, as the type of its template."""
    if not _is_key(template):
        return array
    generators: list[Any] = []  # JAX tells the name for an array of keys only
    jax.eval_shape(lambda key: generators.append(jax.random.key_impl(key)), template)
    return jax.random.wrap_key_data(array, impl=generators[0])


def _is_key(leaf: Any) -> bool:
    return jnp.issubdtype(leaf.dtype, jax.dtypes.prng_key)
