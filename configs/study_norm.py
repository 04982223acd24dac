r"""Small batches, SphereNorm and no normalization, each network at its own rate.

Claim: Liu et al., NIPS 2017: spherical networks train without batch normalization, and
do not mind small batches; SphereNorm, in place of batch normalization or beside it, is
theirs as well.

Recipe: `cifar10_sphere.py` for as many images in every arm (64,000 at scale=small), at
the rate that `study_norm_rates.py` chose for each network. An arm is what follows the
convolutions and how many images a batch has, as there: `plain` stands for the cosine
where SphereNorm is.

Decided before the first run: accuracy on test images after the last step, recalibrated
where there is batch normalization; seeds 0 to 2; linear against plain within each arm,
Welch's intervals, Holm over the eight. What an arm loses to another one is exploratory.

Command:
    python train.py --config=configs/study_norm.py:arm=batch_4,operator=linear \
        --workdir=runs/norm
    python -m hypersphere.experiments run configs/study_norm.py:scale=small --seeds=3
    python -m hypersphere.experiments compare results/small/study_norm \
        --within=arm --by=operator --to=plain

Reached: 48 runs of 24 to 67 seconds on one core: docs/results.md.
"""

from configs import study_norm_rates, study_rates
from hypersphere.experiments import family
from hypersphere.training import TrainConfig

# Arm -> times 1e-2 and the root of a batch's share of 64 images, plain and linear.
TIMES = {
    "batch_64": (1.0, 1.0),
    "batch_16": (1.0, 1.0),
    "batch_4": (1.0, 1.0),
    "sphere_64": (0.1, 0.1),
    "sphere_16": (0.1, 0.1),
    "sphere_4": (0.3, 0.1),
    "none_64": (0.1, 0.3),
    "both_64": (1.0, 1.0),
}


@family(arm=study_norm_rates.ARMS, operator=study_norm_rates.OPERATORS)
def get_config(arm: str, operator: str, scale: str) -> TrainConfig:
    times = TIMES[arm][study_norm_rates.OPERATORS.index(operator)]
    config = study_norm_rates.get_config(
        f"times={times},arm={arm},operator={operator},scale={scale}"
    )
    study_rates.hold_nothing_back(config)
    return config
