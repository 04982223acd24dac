"""Pure functions on arrays: every formula of the package, once.

Angles are in radians. `eps` is the smallest length that counts, in the units of the
input.
"""

from hypersphere.ops._angles import (
    angle as angle,
    arcsin as arcsin,
    clip_cosine as clip_cosine,
    l2_norm as l2_norm,
    unit as unit,
)
from hypersphere.ops._conv import (
    sphere_conv as sphere_conv,
    sphere_conv_general_dilated as sphere_conv_general_dilated,
    sphere_dense as sphere_dense,
)
from hypersphere.ops._patch import patch_norm as patch_norm
from hypersphere.ops._similarity import (
    Cosine as Cosine,
    Linear as Linear,
    Sigmoid as Sigmoid,
    Similarity as Similarity,
    margin_response as margin_response,
    sigmoid as sigmoid,
)
