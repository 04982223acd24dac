"""A penalty on a whole model."""

import functools

import jax.numpy as jnp
import numpy as np
import pytest
from flax import nnx

from hypersphere import nn, regularizers
from tests import helpers


class Net(nnx.Module):
    def __init__(self, rngs):
        self.layers = nnx.List([nn.SphereLinear(3, 4, rngs=rngs) for _ in range(2)])
        self.head = nnx.Linear(4, 2, rngs=rngs)


def squares(kernel):
    return jnp.sum(jnp.square(kernel))


@pytest.fixture(scope="module")
def net():
    return helpers.filled(lambda: Net(nnx.Rngs(0)))


def expected(net, first, second, head):
    kernels = [net.layers[0].kernel, net.layers[1].kernel, net.head.kernel]
    sums = [np.sum(np.asarray(kernel[...]) ** 2) for kernel in kernels]
    return np.dot((first, second, head), sums)


@pytest.mark.parametrize(
    ("where", "weights"),
    [
        (None, (0.1, 0.1, 1.0)),  # as published
        ("layers.*.kernel", (1, 1, 0)),
        ({"layers.1.*": 0.5, "*kernel": 2.0}, (2.0, 0.5, 2.0)),
    ],
)
def test_each_kernel_counts_with_the_weight_of_the_first_pattern(net, where, weights):
    fn = lambda x: squares(x) if x.ndim > 1 else 0.0  # noqa: E731  biases fit, too
    options = {} if where is None else {"where": where}
    for params in (net, nnx.state(net), nnx.to_pure_dict(nnx.state(net))):
        found = regularizers.penalty(params, fn, **options)
        np.testing.assert_allclose(found, expected(net, *weights), rtol=1e-6)


def test_published_regularizers_go_with_it(net):
    energy = functools.partial(regularizers.hyperspherical_energy, half_space=True)
    found = regularizers.penalty(net, energy, where="head.kernel")
    np.testing.assert_allclose(found, energy(net.head.kernel[...]), rtol=1e-6)


def test_patterns_that_fit_nothing_are_refused_with_what_there_is(net):
    for where in ("body.*", {"body.*": 1.0, "head.*": 1.0}):
        with pytest.raises(ValueError, match=r"\['body.*'\].*head.kernel, layers.0"):
            regularizers.penalty(net, squares, where=where)


def test_variables_of_linen_are_found_by_the_same_names(net):
    variables = {"params": nnx.to_pure_dict(nnx.state(net))}
    found = regularizers.penalty(variables, squares, where={"head.kernel": 2.0})
    np.testing.assert_allclose(found, expected(net, 0, 0, 2), rtol=1e-6)
