r"""Width: SphereNet-9 from an eighth to twice its filters on CIFAR-10.

Claim: Liu et al., Deep Hyperspherical Learning, NIPS 2017, on widths: very narrow
spherical networks may be slightly worse, wider ones are better.

Recipe: `cifar10_sphere.py` with another width. At scale=small, widths are an eighth of
what is asked for, which leaves 2 to 32 filters in the first layer.

Command:
    python train.py --config=configs/ablation_width.py:width=0.5,operator=cosine \
        --workdir=runs/half
    python -m hypersphere.experiments run configs/ablation_width.py --seeds=5

Reached: not run yet.
"""

from configs import cifar10_sphere
from hypersphere.experiments import family
from hypersphere.training import TrainConfig


@family(
    width=(1.0, 0.125, 0.25, 0.5, 2.0),
    operator=("plain", "cosine", "linear", "sigmoid"),
)
def get_config(width: float, operator: str, scale: str) -> TrainConfig:
    config = cifar10_sphere.get_config(f"operator={operator},scale={scale}")
    config.model.width *= width
    return config
