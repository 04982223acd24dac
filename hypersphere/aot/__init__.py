"""What a program would cost on an accelerator, from its compiler, without the chip.

Needs the extra `aot`, in an environment of its own: it brings the compilers of TPUs and
of NVIDIA's GPUs, and no driver.
"""

from hypersphere.aot._cost import Collective, Cost, Instruction, cost, instructions
from hypersphere.aot._target import Chip, DoesNotFitError, Target, parse_target

__all__ = [
    "Chip",
    "Collective",
    "Cost",
    "DoesNotFitError",
    "Instruction",
    "Target",
    "cost",
    "instructions",
    "parse_target",
]
