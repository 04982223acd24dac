r"""The orthogonality penalty on spherical filters, on and off.

Claim: Liu et al., Deep Hyperspherical Learning, NIPS 2017, orthogonality as the
regularizer that belongs to filters on a sphere.

Recipe: `cifar10_sphere.py`, in both scales, with and without its 1e-4 |W^T W - I|^2.

Command:
    python train.py --config=configs/ablation_orthogonality.py:orthogonality=false \
        --workdir=runs/no_orthogonality
    python -m hypersphere.experiments run configs/ablation_orthogonality.py --seeds=5

Reached: not run yet.
"""

from configs import cifar10_sphere
from hypersphere.experiments import family
from hypersphere.training import TrainConfig


@family(orthogonality=(True, False), operator=("cosine", "linear", "sigmoid"))
def get_config(*, orthogonality: bool, operator: str, scale: str) -> TrainConfig:
    config = cifar10_sphere.get_config(f"operator={operator},scale={scale}")
    if not orthogonality:
        config.optim.orthogonality = 0.0
    return config
