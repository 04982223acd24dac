r"""SphereResNet-18 on ImageNet by the authors' schedule.

Claim: Liu et al., Deep Hyperspherical Learning, NIPS 2017, the ImageNet experiment: a
spherical ResNet-18 converges faster than the plain one and ends at least as accurate.

Recipe: 550,000 steps, SGD with momentum 0.9 at 0.1 divided by 10 after 200,000 and
375,000 steps, orthogonality 1e-4 on spherical filters, L2 5e-5 on all others. Batches
of 40, mirrored images and an epsilon of 1e-3 are from the same authors' later ImageNet
code; random-resized crops, averages of momentum 0.99 that start as Flax has it, and the
penalty's weight (that code has 5e-6) are ours. The network has the filters of the
ResNet-18 that is known today. Other batches need other steps and rates: with 256
images, 86,000 and 0.64.

Command:
    python train.py --config=configs/imagenet_sphere.py --workdir=runs/imagenet
    python train.py --config=configs/imagenet_sphere.py:operator=plain \
        --workdir=runs/imagenet_plain

    The data: `tfds:imagenet2012` prepared as array_record in `data.data_dir`. From the
    published archives, without TensorFlow, at a shorter side of 256 pixels:
    `python -m hypersphere.data prepare tar:PATH --out=DATA_DIR --name=imagenet256
    --max_side=256`, then `--config.data.source=tfds:imagenet256`. What it takes:
    `--dry_run`. Several hosts: `launch/`.

    scale=small reads images of 64 pixels, with an eighth of the filters.

Reached: not run yet.
"""

from hypersphere.experiments import family
from hypersphere.training import TrainConfig


@family(operator=("linear", "plain", "cosine", "sigmoid"))
def get_config(operator: str, scale: str) -> TrainConfig:
    config = TrainConfig(steps=550_000, batch_size=40, eval_batch_size=200)
    config.log_every, config.eval_every, config.checkpoint_every = 100, 10_000, 5_000
    config.data.source = "tfds:imagenet2012"
    config.data.stream, config.data.image_size = True, 224
    config.data.flip = True
    config.model.name, config.model.depth = "resnet", 18
    config.model.similarity = "none" if operator == "plain" else operator
    config.model.momentum, config.model.epsilon = 0.99, 1e-3
    config.optim.name, config.optim.learning_rate = "sgd", 0.1
    config.optim.schedule = "piecewise"
    config.optim.boundaries = ("36.3636%", "68.1818%")
    config.optim.orthogonality, config.optim.l2 = 1e-4, 5e-5
    if scale == "small":
        config.steps = 2_000
        config.eval_every = config.checkpoint_every = 500
        config.data.image_size, config.model.width = 64, 1 / 8
    return config
