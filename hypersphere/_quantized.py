"""Kernels that qwix has quantized, which are no arrays of JAX."""

from typing import Any

from jaxtyping import Array


def is_quantized(kernel: Any) -> bool:
    """Whether it is a `QArray` of qwix, also with what qwix notes beside it."""
    return hasattr(getattr(kernel, "array", kernel), "qvalue")


def as_array(kernel: Any) -> Array:
    """The numbers that a kernel stands for."""
    if not is_quantized(kernel):
        return kernel
    from qwix import dequantize

    return dequantize(getattr(kernel, "array", kernel))
