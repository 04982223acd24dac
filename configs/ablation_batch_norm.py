r"""With and without batch normalization on CIFAR-10.

Claim: Liu et al., Deep Hyperspherical Learning, NIPS 2017, the experiments without
batch normalization: bounded answers keep a spherical network trainable.

Recipe: `cifar10_sphere.py`, in both scales.

Command:
    python train.py \
        --config=configs/ablation_batch_norm.py:batch_norm=false,operator=cosine \
        --workdir=runs/no_batch_norm
    python -m hypersphere.experiments run configs/ablation_batch_norm.py --seeds=5

Reached: batch_norm=false at scale=small on CIFAR-10 (JPEG), n = 3, 2 minutes a run on
one core: plain 55.5 ± 0.9 %, cosine 54.6 ± 0.6 %, linear 53.4 ± 0.9 %. The rest not run
yet.
"""

from configs import cifar10_sphere
from hypersphere.experiments import family
from hypersphere.training import TrainConfig


@family(batch_norm=(True, False), operator=("plain", "cosine", "linear", "sigmoid"))
def get_config(*, batch_norm: bool, operator: str, scale: str) -> TrainConfig:
    config = cifar10_sphere.get_config(f"operator={operator},scale={scale}")
    if not batch_norm:
        cifar10_sphere.without_batch_norm(config)
    return config
