"""Which parameters are directions: filters whose length changes no answer."""

import functools

from flax import nnx

from hypersphere._select import dotted


def directions(model: nnx.Module) -> dict[str, nnx.Param]:
    """The parameters of a model that are filters on a sphere, by their path.

    A layer says which of its parameters they are, by an attribute or a property
    `directions`: their names, such as `("kernel",)`, with a dot for those of a layer
    inside. One filter lies along each entry of such a parameter's last axis. The
    layers of this package do; a layer of yours may. The training program keeps weight
    decay and L2 away from them and the orthogonality penalty on them.

    A head's class centres are none, although only their directions count: the penalty
    is for filters. Neither is a transposed kernel, whose filters lie otherwise.

    Args:
        model: Any NNX module or, from `nnx.eval_shape`, its shapes.

    Returns:
        Each parameter under its dotted path in `nnx.state(model, nnx.Param)`.

    Raises:
        AttributeError: If a layer names a parameter that it does not have.

    Example:
        >>> from flax import nnx
        >>> from hypersphere import nn
        >>> rngs = nnx.Rngs(0)
        >>> layers = nn.SphereLinear(4, 3, rngs=rngs), nnx.Linear(3, 2, rngs=rngs)
        >>> list(nn.directions(nnx.Sequential(*layers)))
        ['layers.0.kernel']
    """
    known = {
        id(functools.reduce(getattr, name.split("."), module))
        for _, module in nnx.iter_modules(model)
        for name in getattr(module, "directions", ())
    }
    return {
        dotted(path): node for path, node in nnx.iter_graph(model) if id(node) in known
    }
