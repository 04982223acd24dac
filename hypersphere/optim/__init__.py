"""Optax transformations for filters whose direction is all that counts."""

from hypersphere.optim._adamp import adamp as adamp, sgdp as sgdp
from hypersphere.optim._columns import (
    Columns as Columns,
    put_columns as put_columns,
    take_columns as take_columns,
)
from hypersphere.optim._effective import (
    effective_learning_rate as effective_learning_rate,
)
from hypersphere.optim._half import in_float32 as in_float32
from hypersphere.optim._hyperball import (
    hyperball as hyperball,
    spherical as spherical,
)
from hypersphere.optim._muon import (
    manifold_muon as manifold_muon,
    scale_by_filter_rms as scale_by_filter_rms,
)
from hypersphere.optim._projection import (
    keep_norm as keep_norm,
    keep_unit_norm as keep_unit_norm,
    with_lengths_of as with_lengths_of,
)
from hypersphere.optim._riemannian import (
    riemannian_adam as riemannian_adam,
    riemannian_sgd as riemannian_sgd,
    tangent_projection as tangent_projection,
)
