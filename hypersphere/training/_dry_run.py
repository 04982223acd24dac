"""What a run would be: its parameters, their places, its memory and its time."""

import contextlib
import math
import time
from typing import Any

import jax
from rich.table import Table

from hypersphere._peaks import peak_flops
from hypersphere._select import dotted
from hypersphere.training.compute._parts import Images, MakeParts, Parts
from hypersphere.training.machine import _mesh
from hypersphere.training.run._feed import OwnData
from hypersphere.training.run._logging import make_console
from hypersphere.training.run._setup import prepare
from hypersphere.training.settings._check import check
from hypersphere.training.settings._config import TrainConfig

_TRIED = 5  # steps that are timed


def dry_run(
    config: TrainConfig,
    *,
    target: str = "",
    images: str = "",
    parts: Parts | MakeParts | None = None,
    dataset: OwnData | None = None,
) -> dict[str, Any]:
    """Compiles a run, shows what it takes, and writes nothing.

    Args:
        config: What would be trained.
        target: Devices to compile for that are not here, such as "tpu:v5e:4x4": then
            no data are opened and nothing is run. Needs the extra `aot`.
        images: With a target, what the training images are where that is not known:
            "HxWxC,classes=K,examples=N".
        parts: As `train` takes them.
        dataset: The same; with a target it is not opened.

    Returns:
        Of a target what its compiler tells and what is estimated from that:
        `memory_bytes` and `memory_available` of a device, `flops` of a step and device,
        `collectives` by kind (count, bytes), `compute_seconds` and
        `communication_seconds`. Otherwise
        what is shown: `parameters`, `state_bytes` and `temporary_bytes` of a device,
        `flops` of a step, `compile_seconds`, `step_seconds` (median of some steps) and
        `training_seconds`, the steps of the whole run at that pace, without
        evaluations.

    Raises:
        ValueError: If the config is wrong, its data are broken, or a target is not
            known or has not the memory.
        FileNotFoundError: If the data are not there.
        ModuleNotFoundError: If the target's compiler is not installed.

    Example:
        >>> from hypersphere import training
        >>> config = training.TrainConfig(steps=100)
        >>> training.dry_run(config)["parameters"]  # doctest: +SKIP
        3437440
    """
    config = check(config, own_model=parts is not None, own_data=dataset is not None)
    if target:
        from hypersphere.training._plan import plan, summary

        if dataset is not None and not images:
            raise ValueError(
                "`--target` opens no data, and this config file has a `get_dataset`. "
                "Give `--images=HxWxC,classes=K,examples=N`."
            )
        found = plan(
            config, target, images, parts
        )  # before JAX starts, on what is not here
        console = make_console()
        console.print(_parameters(found.pop("template")))
        console.print(summary(config, found))
        return found
    console = make_console()
    setup = prepare(config, console.print, parts=parts, dataset=dataset)
    config, program = setup.config, setup.program
    with contextlib.closing(setup.feed) as feed:
        pool, order = feed.take(0, 1)
        start = time.perf_counter()
        compiled = program.train.lower(program.template, pool, order).compile()
        compile_seconds = time.perf_counter() - start
        state, seconds = program.init(), []
        for step in range(_TRIED + 1):
            batches = feed.take(step + 1, 1)  # in order: going back opens a stream anew
            start = time.perf_counter()
            state, metrics = compiled(state, *batches)
            jax.block_until_ready((state, metrics))
            seconds.append(time.perf_counter() - start)
        median = sorted(seconds[1:])[_TRIED // 2]
        flops = program.flops(program.template, pool, order)
    memory = compiled.memory_analysis()
    facts = {
        "parameters": sum(x.size for x in jax.tree.leaves(program.template.params)),
        "state_bytes": _bytes_per_device(program.template),
        "temporary_bytes": memory.temp_size_in_bytes if memory else 0,
        "flops": flops,
        "compile_seconds": round(compile_seconds, 2),
        "step_seconds": median,
        "training_seconds": median * config.steps,
    }
    console.print(_parameters(program.template.params))
    console.print(_summary(config, setup.feed.images, program.task.mesh, facts))
    return facts


def _bytes_per_device(template: Any) -> int:
    return sum(
        leaf.dtype.itemsize * math.prod(leaf.sharding.shard_shape(leaf.shape))
        for leaf in jax.tree.leaves(template)
    )


def _parameters(params: Any) -> Table:
    table = Table("parameter", "shape", "dtype", "divided over", title="Parameters")
    for keys, leaf in jax.tree_util.tree_flatten_with_path(params)[0]:
        spec = ", ".join(
            "-" if axis is None else str(axis) for axis in leaf.sharding.spec
        )
        shape = " x ".join(map(str, leaf.shape))
        path = dotted(_mesh.names(keys))
        table.add_row(path, shape, str(leaf.dtype), spec or "nothing")
    return table


def _summary(
    config: TrainConfig, images: Images, mesh: Any, found: dict[str, Any]
) -> Table:
    kind = jax.devices()[0].device_kind
    table = Table(show_header=False, title="The run", title_justify="left")
    rows = {
        "data": f"{images.name}: {images.train:,} + {images.test:,} images of "
        + " x ".join(map(str, images.image_shape))
        + f", {images.num_classes:,} classes",
        "devices": f"{jax.device_count()} x {kind} as "
        + " x ".join(f"{axis}={size}" for axis, size in mesh.shape.items()),
        "batch": f"{config.batch_size} in {config.accumulate} parts, "
        f"{config.batch_size // _mesh.batch_devices(mesh)} a device",
        "steps": f"{config.steps:,}, "
        f"{config.steps * config.batch_size / images.train:.1f} epochs",
        "parameters": f"{found['parameters']:,}",
        "state": f"{found['state_bytes'] / 2**20:.1f} MiB a device",
        "temporary": f"{found['temporary_bytes'] / 2**20:.1f} MiB a device",
        "operations": f"{found['flops'] / 1e9:,.1f} GFLOP a step",
        "compilation": f"{found['compile_seconds']:.1f} s",
        "step": f"{1e3 * found['step_seconds']:.1f} ms, "
        f"{config.batch_size / found['step_seconds']:,.0f} examples/s",
        "training": f"about {_duration(found['training_seconds'])}, evaluations apart",
    }
    if peak := peak_flops(kind) * jax.device_count():
        share = found["flops"] / found["step_seconds"] / peak
        rows["utilization"] = f"{share:.1%} of the devices' bfloat16 operations"
    for name, value in rows.items():
        table.add_row(name, value)
    return table


def _duration(seconds: float) -> str:
    hours, rest = divmod(int(seconds), 3600)
    minutes, left = divmod(rest, 60)
    return f"{hours} h {minutes} min" if hours else f"{minutes} min {left} s"
