r"""Depth without shortcuts: SphereNets of 3 to 60 layers on CIFAR-10.

Claim: Liu et al., Deep Hyperspherical Learning, NIPS 2017, the table of depths: plain
networks of 45 and 60 layers do not train, spherical ones do.

Recipe: `cifar10_sphere.py` with another depth. At scale=small, 800 steps of 32 images.

Command:
    python train.py --config=configs/ablation_depth.py:depth=45,operator=linear \
        --workdir=runs/depth45
    python -m hypersphere.experiments run configs/ablation_depth.py --seeds=5

Reached: at scale=small on CIFAR-10 (JPEG), by debiased averages after the last step, 3
to 9 minutes a run on one core. n = 3. 45 layers: plain 14.0 ± 1.3 %, linear 9.8 ± 0.2
%. 60 layers: plain 11.7 ± 0.6 %, linear 9.9 ± 0.5 %. Chance is 10 %. The rest not run
yet.
"""

from configs import cifar10_sphere
from hypersphere.experiments import family
from hypersphere.training import TrainConfig


@family(depth=(9, 3, 18, 45, 60), operator=("plain", "cosine", "linear", "sigmoid"))
def get_config(depth: int, operator: str, scale: str) -> TrainConfig:
    config = cifar10_sphere.get_config(f"operator={operator},scale={scale}")
    config.model.depth = depth
    if scale == "small":
        config.steps, config.batch_size = 800, 32
    return config
