r"""Losses and convolutions on CIFAR-10, every combination.

Claim: Liu et al., Deep Hyperspherical Learning, NIPS 2017, the tables of losses and of
SphereConv operators: with W-Softmax or GA-Softmax, and with SphereConv, a network is
more accurate than its plain twin with softmax, and converges faster.

Recipe: `cifar10_sphere.py`, in both scales. W-Softmax has cosine logits. GA-Softmax is
the linear one with margin 1.5, without smoothed targets, which its margin excludes.

Command:
    python train.py --config=configs/ablation_loss.py:operator=sigmoid,loss=ga \
        --workdir=runs/ga
    python -m hypersphere.experiments run configs/ablation_loss.py --seeds=5
    python -m hypersphere.experiments run configs/ablation_loss.py:scale=small --seeds=3

Reached: at scale=small on CIFAR-10 (JPEG), by debiased averages after the last step, n
= 3, 2 to 6 minutes a run on one core. Plain: softmax 59.0 ± 1.3 %, W-Softmax 60.3 ± 1.1
%, GA-Softmax 43.2 ± 3.8 %. Cosine: 57.8 ± 0.7 %, 57.6 ± 0.1 %, 44.9 ± 1.5 %. With
softmax, linear 57.9 ± 1.0 %, sigmoid 56.5 ± 1.1 %, learnable sigmoid 57.4 ± 0.6 %. The
other losses of these three, and scale=paper, not run yet.
"""

from configs import cifar10_sphere
from hypersphere import recipes
from hypersphere.experiments import family
from hypersphere.training import TrainConfig


@family(operator=cifar10_sphere.OPERATORS, loss=("softmax", "w", "ga"))
def get_config(operator: str, loss: str, scale: str) -> TrainConfig:
    config = cifar10_sphere.get_config(f"operator={operator},scale={scale}")
    if loss == "w":
        config.loss.name = "w_softmax"  # as smooth
    elif loss == "ga":
        config.loss = recipes.GASoftmax(margin=1.5)
    return config
