r"""With and without ReLU on CIFAR-10.

Claim: Liu et al., Deep Hyperspherical Learning, NIPS 2017, the comparison without ReLU:
a linear or sigmoid SphereConv is itself nonlinear, so a spherical network loses less
than a plain one, which becomes linear between its poolings and normalizations.

Recipe: `cifar10_sphere.py`, in both scales.

Command:
    python train.py --config=configs/ablation_relu.py:relu=false,operator=sigmoid \
        --workdir=runs/no_relu
    python -m hypersphere.experiments run configs/ablation_relu.py --seeds=5

Reached: not run yet.
"""

from configs import cifar10_sphere
from hypersphere.experiments import family
from hypersphere.training import TrainConfig


@family(relu=(True, False), operator=("plain", "cosine", "linear", "sigmoid"))
def get_config(*, relu: bool, operator: str, scale: str) -> TrainConfig:
    config = cifar10_sphere.get_config(f"operator={operator},scale={scale}")
    config.model.relu = relu
    return config
