"""Every public name."""

import types

from hypersphere import linen, losses, nn, ops, optim, regularizers
from hypersphere.ops import magnitudes

MODULES = {
    "nn": nn,
    "linen": linen,
    "losses": losses,
    "regularizers": regularizers,
    "optim": optim,
    "ops": ops,
    "ops.magnitudes": magnitudes,
}


def public():
    """Every public name: of `ops` too."""
    return {
        f"{module}.{name}": value
        for module, content in MODULES.items()
        for name, value in vars(content).items()
        if not name.startswith("_")
        and callable(value)  # no constants
        and not isinstance(value, types.ModuleType)
        # A file, unlike a package, has what it imports among its names.
        and (content is not magnitudes or value.__module__ == content.__name__)
    }
