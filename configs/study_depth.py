r"""Depth without shortcuts, long enough to leave chance.

Claim: Liu et al., NIPS 2017, the table of depths: plain networks of 45 and 60 layers do
not train, spherical ones do. `ablation_depth.py` had half an epoch for that. This one
has fewer layers and neither supports nor refutes it.

Recipe: `study_operators.py` with 18 or 27 convolutions in the stages, at the authors'
rate of 1e-3, which is not chosen for these depths. Without penalties, so that the norm
of the gradient of each layer, which is logged with the angle that a step turns its
filters by, is that of the loss. A spherical filter's gradient is the shorter the longer
the filter is: compare angles.

Exploratory: three seeds, recalibrated accuracy on test images, linear against plain at
each depth.

Command:
    python train.py --config=configs/study_depth.py:depth=27,operator=linear \
        --workdir=runs/depth27
    python -m hypersphere.experiments run configs/study_depth.py:scale=small --seeds=3
    python -m hypersphere.experiments compare results/small/study_depth \
        --within=depth --by=operator --to=plain

Reached: not run yet.
"""

from configs import study_operators
from hypersphere.experiments import family
from hypersphere.training import TrainConfig


@family(depth=(18, 27), operator=("plain", "linear"))
def get_config(depth: int, operator: str, scale: str) -> TrainConfig:
    config = study_operators.get_config(f"operator={operator},scale={scale}")
    config.model.depth = depth
    config.optim.learning_rate = 1e-3
    config.optim.orthogonality = config.optim.l2 = 0.0
    config.log_geometry = True
    return config
