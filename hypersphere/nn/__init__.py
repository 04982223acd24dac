"""Flax NNX layers: parameters plus one call to a function of `hypersphere.ops`."""

from hypersphere.nn._conv import SphereConv as SphereConv
from hypersphere.nn._linear import (
    AngularHead as AngularHead,
    SphereLinear as SphereLinear,
)
from hypersphere.nn._norm import SphereNorm as SphereNorm
from hypersphere.nn._similarity import LearnableSigmoid as LearnableSigmoid
