"""Deep hyperspherical learning in JAX and Flax.

Layers that answer with the angle between filter and input, the networks, losses,
regularizers and optimizers that belong to them. `hypersphere.training` and
`hypersphere.data` are imported on request: they need the extra `[train]`.
"""

from hypersphere import (
    linen as linen,
    losses as losses,
    nn as nn,
    ops as ops,
    optim as optim,
    regularizers as regularizers,
)

__version__ = "0.1.0"
