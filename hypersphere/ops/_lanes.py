"""Which axis lies across the lanes of a TPU's vector registers.

A spherical layer multiplies all features of a pixel by one number. Where features lie
across the lanes, as XLA lays out answers of 128 features, the number is first spread
over these, which takes longer than the convolution beside it; where the examples of a
batch do, it is multiplied as it is. So answers of up to 128 features are laid out by
examples. Layers of more features, and 1x1 layers, would lose more than they win.
"""

import math

import jax
from jax import lax
from jax.experimental.layout import Layout, with_layout_constraint
from jax.sharding import AxisType
from jaxtyping import Array

_LANES = 128


def batch_across(answers: Array, batch: int, channel: int, window: int) -> Array:
    """The same answers, on a TPU with examples across the lanes if that pays.

    `batch` and `channel` are axes; `window` is the number of pixels in one.
    """
    is_full = answers.shape[batch] % (_LANES * _parts_of_a_batch()) == 0
    if not is_full or answers.shape[channel] > _LANES or window == 1:
        return answers
    rest = (axis for axis in range(answers.ndim) if axis not in (batch, channel))
    layout = Layout((*rest, channel, batch))  # from the slowest axis to the fastest
    return lax.platform_dependent(
        answers,
        tpu=lambda answers: with_layout_constraint(answers, layout),
        default=lambda answers: answers,
    )


def _parts_of_a_batch() -> int:
    """How many devices a batch is divided over at most: those of the mesh in use."""
    mesh = jax.sharding.get_abstract_mesh()
    if mesh.empty:
        return jax.device_count()
    kinds = zip(mesh.axis_sizes, mesh.axis_types, strict=True)
    return math.prod(size for size, kind in kinds if kind != AxisType.Manual)
