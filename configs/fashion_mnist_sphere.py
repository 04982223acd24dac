"""A narrow SphereNet on Fashion-MNIST, read from IDX files.

Claim: none of the paper's; a set between digits and photographs, for a laptop.

Command:
    python train.py --config=configs/fashion_mnist_sphere.py --workdir=runs/fashion

    The data: `train-images-idx3-ubyte.gz` and its three companions, as Fashion-MNIST
    is published, in one folder. Debian's package `dataset-fashion-mnist` puts them
    where `config.data.source` points; elsewhere, `--config.data.source=idx:PATH`.

Reached: see docs/results.md.
"""

from hypersphere.training import TrainConfig


def get_config() -> TrainConfig:
    config = TrainConfig(steps=3_000, batch_size=128)
    config.log_every, config.eval_every, config.checkpoint_every = 100, 500, 500
    config.data.source = "idx:/usr/share/datasets/fashion-mnist"
    config.data.flip, config.data.pad = True, 2
    config.model.depth, config.model.width = 3, 1 / 4
    config.model.similarity = "linear"
    config.model.momentum = 0.9
    config.optim.learning_rate, config.optim.schedule = 3e-3, "cosine"
    return config
