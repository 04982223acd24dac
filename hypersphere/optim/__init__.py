"""Optax transformations for filters whose direction is all that counts."""

from hypersphere.optim._projection import keep_unit_norm as keep_unit_norm
