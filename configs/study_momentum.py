r"""Is the lead by running averages one of their momentum?

Claim: Liu et al., NIPS 2017: spherical networks converge faster, by running averages of
momentum 0.999. In `study_operators.py` they lead by these as well, by more once these
are debiased, and not by batch or recalibrated statistics.

Recipe: `study_operators.py` with a momentum of 0.999, as there, or of 0.99, Flax's
default. It decides on what is averaged and not on what is learned, so that with one
seed both networks have the same weights, and the same recalibrated accuracy.

Decided before the first run: accuracy on test images after the last step, by running
averages; seeds 30 to 35, which appear nowhere else; linear against plain at each
momentum, Welch's intervals, Holm over the two.

Command:
    python train.py --config=configs/study_momentum.py:momentum=0.99,operator=linear \
        --workdir=runs/momentum
    python -m hypersphere.experiments run configs/study_momentum.py:scale=small \
        --seeds=30-35
    python -m hypersphere.experiments compare results/small/study_momentum \
        --within=momentum --by=operator --to=plain --statistics=running

Reached: 24 runs of 95 to 207 seconds on one core with other work beside it. At 0.999
linear leads by 14.0 points (9.0 to 19.0), at 0.99 the same weights are 1.5 points (0.9
to 2.1) behind, as by batch and recalibrated statistics: docs/results.md.
"""

from configs import study_operators
from hypersphere.experiments import family
from hypersphere.training import TrainConfig


@family(momentum=(0.99, 0.999), operator=("plain", "linear"))
def get_config(momentum: float, operator: str, scale: str) -> TrainConfig:
    config = study_operators.get_config(f"operator={operator},scale={scale}")
    config.model.momentum = momentum
    return config
