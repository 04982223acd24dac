"""Is a kernel that adds up squares while it multiplies worth its walls? As JSON.

pip install 'hypersphere-jax[aot]'          # in an environment of its own
python benchmarks/pallas.py                                      # a TPU v5e, minutes
python benchmarks/pallas.py --check         # against `ops.sphere_conv`, interpreted

The cosine of 3x3 and 1x1 layers as a Pallas kernel for TPUs: an example lies in the
chip's vector memory, the matrix unit multiplies it with the filters, the vector unit
adds up its squares, so that the input is read once. XLA has the backward pass. The
rows are those of `accelerators.py`; a kernel has no estimate of cycles, so compare what
is accessed. Where the chip is here, the steps are timed as well.
"""

import argparse
import functools
import json
import sys
from typing import Any

import accelerators
import jax
import jax.numpy as jnp
from accelerators import NETWORKS, Layers
from jax import lax
from jax.experimental import pallas as pl
from jax.experimental.pallas import tpu as pltpu

from hypersphere import aot, nn, ops
from hypersphere.ops._filters import unit_filters
from hypersphere.ops._sums import FEWEST, spread

_EPS = 1e-2
_LAST = ("NHWC", "HWIO", "NHWC")


class KernelConv(nn.SphereConv):
    """A `SphereConv` of cosines, stride one and SAME, by the kernel."""

    def __call__(self, x: jax.Array) -> jax.Array:
        """Answers to images, or whatever the XLA layer does with few features."""
        if x.shape[-1] < FEWEST:
            return super().__call__(x)
        axes = (0, 1, 2)
        filters = unit_filters(self.kernel[...], axis=axes, eps=_EPS, dtype=x.dtype)
        return cosines(x, filters.values)


def _is_for_tpu() -> bool:
    device = jax.sharding.get_abstract_mesh().abstract_device
    return device is not None and "TPU" in device.device_kind


@jax.custom_vjp
def cosines(x: jax.Array, filters: jax.Array) -> jax.Array:
    """The cosines between patches and filters of length one."""
    return _forward(x, filters)[0]


def _cosines_forward(x: jax.Array, filters: jax.Array) -> Any:
    cos, scale = _forward(x, filters)
    return cos, (x, filters, cos, scale)


def _cosines_backward(kept: Any, slope: jax.Array) -> Any:
    x, filters, cos, scale = kept
    size, features = filters.shape[0], cos.shape[-1]
    scale, wide = scale[..., None], slope.astype(jnp.float32)
    conv = functools.partial(
        lax.conv_general_dilated,
        **dict(window_strides=(1, 1), padding="SAME", dimension_numbers=_LAST),
    )
    _, to_operands = jax.vjp(conv, x, filters)
    to_x, to_filters = to_operands((wide * scale).astype(x.dtype))
    # The sum over filters of answer times gradient, as the package takes it.
    _, add_up = jax.vjp(lambda one: spread(one, 3, features), jnp.zeros_like(scale))
    (total,) = add_up(wide * cos)
    _, over_patches = jax.vjp(
        lambda squares: lax.reduce_window(
            *(squares, 0.0, lax.add), (1, size, size, 1), (1, 1, 1, 1), "SAME"
        ),
        jnp.zeros_like(scale),
    )
    (to_square,) = over_patches(-0.5 * scale**2 * total)
    return to_x + (2 * x * to_square).astype(x.dtype), to_filters


cosines.defvjp(_cosines_forward, _cosines_backward)


def _forward(x: jax.Array, filters: jax.Array) -> tuple[jax.Array, jax.Array]:
    """Cosines, and one over the length of each patch."""
    examples, *pixels, inputs = x.shape
    size, _, _, outputs = filters.shape
    padded = [n + size - 1 for n in pixels]
    flops = 2 * examples * pixels[0] * pixels[1] * filters.size
    return pl.pallas_call(
        functools.partial(_kernel, size=size),
        grid=(examples,),
        in_specs=[
            pl.BlockSpec((1, *pixels, inputs), lambda i: (i, 0, 0, 0)),
            pl.BlockSpec(filters.shape, lambda i: (0, 0, 0, 0)),
        ],
        out_specs=[
            pl.BlockSpec((1, *pixels, outputs), lambda i: (i, 0, 0, 0)),
            pl.BlockSpec((1, *pixels), lambda i: (i, 0, 0)),
        ],
        out_shape=[
            jax.ShapeDtypeStruct((examples, *pixels, outputs), x.dtype),
            jax.ShapeDtypeStruct((examples, *pixels), jnp.float32),
        ],
        scratch_shapes=[
            pltpu.VMEM((*padded, inputs), x.dtype),
            pltpu.VMEM((*padded, outputs), jnp.float32),
        ],
        compiler_params=pltpu.CompilerParams(dimension_semantics=("parallel",)),
        cost_estimate=pl.CostEstimate(
            flops=flops,
            transcendentals=examples * pixels[0] * pixels[1],
            bytes_accessed=x.dtype.itemsize
            * (examples * pixels[0] * pixels[1] * (inputs + outputs) + filters.size),
        ),
        interpret=not _is_for_tpu(),
    )(x, filters)


def _kernel(x_ref, filters_ref, cos_ref, scale_ref, x_padded, squares, *, size):
    """One example: (1, height, width, features), with filters (size, size, ...)."""
    _, height, width, outputs = cos_ref.shape
    margin = size // 2
    inside = slice(margin, margin + height), slice(margin, margin + width)
    x_padded[...] = jnp.zeros_like(x_padded)
    x_padded[*inside, :] = x_ref[0]
    square = jnp.square(x_ref[0].astype(jnp.float32)).sum(-1, keepdims=True)
    squares[...] = jnp.zeros_like(squares)
    squares[*inside, :] = jnp.broadcast_to(square, (height, width, outputs))
    dots = jnp.zeros((height * width, outputs), jnp.float32)
    sums = jnp.zeros((height, width, outputs), jnp.float32)
    for row in range(size):
        for column in range(size):
            here = slice(row, row + height), slice(column, column + width)
            patch = x_padded[*here, :].reshape(height * width, -1)
            dots += jnp.dot(
                patch, filters_ref[row, column], preferred_element_type=jnp.float32
            )
            sums += squares[*here, :]
    scale = lax.rsqrt(sums + _EPS**2)
    scale_ref[0] = jnp.max(scale, -1)  # all are the same
    cos = jnp.clip(dots.reshape(height, width, outputs) * scale, -1, 1)
    cos_ref[0] = cos.astype(cos_ref.dtype)


for _name in ("three layers", "pointwise"):
    _make, _pixels = NETWORKS[_name]
    _with_kernel = functools.partial(Layers, *_make.args, conv=KernelConv)
    NETWORKS[f"{_name}, kernel"] = _with_kernel, _pixels


def check() -> dict[str, float]:
    """The largest differences to `ops.sphere_conv` of answers and gradients, float32.

    As shares of the largest value.
    """
    found = {}
    for size in (1, 3):
        keys = jax.random.split(jax.random.key(size), 3)
        x = jax.random.normal(keys[0], (2, 8, 8, 16))
        kernel = jax.random.normal(keys[1], (size, size, 16, 8))
        slope = jax.random.normal(keys[2], (2, 8, 8, 8))
        axes = (0, 1, 2)

        def by_kernel(x: jax.Array, kernel: jax.Array, axes: Any = axes) -> jax.Array:
            filters = unit_filters(kernel, axis=axes, eps=_EPS, dtype=x.dtype)
            return cosines(x, filters.values)

        ours, pull = jax.vjp(by_kernel, x, kernel)
        theirs, pull_theirs = jax.vjp(ops.sphere_conv, x, kernel)
        ours, theirs = [ours, *pull(slope)], [theirs, *pull_theirs(slope)]
        for name, one, other in zip(("cos", "x", "kernel"), ours, theirs, strict=True):
            gap = jnp.abs(one - other).max() / jnp.abs(other).max()
            found[f"{size}x{size}, {name}"] = float(gap)
    return found


def main() -> None:
    """Prints, for each network, its plain twin, XLA's cosine and the kernel's."""
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument("--target", default="tpu:v5e", help="a TPU")
    parser.add_argument("--batch", type=int, default=128)
    parser.add_argument("--rounds", type=int, default=30, help="where the chip is here")
    parser.add_argument("--check", action="store_true", help="whether it is right")
    options = parser.parse_args()
    if options.check:
        print(json.dumps(check(), indent=1))
        return
    options.dtype, options.top = "bfloat16", 0
    try:
        target = aot.parse_target(options.target)
        device = jax.devices()[0] if target.is_here else target.devices()[0]
    except (ValueError, ModuleNotFoundError) as error:
        raise SystemExit(f"pallas.py: {error}") from error
    made: dict[str, Any] = {"target": str(target), "versions": accelerators.versions()}
    for network in ("three layers", "pointwise"):
        rows = []
        for name, of in (("plain", ""), ("cosine", ""), ("cosine", ", kernel")):
            options.network = network + of
            rows.append(accelerators.row(name, options, target, device))
            rows[-1]["name"] += of
            if target.is_here:
                rows[-1]["milliseconds"] = accelerators.timed(name, options, device)
            sys.stderr.write(f"{network}, {name}{of}: done\n")
        made[network] = accelerators.with_ratios(rows)
    print(json.dumps(made, indent=1))


if __name__ == "__main__":
    main()
