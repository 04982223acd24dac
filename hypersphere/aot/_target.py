"""The machines that a program can be compiled for."""

import contextlib
import dataclasses
import glob
import importlib.metadata
import math
import os
import re
from collections.abc import Iterator
from typing import Any, NamedTuple

import jax
from jax.experimental import topologies
from jax.experimental.compilation_cache import compilation_cache

from hypersphere._peaks import peak_flops


class Chip(NamedTuple):
    """What is known of one device, from its maker's data sheet.

    Attributes:
        bandwidth: Of its memory, in bytes per second.
        link: Of its links to the others, all together and one way, in bytes per second.
        memory: What a program can use of it, in bytes.
        slice: How the smallest machine with it is written.
    """

    bandwidth: float
    link: float
    memory: float
    slice: str


CHIPS = {
    "tpu": {
        "v5e": Chip(819e9, 100e9, 15.75 * 2**30, "1x1"),
        "v5p": Chip(2765e9, 300e9, 95.73 * 2**30, "1x1x1"),
        "v6e": Chip(1640e9, 224e9, 31.24 * 2**30, "1x1"),
    },
    "gpu": {"h100": Chip(3352e9, 450e9, 0.95 * 84942979072, "1")},
}

# How XLA describes an H100 to itself.
_H100 = """
gpu_device_info {
  threads_per_block_limit: 1024 threads_per_warp: 32
  shared_memory_per_block: 49152 shared_memory_per_core: 233472
  shared_memory_per_block_optin: 232448 threads_per_core_limit: 2048
  core_count: 132 fpus_per_core: 128 clock_rate_ghz: 1.98
  block_dim_limit_x: 2147483647 block_dim_limit_y: 65535 block_dim_limit_z: 65535
  registers_per_core_limit: 65536 registers_per_block_limit: 65536
  memory_bandwidth: 3352320000000 device_memory_size: 84942979072
  l2_cache_size: 52428800 cuda_compute_capability { major: 9 }
}
platform_name: "CUDA" dnn_version_info { major: 9 minor: 8 }
device_description_str: "NVIDIA H100 80GB HBM3"
"""

# Without these the TPU's compiler looks for a chip, asks the cloud what it is part of,
# and refuses to be loaded by two processes.
_WITHOUT_CHIP = {
    "TPU_SKIP_MDS_QUERY": "1",
    "TPU_ACCELERATOR_TYPE": "v5litepod-4",
    "TPU_WORKER_HOSTNAMES": "localhost",
    "ALLOW_MULTIPLE_LIBTPU_LOAD": "1",
}


class DoesNotFitError(ValueError):
    """A program that needs more memory than a device has.

    Attributes:
        needed: Bytes that it needs of a device, as the compiler tells.
        available: Bytes that a device has.
    """

    def __init__(self, needed: int | float, available: int | float):
        self.needed, self.available = needed, available
        super().__init__(
            f"does not fit: {needed / 2**30:.2f} of {available / 2**30:.2f} GiB a "
            "device"
        )


@dataclasses.dataclass(frozen=True)
class Target:
    """A machine to compile for, which need not be here.

    Attributes:
        platform: "tpu" or "gpu".
        name: Of the chip, such as "v5e".
        topology: How the devices are laid out, such as "4x4"; of GPUs their number.
    """

    platform: str
    name: str
    topology: str

    def __str__(self) -> str:
        return f"{self.platform}:{self.name}:{self.topology}"

    @property
    def chip(self) -> Chip:
        """What is known of one device."""
        return CHIPS[self.platform][self.name]

    @property
    def count(self) -> int:
        """How many devices there are."""
        return math.prod(map(int, self.topology.split("x")))

    @property
    def is_here(self) -> bool:
        """Whether this machine has a chip of the platform; does not start JAX."""
        files = {
            "gpu": ("/dev/nvidia[0-9]*",),
            "tpu": ("/dev/accel[0-9]*", "/dev/vfio/[0-9]*"),
        }
        return any(map(glob.glob, files[self.platform]))

    @property
    def peak(self) -> float:
        """Dense bfloat16 operations per second of one device."""
        return peak_flops(self.devices()[0].device_kind)

    @property
    def options(self) -> dict[str, str]:
        """What the compiler is told: no GPU is there to try kernels on."""
        return {"xla_gpu_autotune_level": "0"} if self.platform == "gpu" else {}

    def devices(self) -> list[Any]:
        """The devices, as a mesh takes them; they can be compiled for, not run on.

        Where no such chip is here, JAX is set to the CPU, unless it has started: it
        would start the compiler as if the chip were there.

        Raises:
            ModuleNotFoundError: If the compiler is not installed.
            ValueError: If there is no such arrangement of devices.
        """
        if not self.is_here:
            jax.config.update("jax_platforms", "cpu")
            os.environ.update(_WITHOUT_CHIP)
        try:
            if self.platform == "tpu":
                return topologies.get_topology_desc(
                    platform="tpu", topology_name=f"{self.name}:{self.topology}"
                ).devices
            return topologies.get_topology_desc(
                platform="cuda", topology=f"1x1x{self.topology}", target_config=_H100
            ).devices
        except (RuntimeError, NotImplementedError) as error:
            if not self._is_installed():
                raise ModuleNotFoundError(
                    f"The target {self} needs its compiler, "
                    f"{_COMPILERS[self.platform]}, which is not installed. Make an "
                    "environment for it: `pip install 'hypersphere-jax[aot,train]'`."
                ) from error
            raise ValueError(
                f"The target {self} is no arrangement of devices that exists: "
                f"{str(error).splitlines()[0]}"
            ) from error

    def _is_installed(self) -> bool:
        installed = (found.name for found in importlib.metadata.distributions())
        return any(re.fullmatch(_COMPILERS[self.platform], name) for name in installed)

    def compile(self, lowered: jax.stages.Lowered) -> jax.stages.Compiled:
        """Compiles what was lowered for its devices.

        Raises:
            DoesNotFitError: If it needs more memory than a device has.
        """
        try:
            with _without_cache():
                return lowered.compile(compiler_options=self.options)
        except jax.errors.JaxRuntimeError as error:
            found = re.search(r"\((\S+)([TGMK])\) exceeds available HBM", str(error))
            if found is None:
                raise
            unit = {"T": 2**40, "G": 2**30, "M": 2**20, "K": 2**10}[found[2]]
            raise DoesNotFitError(float(found[1]) * unit, self.chip.memory) from error


@contextlib.contextmanager
def _without_cache() -> Iterator[None]:
    """JAX keeps such programs on disk, and cannot read them without the chip."""
    before = jax.config.jax_enable_compilation_cache
    jax.config.update("jax_enable_compilation_cache", False)
    compilation_cache.reset_cache()  # it has decided once whether there is one
    try:
        yield
    finally:
        jax.config.update("jax_enable_compilation_cache", before)
        compilation_cache.reset_cache()


_COMPILERS = {"tpu": "libtpu", "gpu": r"jax-cuda\d+-plugin"}


def parse_target(text: str) -> Target:
    """A target from how it is written.

    Args:
        text: "PLATFORM:CHIP:TOPOLOGY", such as "tpu:v5e:4x4" or "gpu:h100:8"; without a
            topology, one device.

    Returns:
        The target; whether its devices can be arranged so, `devices` tells.

    Raises:
        ValueError: If there is no such chip, or the topology is not written as one.

    Example:
        >>> from hypersphere import aot
        >>> target = aot.parse_target("tpu:v5e:4x4")
        >>> str(target), target.count
        ('tpu:v5e:4x4', 16)
    """
    platform, _, rest = text.lower().partition(":")
    name, _, topology = rest.partition(":")
    known = CHIPS.get(platform, {})
    if name not in known:
        names = [
            f"{where}:{chip}:{known.slice}"
            for where, chips in CHIPS.items()
            for chip, known in chips.items()
        ]
        raise ValueError(
            f"A target needs to be one of {', '.join(names)}, or more of these, such "
            f"as tpu:v5e:4x4 or gpu:h100:8, got {text!r}."
        )
    topology = topology or known[name].slice
    axes = known[name].slice.count("x")
    if not re.fullmatch(r"[1-9]\d*" + r"x[1-9]\d*" * axes, topology):
        raise ValueError(
            f"The target {platform}:{name} needs a topology such as "
            f"{'x'.join(['2'] * (axes + 1))}, got {topology!r}."
        )
    return Target(platform, name, topology)
