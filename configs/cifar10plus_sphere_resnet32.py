"""The authors' wide ResNet-32 on CIFAR-10+, spherical and plain.

Claim: Liu et al., Deep Hyperspherical Learning, NIPS 2017, the ResNets of the table of
CIFAR-10+ (padding and crops). The logs the authors published (one run each) end at
94.63 % for linear SphereConv and 92.99 % for the plain twin.

Recipe: 96, 192 and 384 filters, plain projection shortcuts, 16,687,392 weights; 64,000
steps of 128 images, Adam at 1e-3 divided by 10 after 34,000 and 54,000 steps, smoothed
softmax, orthogonality 1e-4 on spherical filters, L2 2.5e-4 on the rest; images are
mirrored, padded by 4 pixels symmetrically and cropped. Batch normalization as in
`cifar10_sphere.py`. At scale=small, an eighth of the filters and 16 pixels.

Command:
    python train.py --config=configs/cifar10plus_sphere_resnet32.py --workdir=runs/wide
    python -m hypersphere.experiments run configs/cifar10plus_sphere_resnet32.py

Reached: not run yet.
"""

from configs import cifar10_sphere
from hypersphere.experiments import family
from hypersphere.training import TrainConfig


@family(operator=("linear", "plain", "cosine", "sigmoid"))
def get_config(operator: str, scale: str) -> TrainConfig:
    config = cifar10_sphere.get_config(f"operator={operator},scale={scale}")
    config.data.pad = 4 if scale == "paper" else 2
    config.model.name, config.model.depth = "resnet", 32
    config.model.width *= 6
    config.model.norm_features = False
    return config
