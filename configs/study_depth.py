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
    python results/depth.py results/small/study_depth --plot

Reached: 12 runs, 222 to 504 seconds each on one core with other work beside it. Both
train; linear is 1.8 points (-0.3 to 3.9) less accurate at 18 layers and 2.2 (-1.5 to
5.8) at 27, which three runs do not show beyond chance. Gradients grow towards the
image, in both: docs/results.md.
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
