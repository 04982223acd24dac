"""Flax NNX layers: parameters plus one call to a function of `hypersphere.ops`."""

from hypersphere.nn._attention import CosineAttention as CosineAttention
from hypersphere.nn._conv import (
    DecoupledConv as DecoupledConv,
    SphereConv as SphereConv,
)
from hypersphere.nn._directions import directions as directions
from hypersphere.nn._einsum import SphereEinsum as SphereEinsum
from hypersphere.nn._find import (
    plain_layers as plain_layers,
    spherical_layers as spherical_layers,
)
from hypersphere.nn._head import AngularHead as AngularHead
from hypersphere.nn._linear import (
    SphereLinear as SphereLinear,
    SphereLinearGeneral as SphereLinearGeneral,
)
from hypersphere.nn._norm import SphereNorm as SphereNorm
from hypersphere.nn._similarity import (
    LearnableSigmoid as LearnableSigmoid,
    Scaled as Scaled,
    SharpenedCosine as SharpenedCosine,
)
from hypersphere.nn._spherize import (
    spherize as spherize,
    unspherize as unspherize,
    with_similarity as with_similarity,
)
from hypersphere.nn._transpose import SphereConvTranspose as SphereConvTranspose
from hypersphere.ops import max_abs_pool as max_abs_pool
