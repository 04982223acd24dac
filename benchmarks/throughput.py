"""Examples/s and FLOP utilization of spherical networks and their plain twins, as JSON.

python benchmarks/throughput.py                   # what a GPU is asked, some minutes
python benchmarks/throughput.py --smoke           # the same code on a CPU, tiny

Each network is trained by the training program itself, on images from a seed that lie
on the device. `idle` is the share of the loop's time in which the device has nothing to
do: one minus the time of the bare compiled call over the time of the loop.
"""

import argparse
import dataclasses
import json
import statistics
from typing import Any

import jax
from _measure import setting
from trainer import NEVER, bare, looped, quiet

from hypersphere import training
from hypersphere._peaks import peak_flops
from hypersphere.training.run import _setup


@dataclasses.dataclass(frozen=True)
class Workload:
    """A network with its images."""

    name: str
    size: int
    batch: int
    width: float
    dtype: str
    steps: int
    network: str = "spherenet"
    depth: int = 9


WORKLOADS = [
    Workload("SphereNet-9", 32, 128, 1.0, "bfloat16", 300),
    Workload("SphereNet-9", 32, 1024, 1.0, "bfloat16", 100),
    Workload("SphereNet-9", 32, 128, 1.0, "float32", 300),
    Workload("SphereNet-9, half width", 224, 128, 0.5, "bfloat16", 60),
    Workload("wide ResNet-32", 32, 128, 6.0, "bfloat16", 100, "resnet", 32),
    Workload("ResNet-18", 224, 128, 1.0, "bfloat16", 60, "resnet", 18),
    Workload("ResNet-50", 224, 128, 1.0, "bfloat16", 60, "resnet", 50),
]
SMOKE = [
    Workload("SphereNet-9", 16, 8, 1 / 32, "float32", 12),
    Workload("ResNet-20", 16, 8, 1 / 4, "float32", 12, "resnet", 20),
]


def config_of(work: Workload, similarity: str) -> training.TrainConfig:
    """The run of one row."""
    config = training.TrainConfig(steps=work.steps, batch_size=work.batch)
    config.log_every = 50 if work.steps >= 100 else 10
    config.eval_every = config.checkpoint_every = NEVER
    shape = f"{work.size}x{work.size}x3"
    examples = max(work.batch, 1024)
    config.data.source = f"synthetic:{shape},classes=10,examples={examples}"
    config.data.flip, config.data.pad = True, 4
    config.model.name, config.model.depth = work.network, work.depth
    config.model.width, config.model.dtype = work.width, work.dtype
    config.model.similarity = similarity
    config.optim.name, config.optim.learning_rate = "sgd", 0.1
    return config


def row(work: Workload, similarity: str, rounds: int) -> dict[str, Any]:
    """Times of one network, medians over rounds."""
    config = config_of(work, similarity)
    setup = _setup.prepare(config, quiet)
    flops = setup.program.flops(setup.program.template, *setup.feed.take(0, 1))
    bare(dataclasses.replace(config, steps=3))
    steps = [bare(config) for _ in range(rounds)]
    loops = [looped(config) for _ in range(rounds)]
    step, loop = statistics.median(steps), statistics.median(loops)
    peak = peak_flops(jax.devices()[0].device_kind) * jax.device_count()
    return {
        **dataclasses.asdict(work),
        "similarity": similarity,
        "step_ms": round(1e3 * step, 3),
        "loop_ms": round(1e3 * loop, 3),
        "idle": round(max(0.0, 1 - step / loop), 4),
        "examples_per_second": round(work.batch / loop, 1),
        "gflop_per_step": round(flops / 1e9, 2),
        "flop_utilization": round(flops / loop / peak, 4) if peak else None,
    }


def main() -> None:
    """Prints one row per network and similarity, the plain twin first."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--smoke", action="store_true")
    parser.add_argument("--rounds", type=int, default=5)
    parser.add_argument(
        "--similarities", nargs="*", default=["none", "cosine", "linear"]
    )
    options = parser.parse_args()
    rows = []
    for work in SMOKE if options.smoke else WORKLOADS:
        rows += [row(work, name, options.rounds) for name in options.similarities]
        plain = rows[-len(options.similarities)]["step_ms"]
        for each in rows[-len(options.similarities) :]:
            each["ratio_to_first"] = round(each["step_ms"] / plain, 3)
    print(json.dumps({**setting(**vars(options)), "rows": rows}, indent=2))


if __name__ == "__main__":
    main()
