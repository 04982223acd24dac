"""How much a device can compute."""

import re

# Dense bfloat16 operations per second of one device, from the makers' data sheets. A
# TPU v2 or v3 device is one of a chip's two cores. The longer name comes first.
_PEAKS = {
    "H200": 989e12,
    "H100 PCIe": 756e12,
    "H100": 989e12,
    "A100": 312e12,
    "L40S": 362e12,
    "L40": 181e12,
    "L4": 121e12,
    "V100": 125e12,
    "T4": 65e12,
    "TPU v6": 918e12,
    "TPU v5 lite": 197e12,
    "TPU v5e": 197e12,
    "TPU v5": 459e12,
    "TPU v4": 275e12,
    "TPU v3": 61.5e12,
    "TPU v2": 22.5e12,
}


def peak_flops(device_kind: str) -> float:
    """Dense bfloat16 operations per second of a device, or 0 if it is not known."""
    found = (
        peak for name, peak in _PEAKS.items() if re.search(rf"\b{name}\b", device_kind)
    )
    return next(found, 0.0)
