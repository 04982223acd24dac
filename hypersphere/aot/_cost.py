"""What a compiled program says of itself."""

import math
import re
from collections import Counter
from collections.abc import Iterator
from typing import Any, NamedTuple

import jax

_SHAPE = re.compile(r"\b(pred|[a-z]+\d+[a-z0-9]*)\[([\d,]*)\]")
_INSTRUCTION = re.compile(
    r"\s*(?:ROOT )?%(?P<name>[\w.\-]+) = (?P<shape>\(.*?\)|\S+) "
    r"(?P<opcode>[\w\-]+)\((?P<rest>.*)"
)
_COMPUTATION = re.compile(r"(?P<entry>ENTRY )?%(?P<name>[\w.\-]+) \(.*\{$")
_CALLED = re.compile(r"\b(?:body|condition|to_apply|calls)=%([\w.\-]+)")
_BRANCHES = re.compile(r"branch_computations=\{([^}]*)\}")
_COLLECTIVE = re.compile(
    r"(all-reduce|all-gather|reduce-scatter|all-to-all|collective-permute)(-start)?"
)
# They move nothing by themselves.
_FREE = {"parameter", "get-tuple-element", "tuple", "bitcast", "constant"}
# What runs other computations instruction by instruction; in all else, such as a fusion
# or a sort, they are part of one kernel.
_RUN = {"while", "conditional", "call", "async-start"}
# XLA's own helpers on a TPU: not kernels that hide their cost.
_HARMLESS = {"ConcatBitcast", "GatherScatterIndicesBitpacked", "AllocateBuffer"}


class Instruction(NamedTuple):
    """One instruction of a compiled program, which is one kernel or one transfer.

    Attributes:
        name: As the compiler calls it.
        opcode: What it is, such as "fusion".
        origin: The operation, and the layer if it has a name, that it was made for.
        bytes: Of its operands and its results.
        cycles: What a TPU's compiler expects of it; None where it does not say.
        times: How often it runs; 0 in a loop of unknown length.
        is_convolution: Whether a library's convolution, on a GPU.
        collective: The kind of communication with other devices, or "".
        custom: What a custom call calls, or "".
    """

    name: str
    opcode: str
    origin: str
    bytes: int
    cycles: int | None
    times: int
    is_convolution: bool
    collective: str
    custom: str


class Collective(NamedTuple):
    """The communication of one kind in one run of a program.

    Attributes:
        count: How many times.
        bytes: Of the results on one device, together.
    """

    count: int
    bytes: int


class Cost(NamedTuple):
    """What one run of a program takes of one device.

    A loop of unknown length counts once, and leaves the cycles unknown.

    Attributes:
        cycles: What a TPU's compiler expects, loops in full; None on a GPU, and where a
            kernel, or a loop of unknown length, hides some of them.
        bytes_accessed: As XLA counts them, 0 where it does not.
        bytes_outside: Of operands and results of all but a GPU's convolutions.
        flops: As XLA counts them, 0 where it does not.
        temporary: Bytes of intermediate results alive at a time.
        memory: Bytes of arguments, results and intermediate results together.
        instructions: How many are not free.
        collectives: Communication between devices, by kind.
        kernels: Custom calls that tell nothing of their cycles, by target.
    """

    cycles: int | None
    bytes_accessed: int
    bytes_outside: int
    flops: int
    temporary: int
    memory: int
    instructions: int
    collectives: dict[str, Collective]
    kernels: dict[str, int]


def cost(compiled: jax.stages.Compiled) -> Cost:
    """Reads the cost of a program that was compiled for an accelerator.

    Args:
        compiled: Of `Target.compile`, or compiled on the accelerator itself.

    Returns:
        Its cost.

    Raises:
        ValueError: If the program does not tell.

    Example:
        >>> import jax
        >>> from hypersphere import aot
        >>> x = jax.ShapeDtypeStruct((8, 8), "float32")
        >>> found = aot.cost(jax.jit(lambda x: x @ x).lower(x).compile())
        >>> found.flops >= 1024, found.memory >= 512, found.collectives
        (True, True, {})
    """
    text, memory = compiled.as_text(), compiled.memory_analysis()
    if text is None or memory is None:
        raise ValueError("`cost` needs a compiled program that tells what it is.")
    told = instructions(text)
    counted = compiled.cost_analysis() or {}
    kernels = Counter(
        one.custom
        for one in told
        if one.custom and not one.is_convolution and one.custom not in _HARMLESS
    )
    return Cost(
        cycles=_cycles(told, kernels),
        bytes_accessed=int(counted.get("bytes accessed", 0)),
        bytes_outside=sum(
            o.bytes * max(o.times, 1) for o in told if not o.is_convolution
        ),
        flops=int(counted.get("flops", 0)),
        temporary=memory.temp_size_in_bytes,
        memory=memory.temp_size_in_bytes
        + memory.argument_size_in_bytes
        + memory.output_size_in_bytes
        - memory.alias_size_in_bytes,
        instructions=sum(max(one.times, 1) for one in told),
        collectives=_collectives(told),
        kernels=dict(kernels),
    )


def _cycles(told: list[Instruction], kernels: Counter[str]) -> int | None:
    known = [one for one in told if one.cycles is not None]
    hidden = kernels or any(one.times == 0 for one in told)
    if hidden or not known:
        return None
    return sum(one.cycles * one.times for one in known if one.cycles is not None)


def _collectives(told: list[Instruction]) -> dict[str, Collective]:
    found: dict[str, Collective] = {}
    for one in told:
        if one.collective:
            count, size = found.get(one.collective, Collective(0, 0))
            found[one.collective] = Collective(
                count + max(one.times, 1), size + max(one.times, 1) * one.bytes
            )
    return found


def instructions(text: str) -> list[Instruction]:
    """Every instruction that a program runs, those of a loop as often as it runs.

    Args:
        text: A compiled program, as `jax.stages.Compiled.as_text` has it.

    Returns:
        The instructions, but for those that move nothing, such as parameters and
        tuples. Of a choice between branches all are there. Inside a fusion
        only communication is listed: the fusion is one kernel.

    Raises:
        ValueError: If the text is no compiled program.

    Example:
        >>> import jax
        >>> from hypersphere import aot
        >>> compiled = jax.jit(lambda x: x + 1).lower(1.0).compile()
        >>> len(aot.instructions(compiled.as_text())) >= 1
        True
    """
    computations, entry = _split(text)
    return list(_walk(computations, entry, times=1, is_fused=False))


def _split(text: str) -> tuple[dict[str, list[re.Match[str]]], str]:
    """The lines of each computation, and the name of the first one to run."""
    computations: dict[str, list[re.Match[str]]] = {}
    entry, current = "", []
    for line in re.sub(r"/\*.*?\*/", "", text).splitlines():
        if found := _INSTRUCTION.match(line):
            current.append(found)
        elif found := _COMPUTATION.match(line):
            current = computations.setdefault(found["name"], [])
            entry = found["name"] if found["entry"] else entry
    if not entry:
        raise ValueError(
            "`instructions` needs the text of a compiled program, which has an ENTRY, "
            f"got {text[:40]!r}."
        )
    return computations, entry


def _walk(
    computations: dict[str, Any], name: str, *, times: int, is_fused: bool
) -> Iterator[Instruction]:
    sizes: dict[str, int] = {}
    for line in computations.get(name, ()):
        sizes[line["name"]] = size = _bytes(line["shape"])
        operands, attributes = _arguments(line["rest"])
        moved = size + sum(sizes.get(operand, 0) for operand in operands)
        one = _instruction(line, attributes, size, moved, times)
        is_kernel = not is_fused and one.opcode not in _FREE
        if is_kernel or one.collective:
            yield one
        inside = times * _trips(line["opcode"], attributes)
        fused = is_fused or line["opcode"] not in _RUN
        for called in _called(attributes):
            yield from _walk(computations, called, times=inside, is_fused=fused)


def _instruction(
    line: re.Match[str], attributes: str, size: int, moved: int, times: int
) -> Instruction:
    cycles = re.search(r'"estimated_cycles":"(\d+)"', attributes)
    origin = re.search(r'op_name="([^"]*)"', attributes)
    custom = re.search(r'custom_call_target="([^"]*)"', attributes)
    collective = _COLLECTIVE.fullmatch(line["opcode"])
    return Instruction(
        name=line["name"],
        opcode=line["opcode"],
        origin=origin[1] if origin else "",
        bytes=_received(collective, size, moved - size) if collective else moved,
        cycles=int(cycles[1]) if cycles else None,
        times=times,
        is_convolution=custom is not None and "cudnn$conv" in custom[1],
        collective=collective[1] if collective else "",
        custom=custom[1] if custom else "",
    )


def _received(collective: re.Match[str], size: int, operands: int) -> int:
    """What another device sends is as large as the result."""
    has_operands = collective[2] and size > operands  # one that starts repeats them
    return size - operands if has_operands else size


def _called(attributes: str) -> list[str]:
    branches = _BRANCHES.search(attributes)
    names = re.findall(r"%([\w.\-]+)", branches[1]) if branches else []
    return _CALLED.findall(attributes) + names


def _trips(opcode: str, attributes: str) -> int:
    """How often a loop runs; 0 if the compiler does not know."""
    if opcode != "while":
        return 1
    found = re.search(r'"known_trip_count":\{"n":"(\d+)"\}', attributes)
    return int(found[1]) if found else 0


def _arguments(rest: str) -> tuple[list[str], str]:
    """The names of the operands, and what follows their closing parenthesis."""
    depth = 1
    for end, letter in enumerate(rest):
        depth += (letter == "(") - (letter == ")")
        if not depth:
            return re.findall(r"%([\w.\-]+)", rest[:end]), rest[end:]
    return [], rest


def _bytes(shape: str) -> int:
    return sum(
        math.ceil(_bits(dtype) * math.prod(int(d) for d in dims.split(",") if d) / 8)
        for dtype, dims in _SHAPE.findall(shape)
    )


def _bits(dtype: str) -> int:
    if dtype == "pred":
        return 8
    found = re.search(r"\d+", dtype)
    return int(found[0]) if found else 0
