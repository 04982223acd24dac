r"""The learning rate of the recipe, and ten times that.

Claim: Liu et al., Deep Hyperspherical Learning, NIPS 2017: bounded answers make
training stable, also where the learning rate is large.

Recipe: `cifar10_sphere.py`, in both scales, with Adam at 1e-3 or 1e-2.

Command:
    python train.py \
        --config=configs/ablation_learning_rate.py:times=10,operator=plain \
        --workdir=runs/fast
    python -m hypersphere.experiments run configs/ablation_learning_rate.py --seeds=5

Reached: times=10 at scale=small on CIFAR-10 (JPEG), n = 3, 2 to 3 minutes a run on one
core. By debiased averages plain 47.0 ± 5.7 %, linear 65.0 ± 0.6 %; by batch statistics
68.2 ± 0.3 % and 67.0 ± 0.3 %. The rest not run yet.
"""

from configs import cifar10_sphere
from hypersphere.experiments import family
from hypersphere.training import TrainConfig


@family(times=(1, 10), operator=("plain", "cosine", "linear", "sigmoid"))
def get_config(times: int, operator: str, scale: str) -> TrainConfig:
    config = cifar10_sphere.get_config(f"operator={operator},scale={scale}")
    config.optim.learning_rate *= times
    return config
