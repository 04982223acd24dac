r"""The rate of each network with, without and instead of batch normalization.

Claim: none. Small batches and another normalization each want a rate of their own,
before they can be compared: chosen as in `study_rates.py`, by the mean accuracy of two
seeds on validation images after the last step.

Recipe: `cifar10_sphere.py`, for as many images in every arm (64,000 at scale=small).
An arm is what follows the convolutions, and how many images a batch has: `batch` is
batch normalization, `none` nothing, `sphere` SphereNorm in its place, which is a
learned scale and shift of the operator's answer, and `both` has both. There `plain`
stands for the cosine, which SphereNorm is made of. The rate is `times` 1e-2, the rate
with batches of 64, times the root of the share of 64 images that a batch has.

Decided before the first run: times 0.3, 1 and 3; where the best is at an end, one more
there, until it is not.

Command:
    python train.py \
        --config=configs/study_norm_rates.py:times=0.3,arm=sphere_4,operator=linear \
        --workdir=runs/rate
    python -m hypersphere.experiments run \
        configs/study_norm_rates.py:scale=small,times=1.0 \
        configs/study_norm_rates.py:scale=small,times=0.3 \
        configs/study_norm_rates.py:scale=small,times=3.0 --seeds=100-101
    python -m hypersphere.experiments run \
        configs/study_norm_rates.py:scale=small,times=0.1,arm=none_64 --seeds=100-101

    and so for each arm, and 0.03, where the best was at the end.

Reached: times 1 for every network with batch normalization; for the others 0.1, or 0.3
(batches of four with SphereNorm; linear with nothing). `study_norm.py` has them.
"""

import math

from configs import cifar10_sphere, study_rates
from hypersphere.experiments import family
from hypersphere.training import TrainConfig

ARMS = (
    *("batch_64", "batch_16", "batch_4", "sphere_64", "sphere_16", "sphere_4"),
    *("none_64", "both_64"),
)
OPERATORS = ("plain", "linear")


@family(times=(1.0, 0.3, 3.0, 0.1, 0.03), arm=ARMS, operator=OPERATORS)
def get_config(times: float, arm: str, operator: str, scale: str) -> TrainConfig:
    config = cifar10_sphere.get_config(f"operator={operator},scale={scale}")
    norm, _, size = arm.partition("_")
    examples = 64_000 if scale == "small" else config.steps * config.batch_size
    config.batch_size = int(size)
    config.steps = examples // config.batch_size
    config.optim.learning_rate = 1e-2 * math.sqrt(config.batch_size / 64) * times
    if norm in ("sphere", "both"):
        config.model.sphere_norm = True
        config.model.similarity = "cosine" if operator == "plain" else operator
    study_rates.judge_once(config)
    if norm in ("sphere", "none"):
        cifar10_sphere.without_batch_norm(config)
    return config
