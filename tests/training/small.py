"""Runs small enough for tests, by the fields that matter to one."""

import jax
import numpy as np
from flax import nnx

from hypersphere import training
from hypersphere.training.checkpoints._checkpoint import Checkpoints
from hypersphere.training.run import _setup
from hypersphere.training.settings._text import to_json
from tests.helpers import filled

SOURCE = "synthetic:8x8x1,classes=3,examples=48"


def config_of(changes=(), /, **fields):
    """A tiny config; `changes` are pairs of a dotted path and a value."""
    config = training.TrainConfig(steps=6, batch_size=8, eval_batch_size=7)
    config.log_every, config.eval_every, config.checkpoint_every = 2, 3, 3
    config.data.source = SOURCE
    config.model.depth, config.model.width = 3, 1 / 64
    config.model.momentum = 0.5
    config.optim.name, config.optim.learning_rate = "sgd", 0.1
    for path, value in (*dict(changes).items(), *fields.items()):
        *parents, name = path.split(".")
        setattr(getattr(config, parents[0]) if parents else config, name, value)
    return config


def section(name, /, **fields):
    """A section of a config with some fields set, in any order."""
    made = getattr(training.TrainConfig(), name)
    for field, value in fields.items():
        setattr(made, field, value)
    return made


def lively():
    """A config whose steps all differ: in rate, in order, in flips and shifts."""
    config = config_of({"optim.name": "adam", "optim.learning_rate": 1e-2})
    config.optim.schedule, config.optim.warmup = "cosine", 2
    config.data.flip, config.data.pad = True, 1
    return config


def set_up(config, parts=None):
    return _setup.prepare(config, say=print, parts=parts)


def arrays(tree):
    """NumPy copies, which outlive a donation."""
    return jax.tree.map(lambda leaf: np.array(leaf), tree)


def fresh(setup):
    """A state at step zero by NumPy, because `init` takes seconds to compile."""
    program = setup.program
    _, *variables = nnx.split(
        filled(program.task._parts.make_model), nnx.Param, nnx.BatchStat
    )
    params, stats = (arrays(nnx.to_pure_dict(kind)) for kind in variables)
    average = program.template.average and {"params": params, "stats": stats}
    zeros = jax.tree.map(lambda x: np.zeros(x.shape, x.dtype), program.template)
    state = zeros._replace(params=params, stats=stats, average=average)
    place = lambda leaf, like: jax.device_put(leaf.copy(), like.sharding)  # noqa: E731
    return jax.tree.map(place, state, program.template)


def after(setup, steps, state=None, start=0):
    """The state after some steps, and the metrics of each of them."""
    state = fresh(setup) if state is None else state
    found = []
    for position in range(start, start + steps):
        batches = setup.feed.take(position, 1)
        state, metrics = setup.program.train(state, *batches)
        named = setup.program.by_name(metrics)
        found.append({name: float(x[0]) for name, x in named.items()})
    return state, found


def leave_run(config, folder):
    """A run's config and its checkpoint, whose average is not what is trained."""
    setup = set_up(config)
    state = fresh(setup)
    average = jax.tree.map(lambda leaf: 2 * leaf, arrays(state.average))
    with Checkpoints(folder) as checkpoints:
        state = state._replace(average=jax.device_put(average))
        checkpoints.save(2, state, {"dataset": setup.feed.images.facts()})
    (folder / "config.json").write_text(to_json(setup.config))


def train_images(setup, position):
    """The uint8 images and the labels of a batch."""
    (images, labels), order = setup.feed.take(position, 1)
    return np.asarray(images)[order[0]], np.asarray(labels)[order[0]]
