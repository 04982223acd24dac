r"""Losses and convolutions on CIFAR-10, every combination.

Claim: Liu et al., Deep Hyperspherical Learning, NIPS 2017, the tables of losses and of
SphereConv operators: with W-Softmax or GA-Softmax, and with SphereConv, a network is
more accurate than its plain twin with softmax, and converges faster.

Recipe: `cifar10_sphere.py`, in both scales. `w` is W-Softmax with cosine logits, `ga`
GA-Softmax with linear ones and margin 1.5, without smoothed targets, which its margin
excludes; `w_linear`, `ga_sigmoid` and so on have other logits. A number at the end is
the softness of a sigmoid, 0.3 without one. So every operator meets every loss with
every logits; which of these the paper's table has was not compared with the paper.

Command:
    python train.py --config=configs/ablation_loss.py:operator=sigmoid,loss=ga \
        --workdir=runs/ga
    python -m hypersphere.experiments run configs/ablation_loss.py --seeds=5
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

_LOGITS = ("cosine", "linear", "sigmoid", "sigmoid_0.1", "sigmoid_0.7")
OPERATORS = (*cifar10_sphere.OPERATORS, "sigmoid_0.1", "sigmoid_0.7")
LOSSES = (
    *("softmax", "w", "ga"),
    *(f"w_{logits}" for logits in _LOGITS if logits != "cosine"),
    *(f"ga_{logits}" for logits in _LOGITS if logits != "linear"),
)


@family(operator=OPERATORS, loss=LOSSES)
def get_config(operator: str, loss: str, scale: str) -> TrainConfig:
    operator, softness = _split(operator)
    config = cifar10_sphere.get_config(f"operator={operator},scale={scale}")
    config.model.k = softness
    loss, softness = _split(loss)
    name, _, logits = loss.partition("_")
    if name == "w":
        config.loss.name = "w_softmax"  # as smooth
        config.loss.similarity = logits or "cosine"
        config.loss.k = softness
    elif name == "ga":
        config.loss = recipes.GASoftmax(
            margin=1.5, similarity=logits or "linear", k=softness
        )
    return config


def _split(name: str) -> tuple[str, float]:
    """A name, and the softness at its end."""
    stem, _, last = name.rpartition("_")
    return (stem, float(last)) if last.startswith("0.") else (name, 0.3)
