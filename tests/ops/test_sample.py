"""Classes chosen for a step."""

import functools

import jax
import jax.numpy as jnp
import numpy as np
import pytest

from hypersphere import ops
from tests import helpers

CASES = {  # classes, shards, share, batch
    "one part": (100, 1, 0.1, 6),
    "uneven parts": (101, 4, 0.3, 6),
    "all": (7, 1, 1.0, 20),
    "as many as the batch may have": (64, 8, 0.01, 5),
}


@pytest.fixture(
    params=helpers.sampled(CASES, "uneven parts"),
    scope="module",
)
def drawn(request):
    """60 draws: of labels, the chosen classes and the places of labels in them."""
    classes, shards, share, batch = CASES[request.param]
    rng = np.random.default_rng(0)
    labels = rng.integers(0, classes, (60, batch)).astype(np.int32)
    one = functools.partial(
        ops.sample_classes, num_classes=classes, share=share, shards=shards
    )
    keys = jax.random.split(jax.random.key(0), 60)
    chosen, places = jax.jit(jax.vmap(one))(keys, labels)
    return (classes, shards, share), labels, np.asarray(chosen), np.asarray(places)


def test_each_class_is_there_once_and_those_of_the_batch_are_found(drawn):
    (classes, _, share), labels, chosen, places = drawn
    assert chosen.min() >= 0 and chosen.max() < classes
    assert all(len(set(one)) == len(one) for one in chosen)
    np.testing.assert_array_equal(np.take_along_axis(chosen, places, 1), labels)
    assert chosen.shape[1] >= share * classes - 1


def test_every_shard_has_as_many_of_its_own(drawn):
    (classes, shards, _), _, chosen, _ = drawn
    size = -(-classes // shards)
    own = chosen.reshape(60, shards, -1) // size
    np.testing.assert_array_equal(
        own, np.broadcast_to(np.arange(shards)[:, None], own.shape)
    )


@pytest.mark.slow
def test_all_others_are_chosen_as_often():
    labels = jnp.array([3, 40, 41])
    one = lambda key: ops.sample_classes(key, labels, 53, share=0.2)[0]  # noqa: E731
    chosen = jax.jit(jax.vmap(one))(jax.random.split(jax.random.key(1), 20_000))
    often = np.bincount(np.asarray(chosen).ravel(), minlength=53) / 20_000
    assert (often[[3, 40, 41]] == 1).all()
    others = np.delete(often, [3, 40, 41])
    # 8 of 50 each; the standard error of one is 0.0026.
    np.testing.assert_allclose(others, 8 / 50, atol=0.013)


def test_too_few_classes_in_a_shard_are_told():
    with pytest.raises(ValueError, match="13, got `share=0.25` and 50 classes on 4 sh"):
        ops.sample_classes(
            jax.random.key(0), jnp.zeros(16, jnp.int32), 50, share=0.25, shards=4
        )
