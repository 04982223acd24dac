"""Losses on cosines, one number per example."""

from hypersphere.losses._margin import (
    a_softmax as a_softmax,
    annealed_margin_weight as annealed_margin_weight,
    ga_softmax as ga_softmax,
)
from hypersphere.losses._softmax import softmax as softmax, w_softmax as w_softmax
