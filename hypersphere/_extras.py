"""Parts of the package that need more than its core."""

import importlib.util
from collections.abc import Sequence


def need(
    extra: str, modules: Sequence[str], *, who: str = "The training program"
) -> None:
    """Raises unless what an extra brings is installed.

    Args:
        extra: Of the package.
        modules: What is imported of it.
        who: Who needs it.

    Raises:
        ModuleNotFoundError: It names the first that is missing, and the extra.

    Example:
        >>> from hypersphere._extras import need
        >>> need("train", ("json",))
    """
    for name in modules:
        try:
            found = importlib.util.find_spec(name)
        except ModuleNotFoundError:  # of the package that it is in
            found = None
        if found is None:
            raise ModuleNotFoundError(
                f"{who} needs the package `{name}`, which is not "
                f"installed. `pip install 'hypersphere-jax[{extra}]'` brings it.",
                name=name,
            )
