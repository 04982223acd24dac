"""Every public name says what its arguments are, and shows how it is used."""

import inspect
import re

import pytest
from flax import linen as flax_linen

from tests import public


def section(docstring, title):
    """The indented text under a title of a docstring, or nothing."""
    found = re.search(rf"^{title}:\n((?:(?: .*)?\n?)*)", docstring, re.MULTILINE)
    return found and found[1]


@pytest.mark.parametrize("name", sorted(set(public.public()) - {"ops.Similarity"}))
def test_the_docstring_names_every_argument_and_shows_an_example(name):
    value = public.public()[name]
    docstring = inspect.getdoc(value)
    assert ">>> " in (section(docstring, "Example") or "")
    arguments = section(docstring, "Args") or ""
    function = value.__init__ if isinstance(value, type) else value
    if isinstance(value, type) and issubclass(value, tuple):
        function = value.__new__
    parameters = inspect.signature(function).parameters
    needed = [name for name in parameters if name not in ("self", "_cls")]
    described = re.findall(r"^    (\w+): \S", arguments, re.MULTILINE)
    if isinstance(value, type) and issubclass(value, flax_linen.Module):
        inherited = options_of_flax(value)
        needed = [name for name in needed if name not in inherited]
        if not inherited <= {"parent", "name"}:
            assert described.pop().endswith("_arguments")
            summary = arguments[arguments.index("_arguments: ") :].split()
            names = {word.strip(".,") for word in summary}
            assert inherited <= names or "`linen.SphereConv`." in summary
        # Fields taken by name only come in the order of the classes they are from.
        first = [
            p
            for p in needed
            if parameters[p].kind is not inspect.Parameter.KEYWORD_ONLY
        ]
        assert described[: len(first)] == first
        needed, described = sorted(needed), sorted(described)
    assert described == needed


def options_of_flax(layer):
    """The fields with a default that a Linen layer has from Flax."""
    base = next(c for c in layer.__mro__ if c.__module__.startswith("flax."))
    parameters = inspect.signature(base.__init__).parameters.values()
    options = {p.name for p in parameters if p.default is not p.empty}
    return options | {"parent", "name"}


def test_a_missing_argument_of_a_docstring_is_noticed():
    docstring = "One.\n\nArgs:\n    a: First.\n        More.\n\nExample:\n    >>> 1\n"
    assert section(docstring, "Args") == "    a: First.\n        More.\n\n"
    assert section(docstring, "Example") == "    >>> 1\n"
    assert section(docstring, "Raises") is None
