"""Einsums that answer with the angle between a filter of the kernel and the input."""

from collections.abc import Callable
from typing import Any, NamedTuple

import jax
import jax.numpy as jnp
from jax import lax
from jaxtyping import Array, Float

from hypersphere._checks import check_floating, check_positive
from hypersphere.ops._angles import scaled
from hypersphere.ops._answer import (
    ResponseFunction,
    answer,
    dot_dtype,
    product_arguments,
)
from hypersphere.ops._filters import unit_filters
from hypersphere.ops._similarity import Cosine


class Subscripts(NamedTuple):
    """An einsum of an input and a kernel, read.

    Attributes:
        inputs: Letters of the input, `...` among them if it has any number of axes.
        kernel: Letters of the kernel.
        output: Letters of the answer.
    """

    inputs: str
    kernel: str
    output: str

    @classmethod
    def of(cls, text: str) -> "Subscripts":
        """Read from `"btd,dhk->bthk"`.

        Raises:
            ValueError: If it is no einsum of an input and a kernel with an answer, or
                sums over what is no direction.
        """
        operands, arrow, output = text.replace(" ", "").partition("->")
        inputs, comma, kernel = operands.partition(",")
        if not arrow or not comma or "," in kernel:
            raise ValueError(
                "`sphere_einsum` needs subscripts of an input and one kernel with an "
                f"answer, such as 'btd,dhk->bthk', got {text!r}."
            )
        if "." in kernel:
            raise ValueError(
                "`sphere_einsum` needs letters for all axes of the kernel, because "
                f"those that are summed make up a filter, got {text!r}."
            )
        if lost := set(inputs + kernel) - set(output) - (set(inputs) & set(kernel)):
            raise ValueError(
                f"`sphere_einsum` cannot sum over {', '.join(sorted(lost))} in "
                f"{text!r}, which only one of input and kernel has: there is no angle "
                "of a sum. Sum before or afterwards."
            )
        return cls(inputs, kernel, output)

    @property
    def contracted(self) -> tuple[int, ...]:
        """The axes of the kernel that make up a filter."""
        return tuple(
            axis for axis, each in enumerate(self.kernel) if each not in self.output
        )


def einsum_filters(
    subscripts: str, kernel_shape: tuple[int, ...]
) -> int | tuple[int, ...] | None:
    """How many filters the kernel of an einsum has, where they are in an answer.

    Args:
        subscripts: As for `sphere_einsum`.
        kernel_shape: The sizes of the kernel's letters.

    Returns:
        The shape of one number per filter that broadcasts against the last axes of an
        answer; a number where the last axis alone has the filters, None where "..."
        comes behind them.

    Raises:
        ValueError: If the subscripts are others than these.

    Example:
        >>> from hypersphere import ops
        >>> ops.einsum_filters("btd,dhk->bthk", (4, 2, 3))
        (2, 3)
        >>> ops.einsum_filters("btd,hdk->bhtk", (2, 4, 3))
        (2, 1, 3)
        >>> ops.einsum_filters("...d,dk->...k", (4, 3))
        3
    """
    letters = Subscripts.of(subscripts)
    sizes = dict(zip(letters.kernel, kernel_shape, strict=True))
    found = [sizes.get(each, 1) for each in letters.output]
    places = [i for i, each in enumerate(letters.output) if each in letters.kernel]
    first = min(places, default=len(found) - 1)
    if "." in letters.output[first:]:
        return None
    shape = tuple(found[first:]) or (1,)
    return shape[0] if len(shape) == 1 else shape


def sphere_einsum(
    subscripts: str,
    x: Float[Array, "..."],
    kernel: Float[Array, "..."],
    *,
    similarity: ResponseFunction = Cosine(),
    eps: float = 1e-2,
    precision: lax.PrecisionLike = None,
    preferred_element_type: jax.typing.DTypeLike | None = None,
    out_sharding: Any = None,
    einsum: Callable[..., Array] = jnp.einsum,
) -> Float[Array, "..."]:
    """`jnp.einsum` of an input and a kernel that answers with angles.

    The axes that are summed make up a vector of the input and a filter of the kernel;
    the answer has the shape of the einsum. It takes the place of `jnp.einsum` in
    `nnx.Einsum`.

    Args:
        subscripts: Such as "btd,dhk->bthk": the input's letters, which may begin with
            "...", the kernel's, the answer's. What input and kernel share and the
            answer lacks is summed; nothing else may be.
        x: Input.
        kernel: Filters.
        similarity: The function g from cosines in [-1, 1] to responses.
        eps: The smallest length that counts, in the units of the input; positive.
        precision: As in `jnp.einsum`.
        preferred_element_type: The dtype of the result, by default that of `x`.
        out_sharding: As in `jnp.einsum`.
        einsum: What computes the dot products.

    Returns:
        Responses: with one of the similarities here, in [-1, 1].

    Raises:
        TypeError: If an array is not real floating point.
        ValueError: If the subscripts are others than these, shapes do not fit, or
            `eps` is not positive and finite.

    Example:
        >>> import jax.numpy as jnp
        >>> from hypersphere import ops
        >>> x, kernel = jnp.ones((2, 5, 4)), jnp.ones((4, 3, 6))
        >>> ops.sphere_einsum("btd,dhk->bthk", x, kernel).shape
        (2, 5, 3, 6)

    References:
        Liu et al., Deep Hyperspherical Learning, NIPS 2017.
        https://arxiv.org/abs/1711.03189
        Differs: the paper has no einsum.
    """
    check_positive("sphere_einsum", eps=eps)
    check_floating("sphere_einsum", x=x, kernel=kernel)
    letters = Subscripts.of(subscripts)
    dtype = dot_dtype(x.dtype)
    filters = unit_filters(kernel, axis=letters.contracted, eps=eps, dtype=dtype)
    dots = einsum(
        subscripts,
        x.astype(dtype),
        filters.values,
        precision=precision,
        **product_arguments(dtype, preferred_element_type, out_sharding),
    )
    any_number = x.ndim - len(letters.inputs.replace("...", ""))
    along = [letters.kernel.find(each) for each in _axes(letters.output, any_number)]
    return answer(
        filters.divided(dots, along),
        _sums_of_squares(letters, x, eps),
        similarity=similarity,
        eps=eps,
        dtype=preferred_element_type or x.dtype,
    )


def _sums_of_squares(letters: Subscripts, x: Array, eps: float) -> Array:
    """One sum per vector of `x`, laid out to broadcast against the answer."""
    any_number = x.ndim - len(letters.inputs.replace("...", ""))
    inputs, output = (_axes(each, any_number) for each in letters[::2])
    lost = tuple(axis for axis, each in enumerate(inputs) if each not in output)
    sums = jnp.sum(jnp.square(scaled(x, eps=eps)), axis=lost)
    kept = [each for each in inputs if each in output]
    there = [each for each in output if each in kept]
    sums = lax.transpose(sums, [kept.index(each) for each in there])
    beside = [axis for axis, each in enumerate(output) if each not in kept]
    return jnp.expand_dims(sums, beside)


def _axes(letters: str, any_number: int) -> list[str]:
    """A name for every axis; `...` are so many."""
    before, _, after = letters.partition("...")
    dots = [f".{i}" for i in range(any_number)] if "..." in letters else []
    return [*before, *dots, *after]
