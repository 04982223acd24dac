r"""The operators compared, each at the rate at which it is the best.

Claim: Liu et al., NIPS 2017: SphereConv is more accurate than convolution at equal
parameters. At an eighth of the filters; the authors say themselves that very narrow
SphereNets may be slightly worse.

Recipe: `cifar10_sphere.py`, all training images, at the rates that `study_rates.py` has
chosen on validation images with other seeds. Decided before the first run: the primary
endpoint is the accuracy on test images after the last step, with batch normalization's
statistics of 10,000 training images; 20 seeds an operator; four differences to plain,
Welch's intervals, Holm; equivalence by two one-sided tests with a margin of one point.
The test images had been looked at before, in the runs of `cifar10_sphere.py`.

Command:
    python train.py --config=configs/study_operators.py:operator=linear \
        --workdir=runs/operator
    python -m hypersphere.experiments run configs/study_operators.py:scale=small \
        --seeds=20
    python -m hypersphere.experiments compare results/small/study_operators \
        --by=operator --to=plain

Reached: 100 runs, 69 to 1,056 seconds each on one core with other work beside it.
Every spherical operator is 1.5 to 1.7 points less accurate than the plain one (68.3 %),
and 11 to 12 points more by running averages: docs/results.md.
"""

from configs import cifar10_sphere, study_rates
from hypersphere.experiments import family
from hypersphere.training import TrainConfig

RATES = dict.fromkeys(cifar10_sphere.OPERATORS, 1e-2)


@family(operator=cifar10_sphere.OPERATORS)
def get_config(operator: str, scale: str) -> TrainConfig:
    config = cifar10_sphere.get_config(f"operator={operator},scale={scale}")
    config.optim.learning_rate = RATES[operator]
    study_rates.judge_on_test(config)
    return config
