"""The authors' plain baseline on CIFAR-10: SphereNet-9 without its spheres.

Claim: the authors of Liu et al., Deep Hyperspherical Learning, NIPS 2017: the plain
network ends at 90.61 % and reaches 90.86 % at its best test evaluation (one run).

Recipe: that of `cifar10_sphere.py`, with plain convolutions, and L2 at 2.5e-4 on them
in place of the orthogonality penalty: `cifar10_sphere.py:operator=plain`.

Command:
    python train.py --config=configs/cifar10_plain.py --workdir=runs/cifar10_plain

Reached: not run in full yet. In small, 59.0 ± 1.3 %: see `cifar10_sphere.py`.
"""

from configs import cifar10_sphere
from hypersphere.training import TrainConfig


def get_config() -> TrainConfig:
    return cifar10_sphere.get_config("operator=plain")
