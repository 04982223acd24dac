"""Flax NNX layers: parameters plus one call to a function of `hypersphere.ops`."""

from hypersphere.nn._attention import CosineAttention as CosineAttention
from hypersphere.nn._conv import (
    DecoupledConv as DecoupledConv,
    SphereConv as SphereConv,
)
from hypersphere.nn._directions import directions as directions
from hypersphere.nn._head import AngularHead as AngularHead
from hypersphere.nn._linear import SphereLinear as SphereLinear
from hypersphere.nn._norm import SphereNorm as SphereNorm
from hypersphere.nn._similarity import (
    LearnableSigmoid as LearnableSigmoid,
    SharpenedCosine as SharpenedCosine,
)
from hypersphere.nn._spherize import (
    spherical_layers as spherical_layers,
    spherize as spherize,
)
from hypersphere.nn._transpose import SphereConvTranspose as SphereConvTranspose
from hypersphere.ops import max_abs_pool as max_abs_pool
