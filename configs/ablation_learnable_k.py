"""The sigmoid's k: learned for every filter, or fixed.

Claim: Liu et al., Deep Hyperspherical Learning, NIPS 2017, learnable SphereConv: k can
be learned by back-propagation, and then need not be chosen.

Recipe: `cifar10_sphere.py`, in both scales. The learned k starts at 0.75.

Command:
    python train.py --config=configs/ablation_learnable_k.py:k=0.1 --workdir=runs/k
    python -m hypersphere.experiments run configs/ablation_learnable_k.py --seeds=5

Reached: not run yet.
"""

from configs import cifar10_sphere
from hypersphere.experiments import family
from hypersphere.training import TrainConfig


@family(k=("learnable", 0.1, 0.3, 0.5, 0.75, 1.0))
def get_config(k: str | float, scale: str) -> TrainConfig:
    operator = "learnable_sigmoid" if isinstance(k, str) else "sigmoid"
    config = cifar10_sphere.get_config(f"operator={operator},scale={scale}")
    if not isinstance(k, str):
        config.model.k = k
    return config
