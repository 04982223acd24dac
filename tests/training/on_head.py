"""Trains heads of every level on 4 simulated devices: python -m tests.training.on_head.

Prints test losses, what shape the head has, and which class centres have moved.
"""

import contextlib
import io
import json
import os
import pathlib
import sys
import tempfile

import numpy as np

ROOT = pathlib.Path(__file__).parents[2]


def config_of(level, model, steps, **head):
    from hypersphere import training

    config = training.TrainConfig(steps=steps, batch_size=8, eval_batch_size=16)
    config.log_every, config.eval_every, config.checkpoint_every = 2, 4, 2
    config.data.source = "synthetic:8x8x1,classes=59,examples=64"
    config.model.depth, config.model.width = 3, 1 / 64
    config.loss, config.optim = "arcface", "adam"
    config.loss.scale = 4.0
    config.optim.ema = 0.5
    config.mesh.model, config.mesh.data = model, -1
    config.head.level = level
    if level != "full":
        config.head.chunk = 5
    for field, value in head.items():
        setattr(config.head, field, value)
    return config


def run(folder, *arguments, **head):
    from hypersphere import training

    with contextlib.redirect_stdout(io.StringIO()):
        config = config_of(*arguments, **head)
        result = training.train(config, folder, allow_changes=True)
    return result["test_loss"]


def main():
    from hypersphere import training, viz
    from hypersphere.training.run._load import restored

    viz.draw = lambda folder: []
    found = {}
    with tempfile.TemporaryDirectory() as name:
        folder = pathlib.Path(name)
        found["divided"] = run(folder / "chunked", "chunked", 4, 4)
        run(folder / "resumed", "full", 4, 2)
        _, state, _ = restored(folder / "resumed")
        found["columns"] = state.params["head"]["kernel"].shape[1]
        found["resumed"] = run(folder / "resumed", "chunked", 1, 4)
        found["sampled"] = run(folder / "sampled", "sampled", 4, 1, share=0.2)
        after = training.load(folder / "sampled").model.head.class_centres
        head = training.load(folder / "resumed").model.head
        found["loaded"] = head.kernel.shape[1]
        found["centres"] = np.asarray(after).shape[1]
        start = start_of(config_of("sampled", 4, 1, share=0.2))
        moved = np.any(np.asarray(after) != start, axis=0)
        found["moved"] = [int(i) for i in np.flatnonzero(moved)]
    sys.stdout.write(json.dumps(found))


def start_of(config):
    """The class centres before the first step."""
    import jax

    from hypersphere import training

    images = training.Images("", (8, 8, 1), 59, 64)
    make = jax.jit(lambda: config.model.make(config, images).head.class_centres)
    return np.asarray(make())


if __name__ == "__main__":
    import jax

    cache = os.environ.get("JAX_CACHE", str(ROOT / ".cache" / "jax"))
    jax.config.update("jax_compilation_cache_dir", cache)
    main()
