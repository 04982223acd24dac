r"""The same penalty on the filters of both twins, or none.

Claim: none. In the authors' recipe a plain network's filters have an L2 and a spherical
one's the orthogonality penalty, so that a difference between the twins may be one
between penalties. Liu et al., NIPS 2017, present orthogonality as the regularizer that
belongs to filters on a sphere.

Recipe: `study_operators.py`. On the filters of every convolution nothing, an L2 of
2.5e-4, or 1e-4 |W^T W - I|^2; on the head and on batch normalization the L2 of 2.5e-4
in all arms. The same penalty is not the same pressure: behind batch normalization, or
on a sphere, an L2 only changes how far a step turns a filter.

Decided before the first run: six seeds that appear in no other study; recalibrated
accuracy on test images; with each penalty cosine and linear against plain, six
comparisons, Welch, Holm. The rates were chosen with the authors' pairing of penalties.

Command:
    python train.py \
        --config=configs/study_regularizers.py:filters=l2,operator=linear \
        --workdir=runs/l2
    python -m hypersphere.experiments run \
        configs/study_regularizers.py:scale=small --seeds=20-25
    python -m hypersphere.experiments compare results/small/study_regularizers \
        --within=filters --by=operator --to=plain

Reached: 54 runs, 62 to 174 seconds each on one core with other work beside it. With
each penalty the spherical networks are 1.6 to 2.1 points less accurate. Without one the
plain network is ahead by running averages too, 66.4 %; with one it loses 15 to 25
points by these, 26 to 36 by debiased ones, and nothing by batch statistics or
recalibrated: docs/results.md.
"""

from configs import study_operators
from hypersphere.experiments import family
from hypersphere.training import TrainConfig

FILTERS = {
    "none": (),
    "l2": ("*.conv.kernel: 2.5e-4 l2",),
    "orthogonality": ("*.conv.kernel: 1e-4 orthogonality",),
}


@family(filters=tuple(FILTERS), operator=("plain", "cosine", "linear"))
def get_config(filters: str, operator: str, scale: str) -> TrainConfig:
    config = study_operators.get_config(f"operator={operator},scale={scale}")
    config.optim.orthogonality = config.optim.l2 = 0.0
    others = ("head.kernel: 2.5e-4 l2", "*.norm.*: 2.5e-4 l2")
    config.optim.penalties = FILTERS[filters] + others
    return config
