"""A small SphereNet learns to read handwritten digits.

Claim: on two CPU cores, from nothing to a test accuracy of at least 0.98 in about a
minute, compilation included.

Recipe: three cosine SphereConv layers of 24, 36 and 48 filters on 4,000 real digits,
shifted by up to two pixels (never mirrored), Adam with a cosine schedule.

Command:
    python train.py --config=configs/quickstart.py --workdir=runs/quickstart

Reached: see docs/results.md; `make benchmark-quickstart` repeats it over three seeds.
"""

from hypersphere.training import TrainConfig


def get_config() -> TrainConfig:
    config = TrainConfig(steps=2_400, batch_size=64)
    config.log_every, config.eval_every, config.checkpoint_every = 50, 300, 300
    config.data.source, config.data.pad = "mnist5k", 2
    config.data.mean, config.data.std = 0.0, 255.0
    config.model.depth, config.model.width = 3, 3 / 16
    config.model.similarity = "cosine"
    config.model.norm_features = True
    config.model.momentum = 0.9
    config.optim.learning_rate, config.optim.schedule = 3e-3, "cosine"
    return config
