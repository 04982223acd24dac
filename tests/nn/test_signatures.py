"""Our layers take every argument that the installed Flax gives theirs."""

import functools
import inspect
import re

import jax
import numpy as np
import pytest
from flax import nnx

from hypersphere import nn

PAIRS = {
    nn.SphereConv: nnx.Conv,
    nn.DecoupledConv: nnx.Conv,
    nn.SphereConvTranspose: nnx.ConvTranspose,
    nn.SphereLinear: nnx.Linear,
    nn.SphereLinearGeneral: nnx.LinearGeneral,
    nn.SphereEinsum: nnx.Einsum,
}
every_pair = pytest.mark.parametrize(("ours", "theirs"), PAIRS.items())
# Layers whose docstring refers to another's for the arguments of Flax.
LIKE = {nn.DecoupledConv: nn.SphereConv}


def missing(ours, theirs):
    """Arguments of Flax's layer that ours neither takes by name nor describes."""
    named = inspect.signature(ours.__init__).parameters
    text = inspect.getdoc(LIKE.get(ours, ours)) or ""
    sentence = re.search(r"Every other argument of `nnx\.\w+`,.*?\.", text, re.DOTALL)
    described = re.findall(r"\w+", sentence[0]) if sentence else []
    wanted = set(inspect.signature(theirs.__init__).parameters) - {"self"}
    return wanted - set(named) - set(described)


def changed_order_or_default(ours, theirs):
    """Arguments that ours names too, but elsewhere or with another default."""
    one, other = (inspect.signature(c.__init__).parameters for c in (ours, theirs))
    positional = lambda parameters: [  # noqa: E731
        p.name for p in parameters.values() if p.kind is p.POSITIONAL_OR_KEYWORD
    ]
    wrong = {
        name
        for name in set(one) & set(other)
        if one[name].default is not other[name].default
    }
    return wrong | set(positional(one)) ^ set(positional(other))


@every_pair
def test_help_shows_every_argument_and_its_default(ours, theirs):
    shown = inspect.signature(ours).parameters
    wanted = inspect.signature(theirs.__init__).parameters
    assert set(wanted) - {"self"} <= set(shown)
    assert shown["use_bias"].default is True if "use_bias" in wanted else True
    assert shown["eps"].default == 1e-2 and list(shown)[-1] == "rngs"
    kinds = {each.kind for each in shown.values()}
    assert inspect.Parameter.VAR_KEYWORD not in kinds


@every_pair
def test_every_argument_of_flax_is_taken(ours, theirs):
    assert missing(ours, theirs) == set()
    assert changed_order_or_default(ours, theirs) == set()


@every_pair
def test_an_argument_that_is_new_in_flax_is_noticed(ours, theirs, monkeypatch):
    plain = theirs.__init__

    @functools.wraps(plain)
    def newer(*args, **kwargs):
        return plain(*args, **kwargs)

    signature = inspect.signature(plain)
    new = inspect.Parameter("brand_new", inspect.Parameter.KEYWORD_ONLY, default=None)
    newer.__signature__ = signature.replace(
        parameters=[*signature.parameters.values(), new]
    )
    monkeypatch.setattr(theirs, "__init__", newer)
    assert missing(ours, theirs) == {"brand_new"}


def test_a_changed_default_is_noticed(monkeypatch):
    def __init__(self, in_features, out_features, *, rngs, eps=1e-2): ...

    monkeypatch.setattr(nnx.Linear, "__init__", __init__)
    monkeypatch.setattr(nn.SphereLinear, "__init__", lambda self, eps=1.0: None)
    assert "eps" in changed_order_or_default(nn.SphereLinear, nnx.Linear)


def test_a_summary_has_a_row_for_each_layer_and_no_other():
    conv = nn.SphereConv(3, 4, (3, 3), similarity=nn.LearnableSigmoid, rngs=nnx.Rngs(0))
    model = nnx.Sequential(conv, nn.SphereLinear(4, 2, rngs=nnx.Rngs(0)))
    x = jax.device_put(np.ones((1, 4, 4, 3), np.float32))
    table = nnx.tabulate(model, x, console_kwargs={"width": 200})
    paths = re.findall(r"layers/\S*", table)
    assert paths == ["layers/0", "layers/0/similarity", "layers/1"]
