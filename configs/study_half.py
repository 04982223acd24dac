r"""Plain and linear networks with half of the published filters, at the rate they want.

Claim: Liu et al., NIPS 2017, on widths: very narrow spherical networks may be slightly
worse, wider ones are better.

Recipe: `study_operators.py` with half of the filters, at the rate that
`study_half_rates.py` has chosen on validation images with other seeds.

Decided before the first run: accuracy on test images after the last step, recalibrated;
seeds 0 to 9; linear against plain, Welch's interval, equivalence with a margin of one
point.

Command:
    python train.py --config=configs/study_half.py:operator=linear --workdir=runs/half
    python -m hypersphere.experiments run configs/study_half.py:scale=small --seeds=10
    python -m hypersphere.experiments compare results/small/study_half --by=operator \
        --to=plain

Reached: 20 runs of 470 to 657 seconds on one core with other work beside it. Linear is
as accurate as plain to within a point: -0.2 (-0.4 to 0.0), 75.8 and 76.0 %:
docs/results.md.
"""

from configs import study_operators
from hypersphere.experiments import family
from hypersphere.training import TrainConfig

RATE = 3e-3


@family(operator=("plain", "linear"))
def get_config(operator: str, scale: str) -> TrainConfig:
    config = study_operators.get_config(f"operator={operator},scale={scale}")
    config.model.width = 0.5
    config.optim.learning_rate = RATE
    return config
