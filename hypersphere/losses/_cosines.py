"""From cosines to cosines: what comes before a loss on class centres."""

import jax
import jax.numpy as jnp
from jaxtyping import Array, Float, Int

from hypersphere import ops
from hypersphere.losses._centres import check, check_angle
from hypersphere.losses._chunked import Cosines, need_all
from hypersphere.losses._softmax import right, widened


def subcentre_outliers(
    cos: Float[Array, "batch classes centres"],
    labels: Int[Array, " batch"],
    *,
    beyond: float = 1.3089969,
) -> tuple[Int[Array, " batch"], Array]:
    """Which centre of its class an example belongs to, and whether it is far from it.

    Count the first over a training set: the centre that most examples of a class
    belong to is its dominant one, and examples of others are noise, as are those that
    are far away. Leave them out and train again with one centre.

    Args:
        cos: Cosines to all centres, in [-1, 1].
        labels: Index of the right class.
        beyond: The angle in radians from which on an example is far, in [0, pi]; the
            default is 75 degrees.

    Returns:
        The index of the centre of each example, and whether it is far, both of shape
        (batch,).

    Raises:
        ValueError: If `beyond` is not in [0, pi].

    Example:
        >>> import jax.numpy as jnp
        >>> from hypersphere import losses
        >>> cos = jnp.array([[[0.1, 0.7], [0.4, 0.2]]])
        >>> losses.subcentre_outliers(cos, jnp.array([0]))
        (Array([1], dtype=int32), Array([False], dtype=bool))

    References:
        Deng et al., Sub-center ArcFace, ECCV 2020.
    """
    check_angle("subcentre_outliers", beyond=beyond)
    own = jnp.take_along_axis(cos, labels[:, None, None], axis=1)[:, 0]
    index = jnp.argmax(own, axis=-1)
    return index, ops.angle(jnp.max(own, axis=-1)) > beyond


def without_similar(
    cos: Cosines,
    labels: Int[Array, " batch"],
    *,
    above: float = 0.4,
) -> Float[Array, "batch classes"]:
    """Cosines where wrong classes that are very near are taken for right angles.

    For sets in which one person has several classes (inter-class filtering). They stay
    in the sum of the softmax, as classes of cosine zero.

    Args:
        cos: Cosine between each feature and each class centre, in [-1, 1].
        labels: Index of the right class, in [0, classes).
        above: The cosine above which a wrong class is left out.

    Returns:
        The cosines, for any loss.

    Raises:
        ValueError: If shapes or a label do not fit.

    Example:
        >>> import jax.numpy as jnp
        >>> from hypersphere import losses
        >>> cos = jnp.array([[0.9, 0.5], [0.2, 0.8]])
        >>> print(losses.without_similar(cos, jnp.array([0, 1])))
        [[0.9 0. ]
         [0.2 0.8]]

    References:
        An et al., Killing Two Birds with One Stone (Partial FC), CVPR 2022.
        https://arxiv.org/abs/2203.15565
    """
    cos = need_all("without_similar", cos)
    check("without_similar", cos, labels, only_indices=True)
    is_left_out = ~right(labels, cos.shape[-1]) & (cos > above)
    return jnp.where(is_left_out, 0, cos)


def raise_hardest(
    cos: Cosines,
    labels: Int[Array, " batch"],
    *,
    margin: float = 0.06,
    count: int = 5,
) -> Float[Array, "batch classes"]:
    """Cosines where the nearest wrong classes are nearer by `margin` radians.

    The inter-topk penalty of speaker verification: follow it by `arcface`.

    Args:
        cos: Cosine between each feature and each class centre, in [-1, 1].
        labels: Index of the right class, in [0, classes).
        margin: What is taken from their angles, in radians, in [0, pi].
        count: How many wrong classes, fewer than there are classes.

    Returns:
        The cosines, for any loss, in float32 or wider.

    Raises:
        ValueError: If shapes, a label or a number do not fit.

    Example:
        >>> import jax.numpy as jnp
        >>> from hypersphere import losses
        >>> cos = jnp.array([[0.9, 0.5, 0.1]])
        >>> raised = losses.raise_hardest(cos, jnp.array([0]), margin=0.1, count=1)
        >>> [round(float(each), 3) for each in raised[0]]
        [0.9, 0.584, 0.1]

    References:
        Zhao et al., Multi-Query Multi-Head Attention Pooling and Inter-TopK Penalty,
        2021. https://arxiv.org/abs/2110.05042
    """
    cos = need_all("raise_hardest", cos)
    check("raise_hardest", cos, labels, only_indices=True)
    check_angle("raise_hardest", margin=margin)
    if not 1 <= count < cos.shape[-1]:
        raise ValueError(
            "`raise_hardest` needs `1 <= count < classes`, got "
            f"`count={count}` and {cos.shape[-1]} classes."
        )
    is_right = right(labels, cos.shape[-1])
    _, index = jax.lax.top_k(jnp.where(is_right, -jnp.inf, cos), count)
    is_hard = jnp.any(
        index[..., None] == jnp.arange(cos.shape[-1])[None, None], axis=-2
    )
    wide = widened(cos)
    raised = jnp.cos(jnp.maximum(ops.angle(wide) - margin, 0))
    return jnp.where(is_hard, raised, wide)
