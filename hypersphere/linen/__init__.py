"""Flax Linen layers: the twins of `hypersphere.nn`, bit for bit, on the same formulas.

A twin has the parameters of the NNX layer, with their names and shapes, so that they
move between the two as a nested dictionary; running means likewise, as the collection
"batch_stats".

Example:
    From NNX to Linen:

    >>> import jax
    >>> import jax.numpy as jnp
    >>> from flax import nnx
    >>> from hypersphere import linen, nn
    >>> x = jax.random.normal(jax.random.key(0), (1, 8, 8, 3))
    >>> old = nn.SphereConv(3, 4, (3, 3), rngs=nnx.Rngs(0))
    >>> new = linen.SphereConv(4, (3, 3))
    >>> params = nnx.to_pure_dict(nnx.state(old, nnx.Param))
    >>> bool(jnp.array_equal(new.apply({"params": params}, x), old(x)))
    True

    And back:

    >>> variables = new.init(jax.random.key(1), x)
    >>> nnx.update(old, variables["params"])
    >>> bool(jnp.array_equal(new.apply(variables, x), old(x)))
    True

    Running means take the same way, with `nnx.BatchStat` in place of `nnx.Param` and
    "batch_stats" in place of "params".
"""

from hypersphere.linen._conv import (
    DecoupledConv as DecoupledConv,
    SphereConv as SphereConv,
)
from hypersphere.linen._dense import (
    SphereDense as SphereDense,
    SphereDenseGeneral as SphereDenseGeneral,
)
from hypersphere.linen._head import AngularHead as AngularHead
from hypersphere.linen._norm import SphereNorm as SphereNorm
from hypersphere.linen._similarity import (
    LearnableSigmoid as LearnableSigmoid,
    Scaled as Scaled,
    SharpenedCosine as SharpenedCosine,
)
from hypersphere.linen._spherize import spherize as spherize
from hypersphere.linen._transpose import SphereConvTranspose as SphereConvTranspose
from hypersphere.ops import max_abs_pool as max_abs_pool
