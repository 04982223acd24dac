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


def give_values(layer, draw):
    """Moves the parameters of an NNX layer away from where they start."""
    params = nnx.to_pure_dict(nnx.state(layer, nnx.Param))
    moved = jax.tree.map(lambda a: (a + 0.3 * draw(a.shape)).astype(a.dtype), params)
    nnx.update(layer, moved)


def assert_same(ours, theirs):
    """The same tree of the same bits."""
    assert jax.tree.structure(ours) == jax.tree.structure(theirs)
    for one, other in zip(jax.tree.leaves(ours), jax.tree.leaves(theirs), strict=True):
        assert one.dtype == other.dtype
        np.testing.assert_array_equal(one, other)


def shapes(tree):
    return jax.tree.map(lambda a: (a.shape, a.dtype), tree)


def differentiated(respond):
    """Answers and gradients of `respond(variables, x)`, compiled."""

    def loss(params, x, rest):
        answers = respond({"params": params, **rest}, x)
        waves = [
            jnp.sum(jnp.sin(3 * a), dtype="float32") for a in jax.tree.leaves(answers)
        ]
        return jnp.sum(jnp.stack(waves)), answers

    return jax.jit(jax.grad(loss, argnums=(0, 1), has_aux=True))


def assert_twins(layer, twin, x, draw, *, eager=False):
    """Equal parameter trees, and compiled answers and gradients; eager answers too."""
    give_values(layer, draw)
    variables = variables_of(layer)
    assert shapes(jax.eval_shape(twin.init, jax.random.key(0), x)) == shapes(variables)
    if eager:
        assert_same(twin.apply(variables, x), layer(x))
    graphdef = nnx.graphdef(layer)
    rest = {k: v for k, v in variables.items() if k != "params"}

    def respond(variables, x):
        merged = nnx.clone(nnx.merge(graphdef, nnx.state(layer)))
        for values in variables.values():
            nnx.update(merged, values)
        return merged(x)

    arguments = (variables["params"], x, rest)
    ours = differentiated(twin.apply)(*arguments)
    assert_same(ours, differentiated(respond)(*arguments))
    assert all(np.any(g) for g in jax.tree.leaves(ours[0]))
