r"""Batch normalization: its momentum, its batches, without it, SphereNorm.

Claim: Liu et al., NIPS 2017: a spherical network trains without batch normalization,
and does not mind small batches; SphereNorm takes its place, or stands beside it.

Recipe: `study_operators.py`, but for one thing. `momentum`: 0.99 in place of 0.999.
`batch_4`, `batch_16` and `batch_64`: as many images in such batches, 64,000 at
scale=small; the rate is the same in all. `none`: without batch normalization.
`sphere_norm` in its place, and `beside` it: convolutions are SphereNorm, with a learned
scale and shift, of the cosine where the operator is `plain`. Without batch
normalization the rate is the authors' 1e-3, because the rates were chosen with it; so
compare these with each other only.

Command:
    python train.py --config=configs/study_batch_norm.py:arm=none,operator=linear \
        --workdir=runs/no_batch_norm
    python -m hypersphere.experiments run configs/study_batch_norm.py:scale=small \
        --seeds=3

Reached: not run yet.
"""

from configs import cifar10_sphere, study_operators
from hypersphere.experiments import family
from hypersphere.training import TrainConfig

ARMS = (
    *("momentum", "batch_64", "batch_16", "batch_4"),
    *("none", "sphere_norm", "beside"),
)


@family(arm=ARMS, operator=("plain", "linear"))
def get_config(arm: str, operator: str, scale: str) -> TrainConfig:
    config = study_operators.get_config(f"operator={operator},scale={scale}")
    name, _, size = arm.partition("_")
    if name == "momentum":
        config.model.momentum = 0.99
    if name == "batch":
        examples = 64_000 if scale == "small" else config.steps * config.batch_size
        config.batch_size = int(size)
        config.steps = examples // config.batch_size
    if arm in ("sphere_norm", "beside"):
        config.model.sphere_norm = True
        config.model.similarity = "cosine" if operator == "plain" else operator
    if arm in ("none", "sphere_norm"):
        cifar10_sphere.without_batch_norm(config)
        config.optim.learning_rate = 1e-3
    return config
