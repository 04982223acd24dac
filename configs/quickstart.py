"""A small SphereNet reads handwritten digits."""

from hypersphere.training import TrainConfig


def get_config() -> TrainConfig:
    config = TrainConfig(steps=1200, batch_size=64)
    config.log_every, config.eval_every, config.checkpoint_every = 50, 300, 300
    config.data.source, config.data.pad = "mnist5k", 2
    config.model.depth, config.model.width = 3, 1 / 8
    config.model.similarity = "linear"
    config.optim.schedule = "cosine"
    config.optim.learning_rate = 3e-3
    return config
