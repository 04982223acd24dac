"""A penalty on the kernels of a whole model."""

from collections.abc import Callable, Mapping
from types import MappingProxyType
from typing import Any

import jax
import jax.numpy as jnp
from jaxtyping import Array, Float

from hypersphere._select import matches

PUBLISHED = MappingProxyType({"head.kernel": 1.0, "*kernel": 0.1})


def penalty(
    params: Any,
    fn: Callable[[Array], Array],
    *,
    where: str | Mapping[str, float] = PUBLISHED,
) -> Float[Array, ""]:
    """A penalty, summed over the kernels of a model with their weights.

    Args:
        params: A model of Flax NNX, its `nnx.state`, or any tree of parameters, of
            Linen too.
        fn: Of a kernel, such as `hyperspherical_energy`, or a `functools.partial`.
        where: Pattern of a parameter's dotted path -> weight, dimensionless; the first
            pattern that fits counts. A star spans dots. A pattern alone has the weight
            one. The default has the published weights of hyperspherical energies, 1 for
            the last layer and 0.1 for the others.

    Returns:
        A number in the units of `fn`.

    Raises:
        ValueError: If a pattern fits no parameter; it names those there are. Of the
            default one is enough.

    Example:
        >>> import jax.numpy as jnp
        >>> from hypersphere import regularizers
        >>> params = {"conv": {"kernel": jnp.ones((2, 3)), "bias": jnp.ones(3)}}
        >>> print(regularizers.penalty(params, jnp.sum, where={"conv.kernel": 0.5}))
        3.0

    References:
        Liu et al., Learning towards Minimum Hyperspherical Energy, NeurIPS 2018, for
        the weights. https://arxiv.org/abs/1805.09298
    """
    weights = {where: 1.0} if isinstance(where, str) else dict(where)
    found = {
        jax.tree_util.keystr(keys, simple=True, separator=".")
        .removesuffix(".value")
        .removeprefix("params."): x  # Linen's variables
        for keys, x in jax.tree_util.tree_leaves_with_path(params)
    }
    total, used = jnp.zeros(()), set()
    for path, kernel in found.items():
        fitting = [pattern for pattern in weights if matches(pattern, (path,))]
        used |= set(fitting)
        if fitting:
            total = total + weights[fitting[0]] * fn(kernel)
    unused = [] if where is PUBLISHED and used else sorted(set(weights) - used)
    if unused:
        raise ValueError(
            f"`penalty` needs patterns that fit a parameter, got {unused}. The "
            f"parameters are {', '.join(found)}."
        )
    return total
