"""Pictures made from a run's files; needs matplotlib, the `viz` extra."""

from hypersphere.viz._curves import (
    learning_curve as learning_curve,
    moving_average as moving_average,
)
from hypersphere.viz._draw import draw as draw, draw_comparison as draw_comparison
from hypersphere.viz._feature_set import FeatureSet as FeatureSet
from hypersphere.viz._features import features as features, side_by_side as side_by_side
from hypersphere.viz._filters import (
    filter_angles as filter_angles,
    pairwise_angles as pairwise_angles,
    random_angle_density as random_angle_density,
)
from hypersphere.viz._geometry import (
    direction_density as direction_density,
    principal_plane as principal_plane,
)
from hypersphere.viz._grid import Bundle as Bundle, curve_grid as curve_grid
from hypersphere.viz._judged import (
    class_angles as class_angles,
    confusion as confusion,
    gallery as gallery,
    globe as globe,
    pair_angles as pair_angles,
    roc_curves as roc_curves,
)
from hypersphere.viz._layers import layer_curves as layer_curves
from hypersphere.viz._metrics import read_metrics as read_metrics
from hypersphere.viz._softness import softness as softness
from hypersphere.viz._style import PALETTE as PALETTE, save as save
