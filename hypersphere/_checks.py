"""Checks of arguments that several functions and layers share, with one wording."""

import math
import numbers
from collections.abc import Sequence
from typing import Any

import jax.numpy as jnp
from jax.typing import ArrayLike

from hypersphere._quantized import is_quantized


def check_positive(who: str, **values: float) -> None:
    """Raises unless every keyword is a positive, finite number."""
    for name, value in values.items():
        if not (math.isfinite(value) and value > 0):
            raise ValueError(
                f"`{who}` needs a finite `{name} > 0`, got `{name}={value!r}`."
            )


def check_fraction(who: str, **values: float) -> None:
    """Raises unless every keyword is a number from 0 to 1."""
    for name, value in values.items():
        if not 0 <= value <= 1:
            raise ValueError(
                f"`{who}` needs `0 <= {name} <= 1`, got `{name}={value!r}`."
            )


def check_among(who: str, name: str, value: str, among: Sequence[str]) -> None:
    """Raises unless a word is one of some."""
    if value not in among:
        raise ValueError(
            f"`{who}` needs `{name}` to be one of {', '.join(map(repr, among))}, got "
            f"{value!r}."
        )


def check_callable(who: str, advice: str, **functions: Any) -> None:
    """Raises unless every keyword can be called."""
    for name, function in functions.items():
        if not callable(function):
            raise TypeError(
                f"`{who}` needs a callable `{name}`, got `{name}={function!r}`. "
                f"{advice}"
            )


def check_magnitude(who: str, magnitude: Any) -> None:
    """Raises unless a magnitude is a function or an object, and not a class."""
    check_callable(who, "Pass one of `ops.magnitudes`.", magnitude=magnitude)
    if isinstance(magnitude, type):
        raise TypeError(
            f"`{who}` needs a magnitude, not a class of them, got "
            f"`magnitude={magnitude.__name__}`. Write `{magnitude.__name__}()`."
        )


def check_floating(who: str, **arrays: ArrayLike) -> None:
    """Raises unless every keyword is an array of real floating-point numbers."""
    for name, array in arrays.items():
        if is_quantized(array):
            continue
        dtype = jnp.result_type(array)
        if not jnp.issubdtype(dtype, jnp.floating):
            raise TypeError(
                f"`{who}` needs real floating-point numbers, got "
                f"`{name}.dtype={dtype}`. Convert it, for example with "
                f"`{name}.astype(jnp.float32)`."
            )


def check_kernel_size(who: str, kernel_size: int | Sequence[int]) -> tuple[int, ...]:
    """Returns the window as a tuple; an int is refused, because its rank is unknown."""
    if not isinstance(kernel_size, Sequence):
        raise TypeError(
            f"`{who}` needs `kernel_size` as a tuple with one entry per spatial axis, "
            f"got `kernel_size={kernel_size!r}`. For a window over a sequence write "
            f"({kernel_size},); for one over an image, ({kernel_size}, {kernel_size})."
        )
    if not all(isinstance(size, numbers.Integral) for size in kernel_size):
        raise TypeError(
            f"`{who}` needs whole numbers in `kernel_size`, got "
            f"`kernel_size={tuple(kernel_size)!r}`."
        )
    if not kernel_size or any(size < 1 for size in kernel_size):
        raise ValueError(
            f"`{who}` needs at least one entry in `kernel_size`, each at least 1, got "
            f"`kernel_size={tuple(kernel_size)!r}`."
        )
    return tuple(kernel_size)


def check_groups(
    who: str, feature_group_count: int, in_features: int, out_features: int
) -> None:
    """Raises unless both feature counts divide into the groups."""
    if (
        feature_group_count < 1
        or in_features % feature_group_count
        or out_features % feature_group_count
    ):
        raise ValueError(
            f"`{who}` needs `in_features` and `out_features` to be multiples of "
            f"`feature_group_count`, got `in_features={in_features}`, "
            f"`out_features={out_features}` and "
            f"`feature_group_count={feature_group_count}`."
        )


def check_features(who: str, shape: tuple[int, ...], in_features: int) -> None:
    """Raises unless the last axis of an input has the features a layer expects."""
    if not shape or shape[-1] != in_features:
        raise ValueError(
            f"`{who}` needs `inputs.shape[-1] == in_features`, got "
            f"`inputs.shape={shape}` and `in_features={in_features}`. Features are the "
            "last axis."
        )


def check_mask(who: str, mask: tuple[int, ...], kernel: tuple[int, ...]) -> None:
    """Raises unless a mask has the shape of the kernel."""
    if mask != kernel:
        raise ValueError(
            f"`{who}` needs a mask in the shape of its kernel, got `mask.shape={mask}` "
            f"and `kernel.shape={kernel}`."
        )


def check_filters(who: str, shape: tuple[int, ...], filters: tuple[int, ...]) -> None:
    """Raises unless the last axes of cosines are those of the filters, or any for 1."""
    last = shape[len(shape) - len(filters) :]
    fits = len(shape) >= len(filters) and all(
        have == want or want == 1 for have, want in zip(last, filters, strict=True)
    )
    if not fits:
        features = filters[0] if len(filters) == 1 else filters
        raise ValueError(
            f"`{who}` needs cosines whose last axes are `features={features}`, got "
            f"`cos.shape={shape}`."
        )


def check_at_least_two(who: str, kernel: Any) -> None:
    """Raises unless a kernel has filters, which can be compared."""
    if kernel.ndim < 2 or kernel.shape[-1] < 2:
        raise ValueError(
            f"`{who}` needs at least two filters, on the last axis of `kernel`, got "
            f"`kernel.shape={kernel.shape}`."
        )
