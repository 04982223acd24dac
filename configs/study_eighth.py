r"""Plain and linear networks with an eighth of the filters, at the rate of a half.

Claim: none. `study_half.py` has other filters and another rate than
`study_operators.py`; this has the filters of the one and the rate of the other, so that
what changes between them is told apart.

Recipe: `study_operators.py` at 3e-3.

Decided before the first run, and after those of `study_half.py`: accuracy on test
images after the last step, recalibrated; seeds 0 to 9; linear against plain, Welch, and
how the difference changes from here to `study_half.py`, Satterthwaite.

Command:
    python train.py --config=configs/study_eighth.py:operator=linear \
        --workdir=runs/eighth
    python -m hypersphere.experiments run configs/study_eighth.py:scale=small \
        --seeds=10
    python -m hypersphere.experiments compare results/small/study_half \
        results/small/study_eighth --within=family --by=operator --to=plain \
        --change_from=family=study_eighth

Reached: 20 runs of 62 to 131 seconds on one core with other work beside it. Linear is
1.9 points (1.3 to 2.4) behind plain, and from here to half of the filters the
difference changes by +1.7 (1.1 to 2.3): docs/results.md.
"""

from configs import study_half, study_operators
from hypersphere.experiments import family
from hypersphere.training import TrainConfig


@family(operator=("plain", "linear"))
def get_config(operator: str, scale: str) -> TrainConfig:
    config = study_operators.get_config(f"operator={operator},scale={scale}")
    config.optim.learning_rate = study_half.RATE
    return config
