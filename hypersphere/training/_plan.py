"""What a step of a run would be on devices that are not here."""

import time
from typing import Any

import jax
from rich.table import Table

from hypersphere import aot, data
from hypersphere.training.compute._parts import Images, MakeParts, Parts, made
from hypersphere.training.machine import _mesh
from hypersphere.training.run._setup import make_program
from hypersphere.training.settings._config import MeshConfig, TrainConfig
from hypersphere.training.settings._durations import resolve

# Height and width as published (0: as `config.data.image_size` says), channels,
# classes, and examples to train on.
KNOWN = {
    "mnist5k": ((28, 28, 1), 10, 4_000),
    "tfds:mnist": ((28, 28, 1), 10, 60_000),
    "tfds:fashion_mnist": ((28, 28, 1), 10, 60_000),
    "tfds:cifar10": ((32, 32, 3), 10, 50_000),
    "tfds:cifar100": ((32, 32, 3), 100, 50_000),
    "tfds:imagenet2012": ((0, 0, 3), 1_000, 1_281_167),
}


def plan(
    config: TrainConfig,
    target: str,
    images: str,
    parts: Parts | MakeParts | None = None,
) -> dict[str, Any]:
    """Compiles the training step of a config for other devices; runs nothing.

    Args:
        config: What would be trained.
        target: The devices, as `aot.parse_target` reads them.
        images: The training images as `HxWxC,classes=K,examples=N`; empty for those
            that are known of the config's source.
        parts: As `train` takes them.

    Returns:
        `images` that are trained on, `target`, `mesh`, the `template` of the parameters
        and their number `parameters`, `memory_bytes` and `memory_available` of a
        device, `flops` of a device, `collectives`, `compile_seconds`, and the estimates
        `compute_seconds` and `communication_seconds` of a step.

    Raises:
        ValueError: If the target, the mesh or the images are wrong or not known, or a
            device has not the memory.
        ModuleNotFoundError: If the compiler is not installed.
    """
    machine = aot.parse_target(target)
    known = _images(config, images)
    mesh = _mesh.make_mesh(config.mesh, machine.devices())
    _mesh.check_batch(mesh, config.batch_size, config.accumulate)
    config = resolve(config, known.train)
    own = made(parts, config, known)
    program = make_program(config, mesh, known, own)
    lowered = program.train.lower(program.template, *_batches(config, mesh, known))
    start = time.perf_counter()
    try:
        cost = aot.cost(machine.compile(lowered))
        if cost.memory > machine.chip.memory:  # of which a GPU's compiler says nothing
            raise aot.DoesNotFitError(cost.memory, machine.chip.memory)
    except aot.DoesNotFitError as error:
        raise ValueError(f"On {machine} the run {error}; {_advice(config)}.") from error
    seconds = time.perf_counter() - start
    flops = _flops(config, known, cost, machine, own)
    return {
        "images": known,
        "target": str(machine),
        "mesh": dict(mesh.shape),
        "parameters": sum(x.size for x in jax.tree.leaves(program.template.params)),
        "template": program.template.params,
        "memory_bytes": cost.memory,
        "memory_available": int(machine.chip.memory),
        "flops": flops,
        "collectives": {k: tuple(v) for k, v in cost.collectives.items()},
        "compile_seconds": round(seconds, 1),
        "compute_seconds": _compute_seconds(cost, flops, machine),
        "communication_seconds": _communication_seconds(cost, machine),
    }


def _images(config: TrainConfig, images: str) -> Images:
    source, side = config.data.source, config.data.image_size
    is_made = source.startswith("synthetic:")
    if images or is_made:
        spec = images or source.removeprefix("synthetic:")
        shape, classes, train = data.parse_spec(spec, images or source)
    elif source in KNOWN:
        shape, classes, train = KNOWN[source]
    else:
        raise ValueError(
            f"`--target` opens no data and does not know the images of {source!r}. "
            "Give `--images=HxWxC,classes=K,examples=N`, such as "
            "`--images=224x224x3,classes=1000,examples=1281167`."
        )
    if side:
        shape = (side, side, shape[2])
    if not all(shape):
        raise ValueError(
            f"`--target` needs the size of the images of {source!r}: set "
            "`config.data.image_size`, or give `--images=HxWxC,classes=K,examples=N`."
        )
    return Images(source, shape, classes, train)


def _batches(config: TrainConfig, mesh: Any, images: Images) -> tuple[Any, Any]:
    """The shapes and places of a pool and of what is taken of it."""
    is_stream = config.data.stream
    place = _mesh.divided(mesh) if is_stream else _mesh.replicated(mesh)
    count = config.batch_size if is_stream else images.train
    pool = tuple(
        jax.ShapeDtypeStruct((count, *shape), dtype, sharding=place)
        for shape, dtype in ((images.image_shape, "uint8"), ((), "int32"))
    )
    order = jax.ShapeDtypeStruct((1, config.batch_size), "int32")
    return pool, None if is_stream else order


def _advice(config: TrainConfig) -> str:
    known = [] if config.model.remat else ["`config.model.remat=True`"]
    if config.mesh.fsdp == 1:
        known.append("`config.mesh.fsdp=4`")
    if config.model.dtype != "bfloat16":
        known.append("`config.model.dtype=bfloat16`")
    more = f", or set {' or '.join(known)}" if known else ""
    return f"halve `config.batch_size={config.batch_size}`{more}"


def _flops(
    config: TrainConfig,
    images: Images,
    cost: aot.Cost,
    machine: aot.Target,
    own: Parts | None = None,
) -> float:
    """Operations of one step of one device, as XLA counts them."""
    if cost.flops:
        return float(config.accumulate * cost.flops)
    # A GPU's compiler does not count; the same step is traced for this machine.
    mesh = _mesh.make_mesh(MeshConfig(), jax.local_devices()[:1])
    local = make_program(config, mesh, images, own)
    return local.flops(local.template, *_batches(config, mesh, images)) / machine.count


def _compute_seconds(cost: Any, flops: float, machine: aot.Target) -> float:
    """An estimate: operations and memory each at the chip's full speed.

    Of a TPU the slower of the two, which overlap there; of a GPU the sum of its
    convolutions and of what the others move.
    """
    computing = flops / machine.peak
    if machine.platform == "gpu":
        return computing + cost.bytes_outside / machine.chip.bandwidth
    return max(computing, cost.bytes_accessed / machine.chip.bandwidth)


def _communication_seconds(cost: Any, machine: aot.Target) -> float:
    """An estimate: every collective as a ring, one after the other."""
    others = (machine.count - 1) / machine.count
    factors = {"all-reduce": 2 * others, "reduce-scatter": machine.count - 1}
    moved = sum(
        found.bytes * factors.get(kind, others)
        for kind, found in cost.collectives.items()
    )
    return moved / machine.chip.link


def summary(config: TrainConfig, found: dict[str, Any]) -> Table:
    """What `plan` has found, to be shown."""
    table = Table(show_header=False, title="The run, not run", title_justify="left")
    images, count = found["images"], len(found["collectives"])
    compute, talk = found["compute_seconds"], found["communication_seconds"]
    memory, most = found["memory_bytes"] / 2**30, found["memory_available"] / 2**30
    rows = {
        "data": f"{images.name}: {images.train:,} images of "
        + " x ".join(map(str, images.image_shape))
        + f", {images.num_classes:,} classes; not opened",
        "devices": f"{found['target']} as "
        + " x ".join(f"{axis}={size}" for axis, size in found["mesh"].items()),
        "parameters": f"{found['parameters']:,}",
        "memory": f"{memory:.2f} of {most:.2f} GiB a device",
        "operations": f"{found['flops'] / 1e9:,.1f} GFLOP a step and device",
        "compilation": f"{found['compile_seconds']:.1f} s",
        "collectives": "; ".join(
            f"{number} {kind}, {size / 2**20:.1f} MiB"
            for kind, (number, size) in found["collectives"].items()
        )
        if count
        else "none",
        "compute": f"{1e3 * compute:.1f} ms a step, estimated at the chip's full speed",
        "communication": f"{1e3 * talk:.1f} ms a step, estimated, if nothing overlaps",
        "examples": f"at most {config.batch_size / (compute + talk):,.0f} a second, "
        "by these estimates",
    }
    for name, value in rows.items():
        table.add_row(name, value)
    return table
