r"""Does the sign of a difference change with the number of filters?

Claim: Liu et al., NIPS 2017, on widths: very narrow spherical networks may be slightly
worse, wider ones are better.

Recipe: `study_operators.py` with a share of the published 128, 192 and 256 filters, at
the rate that was chosen at an eighth. At scale=small pixels, steps and batches are
those of the narrow networks, so that an eighth of the filters, which is
`study_operators.py` itself, continues the row.

Exploratory: differences at each width with their intervals, six, three and one run an
arm. The rate was chosen for neither of these widths; at a half another one is better:
`study_half_rates.py`, `study_half.py`.

Command:
    python train.py --config=configs/study_width.py:width=0.5,operator=linear \
        --workdir=runs/half
    python -m hypersphere.experiments run \
        configs/study_width.py:scale=small,width=0.25 --seeds=6
    python -m hypersphere.experiments run \
        configs/study_width.py:scale=small,width=0.5 --seeds=3
    python -m hypersphere.experiments run \
        configs/study_width.py:scale=small,width=1.0 --seeds=1
    python -m hypersphere.experiments compare results/small/study_width \
        --within=width --by=operator --to=plain

Reached: width 0.25, 12 runs of 240 to 554 seconds on one core with other work beside
it: linear 1.4 points (0.7 to 2.0) less accurate than plain (70.6 %), as at an eighth.
0.5, 6 runs of 435 to 551 seconds: 6.2 points behind to 0.6 ahead of plain (68.8 %).
1.0, one run each of 2,114 and 2,595 seconds, which decides nothing: linear 63.7 %,
plain 64.2 %.
"""

from configs import study_operators
from hypersphere.experiments import family
from hypersphere.training import TrainConfig


@family(width=(0.25, 0.5, 1.0), operator=("plain", "linear"))
def get_config(width: float, operator: str, scale: str) -> TrainConfig:
    config = study_operators.get_config(f"operator={operator},scale={scale}")
    config.model.width = width
    return config
