import types
from unittest import mock

import jax
import pytest

from hypersphere import aot

# As a TPU's compiler writes it; what is left out tells nothing of the cost.
PROGRAM = """HloModule step

%body (p: (s32[], f32[8,128])) -> (s32[], f32[8,128]) {
  %p = (s32[], f32[8,128]{1,0:T(8,128)}) parameter(0)
  %x = f32[8,128]{1,0:T(8,128)} get-tuple-element(%p), index=1
  %f = f32[8,128]{1,0:T(8,128)} fusion(%x), kind=kLoop, calls=%fused, metadata={op_name="jit(step)/layer/mul"}, backend_config={"window_config":{"estimated_cycles":"100"}}
  %sum = f32[8,128]{1,0:T(8,128)} all-reduce(%f), to_apply=%add
  ROOT %t = (s32[], f32[8,128]{1,0:T(8,128)}) tuple(%x, %sum)
}

ENTRY %main (a: f32[8,128], b: bf16[4,4]) -> f32[8,128] {
  %a = f32[8,128]{1,0:T(8,128)} parameter(0)
  %b = bf16[4,4]{1,0:T(4,128)(2,1)S(1)} parameter(1)
  %pair = (f32[8,128]{1,0:T(8,128)}, /*index=1*/bf16[4,4]{1,0}) fusion(%a, %b), kind=kLoop, calls=%fused, backend_config={"window_config":{"estimated_cycles":"7"}}
  %w = (s32[], f32[8,128]{1,0:T(8,128)}) while(%init), condition=%cond, body=%body, backend_config={TRIPS}
  ROOT %r = f32[8,128]{1,0:T(8,128)} get-tuple-element(%w), index=1
}
"""  # noqa: E501
TRIPS = '"known_trip_count":{"n":"5"}'


def test_a_loop_counts_its_body_times_its_trips():
    found = aot.instructions(PROGRAM.replace("TRIPS", TRIPS))
    by_name = {one.name: one for one in found}
    assert by_name["pair"].times == 1 and by_name["f"].times == 5
    assert by_name["f"].cycles == 100 and by_name["f"].origin == "jit(step)/layer/mul"
    # Operands and results: an array of 4096 bytes, and one of 32, in and out.
    assert by_name["pair"].bytes == 2 * (4096 + 32)
    assert by_name["sum"].collective == "all-reduce" and by_name["sum"].bytes == 4096


def test_what_starts_a_communication_repeats_its_operands_and_moves_its_results():
    text = """HloModule step

ENTRY %main (a: f32[8,128]) -> f32[16,128] {
  %a = f32[8,128]{1,0} parameter(0)
  %tuple = ((f32[8,128]{1,0}), f32[8,128]{1,0}) all-reduce-start(%a), to_apply=%add
  %plain = f32[8,128]{1,0} all-reduce-start(%a), to_apply=%add
  ROOT %more = (f32[8,128]{1,0}, f32[16,128]{1,0}) all-gather-start(%a)
}
"""
    assert [one.bytes for one in aot.instructions(text)] == [4096, 4096, 8192]


def compiled(text):
    """A program without a compiler."""
    memory = types.SimpleNamespace(
        temp_size_in_bytes=7,
        argument_size_in_bytes=10,
        output_size_in_bytes=5,
        alias_size_in_bytes=2,
    )
    found = mock.create_autospec(jax.stages.Compiled, instance=True)
    found.as_text.return_value = text
    found.cost_analysis.return_value = None
    found.memory_analysis.return_value = memory
    return found


def test_the_cost_is_the_sum_and_communication_is_apart():
    found = aot.cost(compiled(PROGRAM.replace("TRIPS", TRIPS)))
    assert found.cycles == 7 + 5 * 100 and found.memory == 20
    assert found.collectives == {"all-reduce": aot.Collective(5, 5 * 4096)}


@pytest.mark.parametrize(
    ("trips", "line"),
    [
        ("", ""),
        (
            TRIPS,
            '%k = f32[8,128] custom-call(%a), custom_call_target="tpu_custom_call"',
        ),
    ],
)
def test_what_hides_cycles_has_no_sum_of_them(trips, line):
    entry = PROGRAM.replace("TRIPS", trips).replace("  ROOT %r", f"  {line}\n  ROOT %r")
    found = aot.cost(compiled(entry))
    assert found.cycles is None
    assert found.kernels == ({"tpu_custom_call": 1} if line else {})


def test_a_program_compiled_here_is_read_too():
    x = jax.ShapeDtypeStruct((16, 16), "float32")
    found = aot.cost(jax.jit(lambda x: x @ x).lower(x).compile())
    assert found.cycles is None and found.flops >= 2 * 16**3 and found.memory >= 2048


def test_another_text_is_refused():
    with pytest.raises(ValueError, match="ENTRY, got 'nothing'"):
        aot.instructions("nothing")
