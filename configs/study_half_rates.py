r"""The learning rate of networks with half of the published filters.

Claim: none. `study_width.py` has every width at the rate that was chosen at an eighth
of the filters, and linear with half of them is less accurate there than with a quarter.
Chosen as in `study_rates.py`, by the mean accuracy of two seeds on validation
images.

Recipe: `cifar10_sphere.py` with half of the filters. If the best one is at an end of
1e-3 to 1e-2, one more there.

Command:
    python train.py --config=configs/study_half_rates.py:rate=0.003,operator=linear \
        --workdir=runs/rate
    python -m hypersphere.experiments run configs/study_half_rates.py:scale=small \
        --seeds=100-101

Reached: 3e-3 for both: plain 76.6 %, linear 75.4 %; at 1e-2 68.6 and 65.3 %. 12 runs
of 586 to 939 seconds on one core with other work beside it.
"""

from configs import study_rates
from hypersphere.experiments import family
from hypersphere.training import TrainConfig

RATES = (3e-3, 1e-3, 1e-2)


@family(rate=RATES, operator=("plain", "linear"))
def get_config(rate: float, operator: str, scale: str) -> TrainConfig:
    config = study_rates.get_config(f"rate={rate},operator={operator},scale={scale}")
    config.model.width = 0.5
    return config
