"""The devices of a run, and which part of an array lies on which."""

import difflib
import functools
import math
from collections.abc import Callable, Sequence
from typing import Any

import jax
import numpy as np
from jax.sharding import (
    AbstractMesh,
    AxisType,
    Mesh,
    NamedSharding,
    PartitionSpec as P,
)

from hypersphere._select import dotted, matches
from hypersphere.training.settings._config import MeshConfig
from hypersphere.training.settings._rules import AXES, parse_rule

AnyMesh = Mesh | AbstractMesh

BATCH = ("data", "fsdp")  # the axes over which the examples of a batch are divided


def make_mesh(config: MeshConfig, devices: list[Any] | None = None) -> Mesh:
    """The devices as an array with the axes `data`, `fsdp` and `model`."""
    devices = jax.devices() if devices is None else devices
    sizes = [config.data, config.fsdp, config.model]
    known = config.fsdp * config.model
    if config.data == -1 and len(devices) % known == 0:
        sizes[0] = len(devices) // known
    if math.prod(sizes) != len(devices):
        raise ValueError(
            "`config.mesh` needs data x fsdp x model to be the number of devices, "
            f"{len(devices)}, got {' x '.join(map(str, sizes))}. Leave "
            "`config.mesh.data` at -1 and choose `fsdp` and `model` whose product "
            f"divides {len(devices)}."
        )
    # Process by process, so that each has neighbouring rows of a batch.
    in_order = sorted(devices, key=lambda device: (device.process_index, device.id))
    grid = np.array(in_order).reshape(sizes)
    return Mesh(grid, AXES, axis_types=(AxisType.Auto,) * 3)


def check_batch(mesh: AnyMesh, batch_size: int, accumulate: int) -> None:
    """Raises unless every device gets as many examples of every part of a batch."""
    parts = batch_devices(mesh) * accumulate
    if batch_size % parts:
        lower = batch_size // parts * parts
        near = f"{lower} or {lower + parts}" if lower else str(parts)
        raise ValueError(
            f"`config.batch_size` needs to be a multiple of {parts}, the "
            f"{batch_devices(mesh)} devices over which a batch is divided times "
            f"`config.accumulate={accumulate}`, got {batch_size}. Use {near}."
        )


def platform(mesh: Mesh) -> str:
    """What the devices are: "cpu", "gpu" or "tpu"; they need not be here."""
    return mesh.devices.flat[0].platform


def batch_devices(mesh: AnyMesh) -> int:
    """Over how many devices a batch is divided."""
    return mesh.shape["data"] * mesh.shape["fsdp"]


def replicated(mesh: Mesh) -> NamedSharding:
    """All of an array on every device."""
    return NamedSharding(mesh, P())


def divided(mesh: Mesh) -> NamedSharding:
    """The examples of a batch, its first axis, over the devices."""
    return NamedSharding(mesh, P(BATCH))


def known_to(mesh: AnyMesh, function: Callable[..., Any]) -> Callable[..., Any]:
    """The function, traced where layers can ask how many devices there are."""

    @functools.wraps(function)
    def run(*args: Any, **kwargs: Any) -> Any:
        with jax.sharding.use_abstract_mesh(mesh.abstract_mesh):
            return function(*args, **kwargs)

    return run


def local_rows(mesh: Mesh, batch_size: int) -> tuple[int, int]:
    """This process's share of a batch: which one, of how many equal ones."""
    places = divided(mesh).addressable_devices_indices_map((batch_size,))
    slices = (index[0] for index in places.values() if index)
    rows = {part.indices(batch_size)[:2] for part in slices}
    first, last = min(rows)[0], max(rows)[1]
    size = last - first
    if sum(end - start for start, end in rows) != size or first % size:
        raise ValueError(
            "`config.mesh` needs every process to have neighbouring rows of a batch, "
            f"got the rows {sorted(rows)} for process {jax.process_index()}. Choose "
            "`fsdp` and `model` that divide the devices of one process."
        )
    return first // size, batch_size // size


def to_batch(mesh: Mesh, local: np.ndarray, batch_size: int) -> jax.Array:
    """A batch over all devices, from the rows that this process has of it."""
    shape = (batch_size, *local.shape[1:])
    return jax.make_array_from_process_local_data(divided(mesh), local, shape)


def everywhere(mesh: Mesh, tree: Any) -> Any:
    """Arrays that every process has, on every device."""
    place = replicated(mesh)
    return jax.tree.map(
        lambda x: jax.make_array_from_callback(x.shape, place, lambda index: x[index]),
        tree,
    )


def spec_of(
    path: tuple[Any, ...], shape: tuple[int, ...], mesh: AnyMesh, rules: tuple[str, ...]
) -> P:
    """How a parameter is divided: by the first rule that fits its path."""
    fitting = (rule for rule in map(parse_rule, rules) if matches(rule[0], path))
    pattern, axes = next(fitting, ("", ()))
    if not axes:
        return P()
    if axes == ("auto",):
        return _largest(shape, mesh)
    if len(axes) != len(shape):
        raise ValueError(
            f"`config.mesh.rules` has {len(axes)} axes for {pattern!r}, and "
            f"{dotted(path)} has {len(shape)} dimensions, {shape}. Write one axis, or "
            "`-`, for each."
        )
    for size, axis in zip(shape, axes, strict=True):
        if axis != "-" and size % mesh.shape[axis]:
            raise ValueError(
                f"`config.mesh.rules` divides {dotted(path)} of shape {shape} over "
                f"{axis}={mesh.shape[axis]}, which does not divide {size}. Choose "
                f"another `config.mesh.{axis}`, or a rule for {dotted(path)!r}."
            )
    return P(*(None if axis == "-" else axis for axis in axes))


def _largest(shape: tuple[int, ...], mesh: AnyMesh) -> P:
    """The largest dimension over `fsdp`; vectors and what cannot be divided stay."""
    whole = [
        i
        for i in range(len(shape))
        if len(shape) > 1 and not shape[i] % mesh.shape["fsdp"]
    ]
    if not whole or mesh.shape["fsdp"] == 1:
        return P()
    chosen = max(whole, key=lambda i: shape[i])
    return P(*("fsdp" if i == chosen else None for i in range(len(shape))))


def shardings_in_use(params: Any, mesh: Mesh, rules: tuple[str, ...]) -> Any:
    """How parameters lie while they are used: whole, but for the axis `model`."""

    def place(keys: Any, leaf: Any) -> NamedSharding:
        spec = spec_of(names(keys), leaf.shape, mesh, rules)
        return NamedSharding(mesh, P(*(None if x == "fsdp" else x for x in spec)))

    return jax.tree_util.tree_map_with_path(place, params)


def state_shardings(state: Any, mesh: Mesh, rules: tuple[str, ...]) -> Any:
    """A sharding per array; what mirrors the parameters is divided as they are.

    Args:
        state: The shapes of a state that has the field `params`.
        mesh: The devices.
        rules: `PATTERN: AXES` for the parameters.

    Returns:
        The same tree, of shardings.
    """
    flat, _ = jax.tree_util.tree_flatten_with_path(state.params)
    idle = MeshConfig().rules if mesh.shape["model"] == 1 else ()
    _check_rules(
        [rule for rule in rules if rule not in idle], [names(keys) for keys, _ in flat]
    )
    specs = {
        (keys, leaf.shape): spec_of(names(keys), leaf.shape, mesh, rules)
        for keys, leaf in flat
    }

    def place(keys: Any, leaf: Any) -> NamedSharding:
        endings = ((keys[i:], leaf.shape) for i in range(len(keys)))
        spec = next((specs[end] for end in endings if end in specs), P())
        return NamedSharding(mesh, spec)

    return jax.tree_util.tree_map_with_path(place, state)


def _check_rules(rules: Sequence[str], paths: list[tuple[Any, ...]]) -> None:
    for pattern, _ in map(parse_rule, rules):
        if not any(matches(pattern, path) for path in paths):
            written = [dotted(path) for path in paths]
            nearest = difflib.get_close_matches(pattern, written, n=3, cutoff=0.0)
            raise ValueError(
                "`config.mesh.rules` needs patterns that fit a parameter, got "
                f"{pattern!r}. The nearest parameters are {', '.join(nearest)}."
            )


def names(keys: tuple[Any, ...]) -> tuple[Any, ...]:
    """The path of a leaf in nested dictionaries."""
    return tuple(key.key for key in keys)
