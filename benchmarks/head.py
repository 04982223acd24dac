"""What a head and its loss cost for many classes, at each level, as JSON.

python benchmarks/head.py                            # 10^4 to 10^6 classes, here
python benchmarks/head.py --devices=8                # over simulated devices
python benchmarks/head.py --target=tpu:v5e:8x8 --classes 10000000   # compiled only

A step is the loss (`arcface`), its gradients to features and centres, and SGD with
momentum on the centres, in place. Times are medians of steps that take turns; memory
and collectives are the compiler's, per device.
"""

import argparse
import json
import statistics
import sys
import time
from typing import Any

import jax
import jax.numpy as jnp
import numpy as np
import optax
from _measure import setting
from jax.sharding import Mesh, NamedSharding, PartitionSpec as P

from hypersphere import aot, losses, ops, optim

LEVELS = ("full", "chunked", "sampled")


def parsed() -> argparse.Namespace:
    """The flags."""
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument("--classes", nargs="+", type=int, default=[10**4, 10**5, 10**6])
    parser.add_argument("--levels", nargs="+", default=list(LEVELS), choices=LEVELS)
    parser.add_argument("--features", type=int, default=128)
    parser.add_argument("--batch", type=int, default=512)
    parser.add_argument("--chunk", type=int, default=2048)
    parser.add_argument("--share", type=float, default=0.1)
    parser.add_argument("--devices", type=int, default=1, help="simulated ones")
    parser.add_argument("--target", default="", help="such as tpu:v5e:8x8")
    parser.add_argument("--rounds", type=int, default=5)
    return parser.parse_args()


OPTIMIZER = optax.sgd(0.1, momentum=0.9)


def make_step(level: str, classes: int, shards: int, options: Any) -> Any:
    """(kernel, memory of the optimizer, features, labels, key) -> what comes of it."""
    chunk = options.chunk if level == "chunked" else 0

    def loss(kernel: Any, features: Any, labels: Any) -> Any:
        cos, _ = ops.angular_head(
            features,
            kernel,
            num_classes=None if level == "sampled" else classes,
            shards=shards,
            chunk=chunk,
        )
        return jnp.mean(losses.arcface(cos, labels))

    def step(kernel: Any, memory: Any, features: Any, labels: Any, key: Any) -> Any:
        columns = None
        some, its = kernel, memory
        if level == "sampled":
            chosen, labels = ops.sample_classes(
                key, labels, classes, share=options.share, shards=shards
            )
            columns = optim.Columns(index=chosen, shards=shards)
            its, some = optim.take_columns(OPTIMIZER, memory, kernel, columns)
        value, slopes = jax.value_and_grad(loss, (0, 1))(some, features, labels)
        updates, its = OPTIMIZER.update(slopes[0], its, some)
        some = optax.apply_updates(some, updates)
        if columns is not None:
            its, some = optim.put_columns(OPTIMIZER, memory, kernel, its, some, columns)
        return some, its, value, slopes[1]

    return step


def program(level: str, classes: int, devices: list[Any], options: Any) -> Any:
    """The step for some devices, traced, and the places of its arguments."""
    shards = len(devices)
    mesh = Mesh(np.array(devices), ("model",))
    whole, parts = NamedSharding(mesh, P()), NamedSharding(mesh, P(None, "model"))
    columns = -(-classes // shards) * shards
    kernel = jax.ShapeDtypeStruct(
        (options.features, columns), jnp.float32, sharding=parts
    )
    memory = jax.tree.map(
        lambda x: jax.ShapeDtypeStruct(x.shape, x.dtype, sharding=parts),
        jax.eval_shape(OPTIMIZER.init, kernel),
    )
    features = jax.ShapeDtypeStruct(
        (options.batch, options.features), jnp.float32, sharding=whole
    )
    labels = jax.ShapeDtypeStruct((options.batch,), jnp.int32, sharding=whole)
    key = jax.ShapeDtypeStruct((), jax.eval_shape(jax.random.key, 0).dtype)
    step = jax.jit(
        make_step(level, classes, shards, options),
        donate_argnums=(0, 1),
        out_shardings=(parts, jax.tree.map(lambda x: x.sharding, memory), whole, whole),
    )
    return step.lower(kernel, memory, features, labels, key), (kernel, memory)


def row(level: str, classes: int, devices: list[Any], options: Any) -> Any:
    """What one level takes, and its compiled step."""
    target = aot.parse_target(options.target) if options.target else None
    traced, (kernel, memory) = program(level, classes, devices, options)
    found: dict[str, Any] = {"level": level, "classes": classes}
    found["devices"] = len(devices)
    start = time.perf_counter()
    try:
        compiled = target.compile(traced) if target else traced.compile()
    except aot.DoesNotFitError as error:
        return found | {"does_not_fit": str(error)}, None
    found["compile_seconds"] = round(time.perf_counter() - start, 1)
    held: Any = compiled.memory_analysis()
    found["temporary_mb"] = round(held.temp_size_in_bytes / 1e6, 1)
    found["argument_mb"] = round(held.argument_size_in_bytes / 1e6, 1)
    cost = aot.cost(compiled)
    found["collectives"] = {
        name: each._asdict() for name, each in cost.collectives.items()
    }
    if cost.cycles:
        found["million_cycles"] = round(cost.cycles / 1e6, 2)
    return found, (compiled, kernel, memory)


def times(
    programs: dict[str, Any], classes: int, options: Any
) -> dict[str, list[float]]:
    """Seconds of steps that take turns; each level has its own class centres."""
    rng = np.random.default_rng(0)
    found: dict[str, list[float]] = {level: [] for level in programs}
    for turn in range(options.rounds + 1):
        for level, (compiled, kernel, memory) in programs.items():
            draw = jax.jit(
                lambda key, shape=kernel.shape: jax.random.normal(key, shape),
                out_shardings=kernel.sharding,
            )
            state = (
                draw(jax.random.key(0)),
                jax.tree.map(
                    lambda x: jnp.zeros(x.shape, x.dtype, device=x.sharding), memory
                ),
            )
            features = rng.normal(size=(options.batch, options.features))
            labels = rng.integers(0, classes, options.batch)
            rest = jax.device_put(
                (features.astype(np.float32), labels.astype(np.int32)),
                NamedSharding(kernel.sharding.mesh, P()),
            )
            jax.block_until_ready((state, rest))
            start = time.perf_counter()
            jax.block_until_ready(compiled(*state, *rest, jax.random.key(turn)))
            found[level].append(time.perf_counter() - start)
            del state
    return {level: each[1:] for level, each in found.items()}


def main() -> None:
    """Prints one row per level and number of classes."""
    options = parsed()
    if not options.target:
        jax.config.update("jax_num_cpu_devices", options.devices)
    target = aot.parse_target(options.target) if options.target else None
    devices = target.devices() if target else jax.devices()[: options.devices]
    rows = []
    for classes in options.classes:
        programs = {}
        for level in options.levels:
            found, compiled = row(level, classes, devices, options)
            rows.append(found)
            if compiled and not target:
                programs[level] = compiled
            sys.stderr.write(f"{classes:,} classes, {level}: compiled\n")
        timed = times(programs, classes, options)
        for found in rows[-len(options.levels) :]:
            if found["level"] in timed:
                own = timed[found["level"]]
                found["milliseconds"] = round(1e3 * statistics.median(own), 1)
                if "full" in timed:
                    pairs = zip(own, timed["full"], strict=True)
                    ratio = statistics.median(mine / full for mine, full in pairs)
                    found["time_ratio"] = round(ratio, 3)
    names = ("batch", "features", "chunk", "share", "rounds", "target")
    print(json.dumps(setting(**{n: getattr(options, n) for n in names}, rows=rows)))


if __name__ == "__main__":
    main()
