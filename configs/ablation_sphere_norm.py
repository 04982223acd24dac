r"""SphereNorm against batch normalization, with batches of 4 to 128 images.

Claim: Liu et al., Deep Hyperspherical Learning, NIPS 2017, the section on SphereNorm:
it does not look at other examples, so small batches do not harm it.

Recipe: `cifar10_sphere.py`. `batch` is a plain network with batch normalization,
`sphere` one with SphereNorm (cosine) in its place, `both` has both, and `sphere_conv`
is a spherical network (cosine) with batch normalization. Every run sees as many images.

Command:
    python train.py --config=configs/ablation_sphere_norm.py:norm=sphere,batch_size=4 \
        --workdir=runs/sphere_norm
    python -m hypersphere.experiments run configs/ablation_sphere_norm.py --seeds=5

Reached: batches of 4 at scale=small on CIFAR-10 (JPEG), n = 3, 2 minutes a run on one
core: batch 51.9 ± 1.8 %, sphere 43.3 ± 0.8 %, sphere_conv 54.9 ± 1.4 % (debiased
averages). The rest not run yet.
"""

from configs import cifar10_sphere
from hypersphere.experiments import family
from hypersphere.training import Evaluation, TrainConfig


@family(
    norm=("sphere", "batch", "both", "sphere_conv"), batch_size=(128, 4, 8, 16, 32, 64)
)
def get_config(norm: str, batch_size: int, scale: str) -> TrainConfig:
    operator = "plain" if norm == "batch" else "cosine"
    config = cifar10_sphere.get_config(f"operator={operator},scale={scale}")
    examples = 64_000 if scale == "small" else config.steps * config.batch_size
    config.steps, config.batch_size = examples // batch_size, batch_size
    if scale == "paper":
        config.log_every, config.eval_every = "0.2%", "1%"
        config.checkpoint_every = "5%"
        config.evaluators = tuple(
            Evaluation(source="test", statistics=statistics, every="1%")
            for statistics in ("debiased", "batch")
        )
    config.model.sphere_norm = norm in ("sphere", "both")
    if norm == "sphere":
        cifar10_sphere.without_batch_norm(config)
    return config
