r"""Losses on an angular head behind spherical layers, against plain softmax.

Claim: Liu et al., NIPS 2017, the table of losses: W-Softmax and GA-Softmax are more
accurate than softmax.

Recipe: `study_operators.py` with cosine layers, without smoothed targets and without
the floor under probabilities, which a margin excludes. W-Softmax with cosine, linear
and sigmoid logits; A-Softmax with margin 4 and GA-Softmax (linear) with 1.5 and 2. A
margin comes over the second half, its weight growing evenly from 0 to 1; the authors'
L-Softmax and SphereFace let it come late as well. `ga_15_early` has it from the first
step on, where it may make short features cheap. `ga_15_scale` has 5.7, which nobody
has tuned, in place of the features' lengths, and `ga_15_still` learns nothing through
these.

Decided before the first run: five seeds; recalibrated accuracy on test images; nine
differences to softmax, Welch, Holm. The rate was chosen with smoothed softmax, which
may favour softmax.

Command:
    python train.py --config=configs/study_losses.py:loss=ga_15 --workdir=runs/ga
    python -m hypersphere.experiments run configs/study_losses.py:scale=small --seeds=5
    python -m hypersphere.experiments compare results/small/study_losses --by=loss \
        --to=softmax

Reached: 50 runs, 70 to 174 seconds each on one core with other work beside it. No loss
is more accurate than softmax (66.9 %): W-Softmax 0.1 to 0.8 points less, GA-Softmax 1.5
to 2.8 with a late margin and 25.4 with an early one, A-Softmax 5.5; of these the
margin alone costs 0.7 to 2.0, 24.6 and 5.1: docs/results.md.
"""

import dataclasses

from configs import study_operators
from hypersphere import recipes
from hypersphere.experiments import family
from hypersphere.training import TrainConfig

_LATE = {"ramp_begin": "50%", "ramp_end": "100%", "ramp_shape": "linear"}

LOSSES = {
    "softmax": recipes.Softmax(),
    "w_cosine": recipes.WSoftmax(),
    "w_linear": recipes.WSoftmax(similarity="linear"),
    "w_sigmoid": recipes.WSoftmax(similarity="sigmoid"),
    "a_4": recipes.ASoftmax(margin=4.0, **_LATE),
    "ga_15": recipes.GASoftmax(margin=1.5, **_LATE),
    "ga_2": recipes.GASoftmax(margin=2.0, **_LATE),
    "ga_15_scale": recipes.GASoftmax(margin=1.5, scale=5.7, **_LATE),
    "ga_15_still": recipes.GASoftmax(margin=1.5, stop_norm_gradient=True, **_LATE),
    "ga_15_early": recipes.GASoftmax(margin=1.5),
}


@family(loss=tuple(LOSSES))
def get_config(loss: str, scale: str) -> TrainConfig:
    config = study_operators.get_config(f"operator=cosine,scale={scale}")
    config.loss = dataclasses.replace(LOSSES[loss])
    return config
