"""How a Linen layer is held against its NNX twin."""

import jax
import jax.numpy as jnp
import numpy as np
from flax import nnx

KINDS = {"params": nnx.Param, "batch_stats": nnx.BatchStat}


def variables_of(layer):
    """What an NNX layer holds, as Linen has it."""
    held = {k: nnx.to_pure_dict(nnx.state(layer, kind)) for k, kind in KINDS.items()}
    return {collection: values for collection, values in held.items() if values}


def rebuilt(layer, variables):
    """A copy of an NNX layer that holds the values of its Linen twin."""
    copy = nnx.clone(layer)
    for values in variables.values():
        nnx.update(copy, values)
    return copy


def init_shapes(twin, x):
    """What `init` would make, without values."""
    return jax.eval_shape(lambda x: twin.init(jax.random.key(0), x), x)


def drawn(twin, x):
    """Variables drawn by NumPy, with kernels that keep activations at about one."""
    draw = np.random.default_rng(20171103)

    def fill(leaf):
        size = np.sqrt(2 * leaf.shape[-1] / leaf.size) if leaf.ndim > 1 else 0.1
        noise = draw.standard_normal(leaf.shape)
        return jax.device_put((size * noise).astype(leaf.dtype))

    return jax.tree.map(fill, init_shapes(twin, x))


def assert_same(ours, theirs):
    """The same tree of the same bits."""
    assert jax.tree.structure(ours) == jax.tree.structure(theirs)
    for one, other in zip(jax.tree.leaves(ours), jax.tree.leaves(theirs), strict=True):
        assert one.dtype == other.dtype
        np.testing.assert_array_equal(one, other)


def shapes(tree):
    return jax.tree.map(lambda a: (a.shape, a.dtype), tree)


def differentiated(respond):
    """Gradients and answers of `respond(variables, x)`."""

    def loss(params, x, rest):
        answers = respond({"params": params, **rest}, x)
        waves = [
            jnp.sum(jnp.sin(3 * a), dtype="float32") for a in jax.tree.leaves(answers)
        ]
        return jnp.sum(jnp.stack(waves)), answers

    slopes = jax.grad(loss, argnums=(0, 1), has_aux=True)

    def respond_too(variables, x):
        rest = {k: v for k, v in variables.items() if k != "params"}
        return slopes(variables["params"], x, rest)

    return respond_too


def assert_twins(layer, twin, x, *, gradients=False):
    """Equal parameter trees and compiled answers, and gradients where asked for."""
    variables = variables_of(layer)
    assert shapes(init_shapes(twin, x)) == shapes(variables)
    pair = [twin.apply, lambda variables, x: rebuilt(layer, variables)(x)]
    if gradients:
        pair = list(map(differentiated, pair))
    # One program: what the two have in common, which should be all, is compiled once.
    both = jax.jit(lambda *arguments: [respond(*arguments) for respond in pair])
    ours, theirs = both(variables, x)
    assert_same(ours, theirs)
    if gradients:
        assert all(np.asarray(g).any() for g in jax.tree.leaves(ours[0]))
