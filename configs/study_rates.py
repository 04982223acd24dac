r"""The learning rate of each operator, chosen on validation images.

Claim: none. A comparison at one rate for all is about the rate as well, so
each operator gets the rate at which it is the best: by the mean accuracy of two seeds,
after the last step, on a tenth of the training images that is held back, with batch
normalization's statistics of 10,000 training images. If the best one is at an end of
3e-4 to 3e-2, one more there.

Recipe: `cifar10_sphere.py`. The seeds, 100 and 101, appear in no comparison.

Command:
    python train.py --config=configs/study_rates.py:rate=0.003,operator=linear \
        --workdir=runs/rate
    python -m hypersphere.experiments run configs/study_rates.py:scale=small \
        --seeds=100-101

Reached: 1e-2 for every operator, inside of the range; docs/results.md has all means.
103 to 717 seconds a run, median 138, on one core with other work beside it.
"""

from configs import cifar10_sphere
from hypersphere.experiments import family
from hypersphere.training import Evaluation, TrainConfig

RATES = (1e-3, 3e-4, 3e-3, 1e-2, 3e-2)


@family(rate=RATES, operator=cifar10_sphere.OPERATORS)
def get_config(rate: float, operator: str, scale: str) -> TrainConfig:
    config = cifar10_sphere.get_config(f"operator={operator},scale={scale}")
    config.optim.learning_rate = rate
    judge_once(config)
    return config


def judge_on_test(config: TrainConfig) -> None:
    """Trains on all images; evaluates on test images after the last step."""
    judge_once(config)
    hold_nothing_back(config)


def hold_nothing_back(config: TrainConfig) -> None:
    """Leaves the validation images to training, and the evaluations of them out."""
    config.data.validation_fraction = 0.0
    config.evaluators = tuple(e for e in config.evaluators if e.source == "test")


def judge_once(config: TrainConfig) -> None:
    """Holds a tenth of the training images back; evaluates after the last step."""
    config.data.validation_fraction = 0.1
    config.eval_every = "100%"
    config.evaluators = tuple(
        Evaluation(source=source, statistics=statistics, every="100%")
        for source in ("test", "validation")
        for statistics in ("recalibrated", "debiased", "batch")
    )
