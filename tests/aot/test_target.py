import pytest

from hypersphere import aot


@pytest.mark.parametrize(
    ("text", "name", "count"),
    [
        ("tpu:v5e", "tpu:v5e:1x1", 1),
        ("TPU:v5e:4x4", "tpu:v5e:4x4", 16),
        ("tpu:v5p:2x2x2", "tpu:v5p:2x2x2", 8),
        ("gpu:h100:8", "gpu:h100:8", 8),
    ],
)
def test_a_target_is_a_platform_a_chip_and_a_topology(text, name, count):
    target = aot.parse_target(text)
    assert str(target) == name and target.count == count
    assert target.chip.memory > 10 * 2**30 and target.chip.link < target.chip.bandwidth


@pytest.mark.parametrize(
    ("text", "told"),
    [
        ("tpu:v9", r"one of tpu:v5e:1x1, .*gpu:h100:1.* got 'tpu:v9'"),
        ("v5e", r"one of tpu:v5e:1x1"),
        ("tpu:v5e:4", r"topology such as 2x2, got '4'"),
        ("gpu:h100:2x2", r"topology such as 2, got '2x2'"),
    ],
)
def test_an_unknown_target_is_told_what_there_is(text, told):
    with pytest.raises(ValueError, match=told):
        aot.parse_target(text)


def test_a_missing_compiler_is_told_how_to_install(monkeypatch):
    def missing(**_):
        raise RuntimeError("JAX TPU support not installed")

    monkeypatch.setattr("jax.experimental.topologies.get_topology_desc", missing)
    monkeypatch.setattr(aot.Target, "_is_installed", lambda self: False)
    with pytest.raises(ModuleNotFoundError, match=r"libtpu.*pip install .*aot"):
        aot.parse_target("tpu:v5e").devices()
    monkeypatch.setattr(aot.Target, "_is_installed", lambda self: True)
    with pytest.raises(ValueError, match="no arrangement of devices"):
        aot.parse_target("tpu:v5e:3x3").devices()
