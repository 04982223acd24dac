"""SphereNet-9 on CIFAR-10 by the authors' own recipe.

Claim: the published logs of the authors of Liu et al., Deep Hyperspherical Learning,
NIPS 2017: the sigmoid network ends at 91.40 % and reaches 91.81 % at its best test
evaluation (one run); the plain one, `cifar10_plain.py`, ends at 90.61 %.

Recipe: 64,000 steps of 128 images, Adam at 1e-3 divided by 10 after 34,000 and 54,000
steps, mirrored images, smoothed softmax, orthogonality 1e-4, batch normalization with
running averages that start at zero (momentum 0.999, epsilon 1e-3), also after the
feature layer, as in the networks behind the logs.

Command:
    python train.py --config=configs/cifar10_sphere.py --workdir=runs/cifar10_sphere

    The data: `tfds build cifar10 --file_format=array_record`, in an environment with
    TensorFlow; or any set of images, `--config.data.source=folder:PATH`.

Reached: not run in full yet. See docs/results.md for shortened, narrow runs.
"""

from hypersphere.training import TrainConfig


def get_config() -> TrainConfig:
    config = TrainConfig(
        steps=64_000,
        batch_size=128,
        log_every=100,
        eval_every=500,
        checkpoint_every=2_000,
    )
    config.data.source = "tfds:cifar10"
    config.data.flip = True
    config.model.depth = 9
    config.model.similarity = "sigmoid"
    config.model.norm_features = True
    config.model.averages = "zero"
    config.model.momentum = 0.999
    config.model.epsilon = 1e-3
    config.loss.label_smoothing = 0.01
    config.loss.floor = 1e-4
    config.optim.name = "adam"
    config.optim.learning_rate = 1e-3
    config.optim.schedule = "piecewise"
    config.optim.boundaries = (34_000, 54_000)
    config.optim.orthogonality = 1e-4
    config.optim.l2 = 2.5e-4
    return config
