r"""Features in the plane: three losses side by side, as in Figure 1 of the paper.

Claim: Liu et al., Deep Hyperspherical Learning, NIPS 2017, Figure 1: features of the
digits, two numbers each, lie along rays, one per class, so that the angle tells the
class; an angular loss makes the rays narrow.

Command:
    python train.py --config=configs/features_2d.py --workdir=runs/2d/softmax
    python train.py --config=configs/features_2d.py:loss=w_softmax \
        --workdir=runs/2d/w_softmax
    python train.py --config=configs/features_2d.py:loss=ga_softmax \
        --workdir=runs/2d/ga_softmax
    python -m hypersphere.viz runs/2d/softmax runs/2d/w_softmax runs/2d/ga_softmax \
        --out=runs/features_2d.png

    The picture shows plain softmax, cosine W-Softmax and linear GA-Softmax.
    scale=small trains a tenth of the steps.

Reached: see docs/results.md.
"""

from hypersphere.experiments import family
from hypersphere.training import TrainConfig


@family(loss=("softmax", "w_softmax", "ga_softmax"))
def get_config(loss: str, scale: str) -> TrainConfig:
    config = TrainConfig(steps=3_000 if scale == "paper" else 300, batch_size=64)
    config.log_every, config.eval_every, config.checkpoint_every = 50, 500, 500
    config.data.source, config.data.pad = "mnist5k", 2
    config.data.mean, config.data.std = 0.0, 255.0
    config.model.depth, config.model.width = 6, 1 / 8
    config.model.similarity = "linear"
    config.model.feature_dim = 2
    config.model.momentum = 0.9
    config.loss.name = loss
    if loss == "ga_softmax":
        config.loss.margin = 1.5
    config.optim.learning_rate, config.optim.schedule = 3e-3, "cosine"
    return config
