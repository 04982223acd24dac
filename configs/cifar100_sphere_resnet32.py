"""The authors' wide ResNet-32 on CIFAR-100, spherical and plain.

Claim: Liu et al., Deep Hyperspherical Learning, NIPS 2017: the spherical ResNet is more
accurate than its plain twin on 100 classes too. No log of it is published.

Recipe: `cifar10plus_sphere_resnet32.py` with the schedule that the same authors' later
code has for this network on CIFAR-100: 42,500 steps, the rate divided by 10 after
20,000, 30,000 and 37,500.

Command:
    python train.py --config=configs/cifar100_sphere_resnet32.py --workdir=runs/cifar100
    python -m hypersphere.experiments run configs/cifar100_sphere_resnet32.py

    The data: `tfds build cifar100 --file_format=array_record`, in an environment with
    TensorFlow, or the published binary files, `--config.data.source=cifar:PATH`.

Reached: not run yet.
"""

from configs import cifar10plus_sphere_resnet32
from hypersphere.experiments import family
from hypersphere.training import TrainConfig


@family(operator=("linear", "plain", "cosine", "sigmoid"))
def get_config(operator: str, scale: str) -> TrainConfig:
    text = f"operator={operator},scale={scale}"
    config = cifar10plus_sphere_resnet32.get_config(text)
    config.data.source = "tfds:cifar100"
    if scale == "paper":
        config.steps = 42_500
    config.optim.boundaries = tuple(f"{100 * s / 42.5}%" for s in (20, 30, 37.5))
    return config
