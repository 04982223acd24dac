"""How many numbers a network learns, without computing any."""

import math
from typing import NamedTuple

from flax import nnx


class Count(NamedTuple):
    kernels: int
    norms: int
    others: int


def shapes(make, **arguments):
    """Path and shape of every parameter."""
    net = nnx.eval_shape(lambda: make(**arguments, rngs=nnx.Rngs(0)))
    flat = nnx.to_flat_state(nnx.state(net, nnx.Param))
    return {path: leaf.shape for path, leaf in flat}


def count(make, **arguments):
    kernels = norms = others = 0
    for path, shape in shapes(make, **arguments).items():
        size = math.prod(shape)
        if path[-1] == "kernel":
            kernels += size
        elif "norm" in path:
            norms += size
        else:
            others += size
    return Count(kernels, norms, others)


IMAGENET = dict(num_classes=1000, image_size=224)
