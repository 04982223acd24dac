"""What a training step costs on a TPU or a GPU that is not here, as JSON.

pip install 'hypersphere-jax[aot]'          # in an environment of its own
python benchmarks/accelerators.py                                # a TPU v5e, minutes
python benchmarks/accelerators.py --target=gpu:h100
python benchmarks/accelerators.py --network=resnet50 --similarities plain cosine
python benchmarks/accelerators.py --top=20 --similarities linear # where the cycles go
python benchmarks/accelerators.py --against=before.json          # what a change brought

The chip's own compiler is asked. Its cycles are its cost model, not a clock; bytes and
memory are those of the program. A GPU's compiler has no such model: all but the
convolutions is bound by memory there, so its bytes are counted, and the time they take
at the chip's bandwidth. Answers are kept by program. Where the chip is here, the steps
are timed as well.
"""

import argparse
import functools
import hashlib
import importlib.metadata
import inspect
import json
import os
import pathlib
import sys
import time
from typing import Any

import flax
import jax
import jax.numpy as jnp
import numpy as np
from _step import SIMILARITIES, make_step
from flax import nnx
from jax.sharding import Mesh, NamedSharding, PartitionSpec as P

from hypersphere import aot, models, nn

CACHE = pathlib.Path(__file__).parents[1] / ".cache" / "aot"
_COMPARED = (
    "cycles",
    "bytes_outside",
    "bytes_accessed",
    "temporary",
    "instructions",
    "compile_seconds",
)


class Layers(nnx.Module):
    """Convolutions with batch normalization and ReLU, and a head on their mean."""

    def __init__(
        self, shapes: Any, similarity: Any, dtype: Any, conv: Any = nn.SphereConv
    ):
        make = functools.partial(conv, similarity=similarity)
        if similarity is None:
            make = nnx.Conv
        rngs = nnx.Rngs(0)
        self.convs = nnx.List(
            make(
                *(inputs, outputs, window),
                feature_group_count=groups,
                use_bias=False,
                dtype=dtype,
                rngs=rngs,
            )
            for inputs, outputs, window, groups in shapes
        )
        self.norms = nnx.List(nnx.BatchNorm(shape[1], rngs=rngs) for shape in shapes)
        self.head = nnx.Linear(shapes[-1][1], 10, rngs=rngs)

    def __call__(self, x: jax.Array) -> jax.Array:
        """Class scores of images."""
        for conv, norm in zip(self.convs, self.norms, strict=True):
            y = conv(x)
            x = jax.nn.relu(norm(y)).astype(y.dtype)
        return self.head(x.mean((1, 2), dtype=jnp.float32))


_THREE = [(3, 128, (3, 3), 1), (128, 128, (3, 3), 1), (128, 128, (3, 3), 1)]
_POINTWISE = [(3, 256, (3, 3), 1), *[(256, 256, (1, 1), 1)] * 4]
_DEPTHWISE = [(3, 256, (3, 3), 1)] + [
    (256, 256, (3, 3), 256),
    (256, 256, (1, 1), 1),
] * 2
# A network of a similarity and a dtype, and the pixels of its images.
NETWORKS: dict[str, tuple[Any, int]] = {
    "spherenet": (lambda **a: models.SphereNet(depth=9, rngs=nnx.Rngs(0), **a), 32),
    "three layers": (functools.partial(Layers, _THREE), 32),
    "pointwise": (functools.partial(Layers, _POINTWISE), 32),
    "depthwise": (functools.partial(Layers, _DEPTHWISE), 32),
}
for _depth in (18, 50):
    NETWORKS[f"resnet{_depth}"] = (
        functools.partial(
            lambda depth, **a: models.ResNet(
                depth=depth, num_classes=1000, image_size=224, rngs=nnx.Rngs(0), **a
            ),
            _depth,
        ),
        224,
    )


def name_layers(model: nnx.Module) -> None:
    """Lets the compiler tell which layer an instruction belongs to."""
    for path, module in nnx.iter_modules(model):
        kinds = type(module).__mro__
        if path and any("__call__" in vars(kind) for kind in kinds):
            module.__class__ = named(type(module), ".".join(map(str, path)))


def named(kind: type, name: str) -> type:
    """A kind of layer whose calls have a name in the compiled program."""

    def call(self: Any, *args: Any, **kwargs: Any) -> Any:
        with jax.named_scope(name):
            return kind.__call__(self, *args, **kwargs)

    return type(kind.__name__, (kind,), {"__call__": call})


def lowered(name: str, options: argparse.Namespace, device: Any) -> Any:
    """The step of one similarity, traced for a device."""
    make, size = NETWORKS[options.network]
    dtype, similarity = jnp.dtype(options.dtype), SIMILARITIES[name]
    model = nnx.eval_shape(lambda: make(similarity=similarity, dtype=dtype))
    if options.top:
        name_layers(model)
    step, state = make_step(model)
    images = jax.ShapeDtypeStruct((options.batch, size, size, 3), jnp.float32)
    labels = jax.ShapeDtypeStruct((options.batch,), jnp.int32)
    arguments = jax.tree.map(
        lambda leaf: jax.ShapeDtypeStruct(leaf.shape, leaf.dtype),
        (*state, images, labels),
    )
    mesh = Mesh(np.array([device]), ("device",))
    one = NamedSharding(mesh, P())

    @functools.wraps(step)
    def known(*arguments: Any) -> Any:
        with jax.sharding.use_abstract_mesh(mesh.abstract_mesh):  # which layers ask
            return step(*arguments)

    jitted = jax.jit(
        known, in_shardings=one, out_shardings=one, donate_argnums=(0, 1, 2)
    )
    return jitted.lower(*arguments), arguments


def versions() -> dict[str, str]:
    """Of everything that decides a figure."""
    wanted = ("libtpu", "jax-cuda12-plugin", "jax-cuda13-plugin", "nvidia-cuda-nvcc")
    installed = {d.name: d.version for d in importlib.metadata.distributions()}
    return {"jax": jax.__version__, "flax": flax.__version__} | {
        name: installed[name] for name in wanted if name in installed
    }


def ask(
    name: str, options: argparse.Namespace, target: aot.Target, device: Any
) -> tuple[dict[str, Any], list[dict[str, Any]]]:
    """The cost of one similarity's step, and its instructions; from the cache if there.

    What fits no device has its memory only.
    """
    program, _ = lowered(name, options, device)
    asked = [program.as_text(debug_info=bool(options.top)), str(target), versions()]
    asked.append(inspect.getsource(sys.modules[aot.cost.__module__]))  # what is counted
    asked.append(
        os.environ.get("XLA_FLAGS", "") + os.environ.get("LIBTPU_INIT_ARGS", "")
    )
    file = CACHE / f"{hashlib.sha256(repr(asked).encode()).hexdigest()[:32]}.json"
    if not file.exists():
        start = time.perf_counter()
        try:
            compiled = target.compile(program)
        except aot.DoesNotFitError as error:
            return {"does_not_fit": str(error), "memory": int(error.needed)}, []
        seconds = round(time.perf_counter() - start, 1)
        cost = {**aot.cost(compiled)._asdict(), "compile_seconds": seconds}
        rows = [i._asdict() for i in aot.instructions(compiled.as_text() or "")]
        CACHE.mkdir(parents=True, exist_ok=True)
        file.write_text(json.dumps([cost, rows if options.top else []]))
    return json.loads(file.read_text())


def row(
    name: str, options: argparse.Namespace, target: aot.Target, device: Any
) -> dict[str, Any]:
    """The cost of one similarity's step."""
    cost, listed = ask(name, options, target, device)
    found: dict[str, Any] = {"name": name, **cost}
    if target.platform == "gpu" and "bytes_outside" in cost:
        milliseconds = 1e3 * cost["bytes_outside"] / target.chip.bandwidth
        found["milliseconds_outside"] = round(milliseconds, 3)
    if options.top:
        by = "cycles" if cost.get("cycles") else "bytes"
        listed.sort(key=lambda one: -(one[by] or 0) * one["times"])
        keys = ("name", "opcode", "origin", "cycles", "bytes", "times")
        found["top"] = [
            {key: one[key] for key in keys} for one in listed[: options.top]
        ]
    return found


def timed(name: str, options: argparse.Namespace, device: Any) -> float:
    """Milliseconds of a step on the chip: the median, after compilation."""
    program, arguments = lowered(name, options, device)
    compiled = program.compile()
    zeros = lambda leaf: jnp.zeros(leaf.shape, leaf.dtype)  # noqa: E731
    *state, images, labels = jax.device_put(jax.tree.map(zeros, arguments), device)
    seconds = []
    for _ in range(options.rounds + 1):
        start = time.perf_counter()
        *state, value = compiled(*state, images, labels)
        jax.block_until_ready(value)
        seconds.append(time.perf_counter() - start)
    del seconds[0]
    return round(1e3 * sorted(seconds)[len(seconds) // 2], 3)


def with_ratios(rows: list[dict[str, Any]]) -> list[dict[str, Any]]:
    """Each compared figure divided by the plain twin's, which is the first row."""
    for each in rows[1:]:
        for key in (*_COMPARED, "milliseconds"):
            if rows[0].get(key) and each.get(key):
                each[f"{key}_ratio"] = round(each[key] / rows[0][key], 3)
    return rows


def changes(rows: list[dict[str, Any]], file: str, made: dict[str, Any]) -> list[Any]:
    """What each compared figure is to that of another file, which asked the same."""
    before = json.loads(pathlib.Path(file).read_text())
    for key in ("target", "network", "dtype", "batch", "versions"):
        if before[key] != made[key]:
            raise SystemExit(
                f"accelerators.py: --against needs figures of the same {key}, got "
                f"{before[key]} in {file} and {made[key]} here. Make {file} anew."
            )
    old = {each["name"]: each for each in before["rows"]}
    return [
        {"name": each["name"]}
        | {
            key: round(each[key] / old[each["name"]][key], 3)
            for key in _COMPARED
            if each.get(key) and old[each["name"]].get(key)
        }
        for each in rows
        if each["name"] in old
    ]


def main() -> None:
    """Prints one row per similarity, the plain twin first."""
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument("--target", default="tpu:v5e")
    parser.add_argument("--network", default="spherenet", choices=NETWORKS)
    parser.add_argument("--dtype", default="bfloat16")
    parser.add_argument("--batch", type=int, default=128)
    parser.add_argument(
        "--similarities", nargs="+", default=list(SIMILARITIES), choices=SIMILARITIES
    )
    parser.add_argument("--top", type=int, default=0, help="the dearest instructions")
    parser.add_argument(
        "--against", metavar="FILE", help="JSON that this printed before"
    )
    parser.add_argument("--rounds", type=int, default=30, help="where the chip is here")
    options = parser.parse_args()
    try:
        target = aot.parse_target(options.target)
        is_here = target.is_here and jax.default_backend() == target.platform
        device = jax.devices()[0] if is_here else target.devices()[0]
    except (ValueError, ModuleNotFoundError) as error:
        raise SystemExit(f"accelerators.py: {error}") from error
    rows = []
    for name in options.similarities:
        rows.append(row(name, options, target, device))
        if is_here:
            rows[-1]["milliseconds"] = timed(name, options, device)
        sys.stderr.write(f"{name}: done\n")
    names = ("network", "dtype", "batch")
    made = {"target": str(target), **{key: getattr(options, key) for key in names}}
    made |= {"device": device.device_kind, "versions": versions()}
    made["rows"] = with_ratios(rows)
    if options.against:
        made["against"] = changes(rows, options.against, made)
    print(json.dumps(made, indent=1))


if __name__ == "__main__":
    main()
