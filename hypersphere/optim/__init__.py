"""Optax transformations for filters whose direction is all that counts."""

from hypersphere.optim._columns import (
    Columns as Columns,
    put_columns as put_columns,
    take_columns as take_columns,
)
from hypersphere.optim._half import in_float32 as in_float32
from hypersphere.optim._projection import keep_unit_norm as keep_unit_norm
