r"""Losses and convolutions on CIFAR-10, every combination.

Claim: Liu et al., Deep Hyperspherical Learning, NIPS 2017, the tables of losses and of
SphereConv operators: with W-Softmax or GA-Softmax, and with SphereConv, a network is
more accurate than its plain twin with softmax, and converges faster.

Recipe: `cifar10_sphere.py`, in both scales. `w` is W-Softmax with cosine logits, `ga`
GA-Softmax with linear ones and margin 1.5, without smoothed targets, which its margin
excludes; `w_linear`, `ga_sigmoid` and so on have other logits. A number at the end is
the softness of a sigmoid, 0.3 without one. Which of the 77 are cells of the paper's
table was not checked.

Command:
    python train.py --config=configs/ablation_loss.py:operator=sigmoid,loss=ga \
        --workdir=runs/ga
    python -m hypersphere.experiments run configs/ablation_loss.py:loss=w --seeds=5
    python -m hypersphere.experiments run \
        configs/ablation_loss.py:scale=small,loss=softmax --seeds=3

Reached: at scale=small on CIFAR-10 (JPEG), by debiased averages after the last step, n
= 3, 2 to 6 minutes a run on one core. Plain: softmax 59.0 ± 1.3 %, W-Softmax 60.3 ± 1.1
%, GA-Softmax 43.2 ± 3.8 %. Cosine: 57.8 ± 0.7 %, 57.6 ± 0.1 %, 44.9 ± 1.5 %. With
softmax, linear 57.9 ± 1.0 %, sigmoid 56.5 ± 1.1 %, learnable sigmoid 57.4 ± 0.6 %. The
other combinations, and scale=paper, not run yet.
"""

from configs import cifar10_sphere
from hypersphere import recipes
from hypersphere.experiments import family
from hypersphere.training import TrainConfig

# Name -> the similarity, and the softness of a sigmoid.
_SIGMOIDS = {f"sigmoid_{k}": ("sigmoid", k) for k in (0.1, 0.7)}
OPERATORS = {name: (name, 0.3) for name in cifar10_sphere.OPERATORS} | _SIGMOIDS
_LOGITS = {name: (name, 0.3) for name in ("cosine", "linear", "sigmoid")} | _SIGMOIDS
LOSSES = {
    "softmax": ("softmax", _LOGITS["cosine"]),
    "w": ("w_softmax", _LOGITS["cosine"]),
    "ga": ("ga_softmax", _LOGITS["linear"]),
    **{f"w_{g}": ("w_softmax", _LOGITS[g]) for g in _LOGITS if g != "cosine"},
    **{f"ga_{g}": ("ga_softmax", _LOGITS[g]) for g in _LOGITS if g != "linear"},
}


@family(operator=tuple(OPERATORS), loss=tuple(LOSSES))
def get_config(operator: str, loss: str, scale: str) -> TrainConfig:
    similarity, softness = OPERATORS[operator]
    config = cifar10_sphere.get_config(f"operator={similarity},scale={scale}")
    config.model.k = softness
    name, (logits, softness) = LOSSES[loss]
    if name == "w_softmax":
        config.loss.name = name  # as smooth
        config.loss.similarity, config.loss.k = logits, softness
    elif name == "ga_softmax":
        config.loss = recipes.GASoftmax(margin=1.5, similarity=logits, k=softness)
    return config
