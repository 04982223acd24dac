r"""SphereResNet-50 on ImageNet with a recipe of today.

Claim: none of the paper's, which has no ResNet-50. Whether SphereConv still helps where
the plain network is trained well.

Recipe: 100 epochs of 1,024 images, SGD with Nesterov momentum 0.9 at 0.4, warm-up
during 5 epochs and a cosine schedule, random-resized crops and mirrored images, label
smoothing 0.1, bfloat16. Decoupled weight decay 5e-4 on plain kernels and the head,
which at this momentum is an L2 of 5e-5 in the gradient, and none on spherical filters,
whose length changes nothing but their learning rate; no orthogonality.

Command:
    python train.py --config=configs/imagenet_sphere_resnet50.py --workdir=runs/resnet50
    python train.py --config=configs/imagenet_sphere_resnet50.py:operator=plain \
        --workdir=runs/resnet50_plain

    The data: as in `imagenet_sphere.py`.

    scale=small reads images of 64 pixels, with an eighth of the filters.

Reached: not run yet.
"""

from hypersphere.experiments import family
from hypersphere.training import TrainConfig


@family(operator=("linear", "plain", "cosine", "sigmoid"))
def get_config(operator: str, scale: str) -> TrainConfig:
    config = TrainConfig(steps="100 epochs", batch_size=1024, eval_batch_size=1000)
    config.log_every, config.eval_every = 100, "1 epochs"
    config.checkpoint_every = 1_000
    config.data.source = "tfds:imagenet2012"
    config.data.stream, config.data.image_size = True, 224
    config.data.flip = True
    config.model.name, config.model.depth = "resnet", 50
    config.model.similarity = "none" if operator == "plain" else operator
    config.model.momentum = 0.9
    config.model.dtype = "bfloat16"
    config.loss.label_smoothing = 0.1
    config.optim.name, config.optim.nesterov = "sgd", True
    config.optim.learning_rate = 0.4
    config.optim.schedule, config.optim.warmup = "cosine", "5 epochs"
    config.optim.weight_decay, config.optim.orthogonality = 5e-4, 0.0
    if scale == "small":
        config.steps, config.batch_size = "2 epochs", 64
        config.optim.learning_rate, config.optim.warmup = 0.025, "5%"
        config.data.image_size, config.model.width = 64, 1 / 8
    return config
