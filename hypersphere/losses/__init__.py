"""Losses, one number per example: on cosines to class centres, and on plain scores.

Which one, with class centres? Begin with `normface` and sweep its `scale`: it decides
more than a margin, which adds little where classes are few or examples many. Then
`arcface` (radians!) or `cosface` (a cosine), with `detach_margin=True` in half
precision; `sphereface` and `ga_softmax` multiply the angle. `adaface` and `magface`
look at the features' lengths, for images of mixed quality; `curricularface`, `adacos`
and `madacos` follow the training; `sphereface2` couples no classes.
"""

from hypersphere.losses._adaptive import (
    AdaFaceState as AdaFaceState,
    CurricularFaceState as CurricularFaceState,
    adaface as adaface,
    curricularface as curricularface,
    magface as magface,
)
from hypersphere.losses._binary import (
    sphereface2 as sphereface2,
    sphereface2_bias as sphereface2_bias,
)
from hypersphere.losses._centres import weighted_mean as weighted_mean
from hypersphere.losses._cosines import (
    raise_hardest as raise_hardest,
    subcentre_outliers as subcentre_outliers,
    without_similar as without_similar,
)
from hypersphere.losses._fitted import (
    AdaCosState as AdaCosState,
    adacos as adacos,
    adacos_start as adacos_start,
    madacos as madacos,
)
from hypersphere.losses._margin import (
    a_softmax as a_softmax,
    annealed_margin_weight as annealed_margin_weight,
    ga_softmax as ga_softmax,
    margin_ramp as margin_ramp,
)
from hypersphere.losses._proxies import (
    arcface as arcface,
    combined_margin as combined_margin,
    cosface as cosface,
    normface as normface,
    sphereface as sphereface,
    sphereface_r as sphereface_r,
)
from hypersphere.losses._softmax import softmax as softmax, w_softmax as w_softmax
from hypersphere.losses._spherical import (
    spherical_logits as spherical_logits,
    spherical_softmax as spherical_softmax,
    taylor_softmax as taylor_softmax,
    z_loss as z_loss,
)
from hypersphere.ops import nearest_subcentre as nearest_subcentre
