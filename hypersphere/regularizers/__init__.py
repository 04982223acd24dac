"""Penalties on filters and features: what keeps them apart."""

from hypersphere.regularizers._energy import (
    covering as covering,
    gram_determinant as gram_determinant,
    hyperspherical_energy as hyperspherical_energy,
    length_variance as length_variance,
    nearest_cosine as nearest_cosine,
    polarization as polarization,
    random_projections as random_projections,
    separation as separation,
)
from hypersphere.regularizers._features import (
    alignment as alignment,
    koleo as koleo,
    uniformity as uniformity,
)
from hypersphere.regularizers._orthogonality import orthogonality as orthogonality
from hypersphere.regularizers._penalty import penalty as penalty
