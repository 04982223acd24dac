r"""Margin losses on handwritten digits, each against plain softmax.

Claim: none of a paper's: their margins are for thousands of classes with few examples
each. Whether one of them does something for ten classes with four hundred.

Recipe: the network and steps of `quickstart.py`. The published margins, all at scale
16, which suits ten classes; GA-Softmax at 1.5 and the feature's own length. MagFace's
lengths are 1 and 30 instead of 10 and 110. Three losses on plain scores are beside
them. scale=small makes 600 steps.

Command:
    python train.py --config=configs/ablation_margin.py:loss=arcface \
        --workdir=runs/arcface
    python -m hypersphere.experiments run configs/ablation_margin.py:scale=small \
        --seeds=3

Reached: see docs/results.md.
"""

import dataclasses

from configs import quickstart
from hypersphere import recipes
from hypersphere.experiments import family
from hypersphere.training import TrainConfig

LOSSES = {
    "softmax": recipes.Softmax(),
    "normface": recipes.NormFace(scale=16.0),
    "cosface": recipes.CosFace(scale=16.0),
    "arcface": recipes.ArcFace(scale=16.0),
    "combined_margin": recipes.CombinedMargin(scale=16.0),
    "sphereface": recipes.SphereFace(scale=16.0),
    "sphereface_r": recipes.SphereFaceR(scale=16.0),
    "sphereface2": recipes.SphereFace2(),
    "adaface": recipes.AdaFace(scale=16.0),
    "magface": recipes.MagFace(scale=16.0, norms=(1.0, 30.0)),
    "curricularface": recipes.CurricularFace(scale=16.0),
    "adacos": recipes.AdaCos(),
    "madacos": recipes.MadaCos(),
    "ga_softmax": recipes.GASoftmax(margin=1.5),
    "spherical_softmax": recipes.SphericalSoftmax(),
    "taylor_softmax": recipes.TaylorSoftmax(),
    "z_loss": recipes.ZLoss(),
}


@family(loss=tuple(LOSSES))
def get_config(loss: str, scale: str) -> TrainConfig:
    config = quickstart.get_config()
    config.loss = dataclasses.replace(LOSSES[loss])
    if scale == "small":
        config.steps = 600
    return config
