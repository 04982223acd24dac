import pytest

from hypersphere import _peaks


@pytest.mark.parametrize(
    ("kind", "peak"),
    [
        ("NVIDIA H200", 989e12),
        ("NVIDIA H100 80GB HBM3", 989e12),
        ("NVIDIA A100-SXM4-40GB", 312e12),
        ("NVIDIA L4", 121e12),
        ("NVIDIA L40S", 362e12),
        ("TPU v5 lite", 197e12),
        ("TPU v5", 459e12),
        ("cpu", 0.0),
    ],
)
def test_peaks_are_those_of_the_data_sheets(kind, peak):
    assert _peaks.peak_flops(kind) == peak
