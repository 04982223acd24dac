r"""Does a spherical ResNet lead on training batches, as in the authors' logs?

Claim: Liu et al., NIPS 2017: spherical networks converge faster. In the logs the
authors published (one run each) the wide ResNet-32 with linear SphereConv is ahead of
its plain twin in training mode, which no average of batch normalization can explain:
75.3 ± 2.0 against 67.0 ± 2.3 % at steps 600 to 1,000, 85.6 ± 0.9 against 82.5 ± 0.9 %
at 2,100 to 4,000 (standard errors over the batches of one run,
`results/convergence.py`). Their SphereNets are there from 1.6 points behind to 0.9
ahead, and from 0.2 to 1.6 ahead.

Recipe: `cifar10plus_sphere_resnet32.py` at a constant rate of 1e-3, as theirs is for
34,000 steps. At scale=small ResNet-20 of He et al. (16, 32 and 64 filters), 32 pixels,
three epochs of 128 images.

Exploratory: two seeds; the mean accuracy on the logged training batches of steps 600 to
1,000, one number a run.

Command:
    python train.py --config=configs/study_resnet.py:operator=plain \
        --workdir=runs/resnet
    python -m hypersphere.experiments run configs/study_resnet.py:scale=small --seeds=2
    python -m hypersphere.experiments compare results/small/study_resnet \
        --by=operator --to=plain --training=600-1000

Reached: 4 runs of 722 to 890 seconds on one core: on those training batches linear is
4.3 points (2.6 to 6.0) less accurate than plain, the reverse of the authors' logs.
"""

from configs import cifar10plus_sphere_resnet32, study_rates
from hypersphere import recipes
from hypersphere.experiments import family
from hypersphere.training import TrainConfig


@family(operator=("linear", "plain"))
def get_config(operator: str, scale: str) -> TrainConfig:
    config = cifar10plus_sphere_resnet32.get_config(f"operator={operator},scale=paper")
    study_rates.judge_on_test(config)
    config.optim.schedule = recipes.Constant()
    config.log_every, config.checkpoint_every = 25, 100
    if scale == "small":
        config.model.depth, config.model.width = 20, 1.0
        config.steps = "3 epochs"
    return config
