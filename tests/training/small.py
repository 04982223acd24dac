"""Runs small enough for tests, by the fields that matter to one."""

import jax
import numpy as np

from hypersphere import training
from hypersphere.training import _setup
from hypersphere.training._program import by_name

SOURCE = "synthetic:8x8x1,classes=3,examples=48"


def config_of(changes=(), /, **fields):
    """A tiny config; `changes` are pairs of a dotted path and a value."""
    config = training.TrainConfig(steps=6, batch_size=8, eval_batch_size=7)
    config.log_every, config.eval_every, config.checkpoint_every = 2, 3, 3
    config.data.source = SOURCE
    config.model.depth, config.model.width = 3, 1 / 64
    config.model.momentum = 0.5
    config.optim.name, config.optim.momentum = "sgd", 0.0
    config.optim.learning_rate = 0.1
    for path, value in (*dict(changes).items(), *fields.items()):
        *parents, name = path.split(".")
        setattr(getattr(config, parents[0]) if parents else config, name, value)
    return config


def set_up(config):
    return _setup.prepare(config, say=print)


def arrays(tree):
    """NumPy copies, which outlive a donation."""
    return jax.tree.map(lambda leaf: np.array(leaf), tree)


def after(setup, steps, state=None, start=0):
    """The state after some steps, and the metrics of each of them."""
    state = setup.program.init() if state is None else state
    found = []
    for position in range(start, start + steps):
        batches = setup.feed.take(position, 1)
        state, metrics = setup.program.train(state, *batches)
        found.append({name: float(x[0]) for name, x in by_name(metrics).items()})
    return state, found


def train_images(setup, position):
    """The uint8 images and the labels of a batch."""
    (images, labels), order = setup.feed.take(position, 1)
    return np.asarray(images)[order[0]], np.asarray(labels)[order[0]]
