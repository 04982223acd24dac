r"""The operators where the training images are learned by heart.

Claim: Liu et al., NIPS 2017: SphereConv generalizes better. The authors' networks have
every training image right at the end; those of `study_operators.py` two thirds of them,
so that it says little about generalization.

Recipe: `study_operators.py` with 5,000 of the training images, drawn by the seed, as
they are (not mirrored), and at scale=small 2,400 steps. It is told how many of the
training images are right at the end.

Decided before the first run: six seeds; recalibrated accuracy on test images; four
differences to plain, Welch (which leaves aside that equal seeds have equal images),
Holm.

Command:
    python train.py --config=configs/study_overfit.py:operator=linear \
        --workdir=runs/overfit
    python -m hypersphere.experiments run configs/study_overfit.py:scale=small \
        --seeds=6
    python -m hypersphere.experiments compare results/small/study_overfit \
        --by=operator --to=plain

Reached: 30 runs, 49 to 84 seconds each on one core. All training images right (99.96 to
100 %); the spherical networks are 0.8 to 1.5 points less accurate on test images, which
six runs do not show beyond chance: docs/results.md.
"""

from configs import cifar10_sphere, study_operators
from hypersphere.experiments import family
from hypersphere.training import Evaluation, TrainConfig


@family(operator=cifar10_sphere.OPERATORS)
def get_config(operator: str, scale: str) -> TrainConfig:
    config = study_operators.get_config(f"operator={operator},scale={scale}")
    config.data.train_examples = 5_000
    config.data.flip = False
    if scale == "small":
        config.steps = 2_400
    train = Evaluation(source="train", statistics="recalibrated", every="100%")
    config.evaluators += (train,)
    return config
