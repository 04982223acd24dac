"""Scalar penalties on kernels."""

from hypersphere.regularizers._orthogonality import orthogonality as orthogonality
