r"""Margin losses on CIFAR-10 with a narrow spherical network, against plain softmax.

Claim: none of a paper's: their margins are for thousands of classes. Whether one of
them does something for ten classes of small photographs, each with the recipe that
docs/losses.md recommends.

Recipe: `cifar10_sphere.py` with cosine layers, without smoothed targets, at a rate of
3e-3; the losses of `ablation_margin.py`, those on class centres at scale 16 or one that
they find. Margins that can come little by little come over the second half: from the
first step on, those on the angle kept the network from learning (first runs, by the
training loss; docs/results.md). Judged after the last step with batch normalization's
statistics of 10,000 training images. No other choice was made on these runs.

Command:
    python train.py --config=configs/ablation_margin_cifar10.py:loss=arcface \
        --workdir=runs/arcface
    python -m hypersphere.experiments run \
        configs/ablation_margin_cifar10.py:scale=small --seeds=3

Reached: 51 runs; no loss on class centres is better than plain softmax (65.7 %), most
are 2 to 4 points worse; docs/results.md.
"""

import dataclasses

from configs import ablation_margin, cifar10_sphere
from hypersphere.experiments import family
from hypersphere.training import Evaluation, TrainConfig


@family(loss=tuple(ablation_margin.LOSSES))
def get_config(loss: str, scale: str) -> TrainConfig:
    config = cifar10_sphere.get_config(f"operator=cosine,scale={scale}")
    config.loss = dataclasses.replace(ablation_margin.LOSSES[loss])
    if hasattr(config.loss, "ramp_begin"):
        config.loss.ramp_begin, config.loss.ramp_end = "50%", "100%"
    config.optim.learning_rate = 3e-3
    config.eval_every = "100%"
    config.evaluators = tuple(
        Evaluation(source="test", statistics=statistics, every="100%")
        for statistics in ("recalibrated", "debiased", "batch")
    )
    return config
