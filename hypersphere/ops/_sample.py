"""Which classes a step looks at, where there are too many for all."""

import math

import jax
import jax.numpy as jnp
from jaxtyping import Array, Int


def sample_classes(
    key: jax.Array,
    labels: Int[Array, " batch"],
    num_classes: int,
    *,
    share: float,
    shards: int = 1,
) -> tuple[Int[Array, " chosen"], Int[Array, " batch"]]:
    """All classes of a batch, and of the others at random as many as make a share.

    The others are spread evenly: each lies in a stretch of classes of its own, and the
    stretches begin elsewhere with every key.

    Args:
        key: Of the draw.
        labels: Index of the right class of each example, in [0, num_classes).
        num_classes: How many classes there are.
        share: How many of them are chosen, in (0, 1]; never fewer than the batch may
            have.
        shards: Equal neighbouring parts of the classes, the last one perhaps shorter;
            as many are chosen of each.

    Returns:
        The chosen classes, each once, those of the first shard first; and where in them
        the right class of each example is.

    Raises:
        ValueError: If the share is not in (0, 1], or the last shard has too few
            classes.

    Example:
        >>> import jax, jax.numpy as jnp
        >>> from hypersphere import ops
        >>> key, labels = jax.random.key(0), jnp.array([7, 90, 7])
        >>> classes, places = ops.sample_classes(key, labels, 100, share=0.1)
        >>> classes.shape, classes[places]
        ((10,), Array([ 7, 90,  7], dtype=int32))

    References:
        An et al., Partial FC, CVPR 2022. https://arxiv.org/abs/2203.15565
    """
    size = math.ceil(num_classes / shards)
    count = min(max(math.ceil(share * size), min(len(labels), size)), size)
    last = num_classes - size * (shards - 1)
    if not 0 < share <= 1 or last < count:
        raise ValueError(
            "`sample_classes` needs a `share` in (0, 1] and in each shard as many "
            f"classes as are chosen of it, {count}, got `share={share!r}` and "
            f"{num_classes} classes on {shards} shards, the last one with "
            f"{max(last, 0)}; a batch of {len(labels)} may need as many. Take a "
            "smaller share or batch, fewer shards (`config.mesh.model`), or all "
            "classes."
        )
    labels = labels.astype(jnp.int32)

    def of_shard(shard: Array, key: Array) -> tuple[Array, Array]:
        present = jnp.minimum(num_classes - shard * size, size)
        inside = labels - shard * size
        is_here = (inside >= 0) & (inside < size)
        here, most = jnp.where(is_here, inside, size), min(len(labels), size)
        right = jnp.unique(here, size=most, fill_value=size)
        places = shard * count + jnp.searchsorted(right, inside)
        chosen = shard * size + _chosen(key, right, present, count)
        return chosen, jnp.where(is_here, places, 0)

    every = jnp.arange(shards, dtype=jnp.int32)
    classes, places = jax.vmap(of_shard)(every, jax.random.split(key, shards))
    return classes.reshape(-1), jnp.sum(places, axis=0)


def _chosen(key: Array, right: Array, present: Array, count: int) -> Array:
    """The right classes, and others up to a count.

    Args:
        key: Of the draw.
        right: In rising order, each once; filled up with what is too large.
        present: How many classes there are.
        count: How many are chosen.
    """
    number = jnp.sum(right < present)
    others, wanted = present - number, count - number
    # Stretch i of the others, in their order: they differ in length by at most one.
    index = jnp.maximum(jnp.arange(count) - number, 0)
    length, longer = others // jnp.maximum(wanted, 1), others % jnp.maximum(wanted, 1)
    begin = index * length + jnp.minimum(index, longer)
    of_turn, of_place = jax.random.split(key)
    width = jnp.maximum(length + (index < longer), 1)
    drawn = begin + jax.random.randint(of_place, (count,), 0, width)
    turn = jax.random.randint(of_turn, (), 0, jnp.maximum(others, 1))
    rank = (drawn + turn) % jnp.maximum(others, 1)
    # The class of a rank is that, and one more for every right class up to there.
    before = jnp.where(right < present, right - jnp.arange(len(right)), present)
    classes = rank + jnp.searchsorted(before, rank, side="right")
    return jnp.where(jnp.arange(count) < number, _filled(right, count), classes)


def _filled(x: Array, count: int) -> Array:
    return jnp.pad(x, (0, max(count - len(x), 0)))[:count]
