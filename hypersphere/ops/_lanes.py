"""Which axis lies across the lanes of a TPU's vector registers.

A spherical layer multiplies all features of a pixel by one number. Where features lie
across the lanes, as XLA lays out answers of 128 features, the number is first spread
over these, which a v5e or v6e takes longer for than for the convolution beside it;
where the examples of a batch do, it is multiplied as it is. So there answers of up to
128 features are laid out by examples. Layers of more features, 1x1 layers and other
chips would lose more than they win.
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
    examples, features = answers.shape[batch], answers.shape[channel]
    if examples % _LANES or features > _LANES or window == 1:
        return answers
    kind, devices = _machine()
    if examples % (_LANES * devices) or not kind.endswith("lite"):  # a v5e or v6e
        return answers
    rest = (axis for axis in range(answers.ndim) if axis not in (batch, channel))
    layout = Layout((*rest, channel, batch))  # from the slowest axis to the fastest
    return lax.platform_dependent(
        answers,
        tpu=lambda answers: with_layout_constraint(answers, layout),
        default=lambda answers: answers,
    )


def _machine() -> tuple[str, int]:
    """The kind of the devices, and how many of them may share a batch.

    Those of the mesh in use; without one all that are here.
    """
    mesh = jax.sharding.get_abstract_mesh()
    if mesh.empty or mesh.abstract_device is None:
        return jax.devices()[0].device_kind, jax.device_count()
    axes = zip(mesh.axis_sizes, mesh.axis_types, strict=True)
    shared = (size for size, kind in axes if kind != AxisType.Manual)
    return mesh.abstract_device.device_kind, math.prod(shared)
