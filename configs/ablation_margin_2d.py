r"""Margin losses on handwritten digits with features in the plane.

Claim: none of a paper's. Two numbers for each image leave a network little but angles
to tell ten classes by, so that what a loss does to angles should show.

Recipe: that of `ablation_margin.py`, with two features. scale=small makes 600 steps.

Command:
    python train.py --config=configs/ablation_margin_2d.py:loss=arcface \
        --workdir=runs/arcface_2d
    python -m hypersphere.experiments run configs/ablation_margin_2d.py:scale=small \
        --seeds=3

Reached: see docs/results.md.
"""

from configs import ablation_margin
from hypersphere.experiments import family
from hypersphere.training import TrainConfig


@family(loss=tuple(ablation_margin.LOSSES))
def get_config(loss: str, scale: str) -> TrainConfig:
    config = ablation_margin.get_config(f"loss={loss},scale={scale}")
    config.model.feature_dim = 2
    return config
