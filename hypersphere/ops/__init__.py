"""Pure functions on arrays: every formula of the package, once.

Angles are in radians. `eps` is the smallest length that counts, in the units of the
input.
"""

from hypersphere.ops import magnitudes as magnitudes
from hypersphere.ops._additive import (
    PAST_PI as PAST_PI,
    additive_margin as additive_margin,
)
from hypersphere.ops._angles import (
    angle as angle,
    arcsin as arcsin,
    clip_cosine as clip_cosine,
    l2_norm as l2_norm,
    unit as unit,
)
from hypersphere.ops._chunked import (
    ChunkedCosines as ChunkedCosines,
    nearest_subcentre as nearest_subcentre,
)
from hypersphere.ops._conv import (
    sphere_conv as sphere_conv,
    sphere_conv_general_dilated as sphere_conv_general_dilated,
)
from hypersphere.ops._decoupled import (
    decoupled_conv as decoupled_conv,
    decoupled_conv_general_dilated as decoupled_conv_general_dilated,
)
from hypersphere.ops._dense import (
    angular_head as angular_head,
    sphere_dense as sphere_dense,
    sphere_dot_general as sphere_dot_general,
)
from hypersphere.ops._einsum import (
    einsum_filters as einsum_filters,
    sphere_einsum as sphere_einsum,
)
from hypersphere.ops._length import WithLength as WithLength
from hypersphere.ops._patch import patch_norm as patch_norm
from hypersphere.ops._pool import max_abs_pool as max_abs_pool
from hypersphere.ops._sample import sample_classes as sample_classes
from hypersphere.ops._similarity import (
    Cosine as Cosine,
    Linear as Linear,
    Sigmoid as Sigmoid,
    Similarity as Similarity,
    SquaredCosine as SquaredCosine,
    learned_power as learned_power,
    learned_softness as learned_softness,
    margin_response as margin_response,
    sharpened_cosine as sharpened_cosine,
    sigmoid as sigmoid,
)
from hypersphere.ops._sphere import (
    exponential_map as exponential_map,
    geodesic_distance as geodesic_distance,
    logarithm_map as logarithm_map,
    tangent as tangent,
    transport as transport,
)
from hypersphere.ops._transpose import sphere_conv_transpose as sphere_conv_transpose
