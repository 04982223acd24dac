"""Trains on meshes of simulated devices and prints the losses: python -m ... ."""

import dataclasses
import json
import os
import pathlib
import sys

import jax
import numpy as np

ROOT = pathlib.Path(__file__).parents[2]
STEPS = 20


def config_of(similarity):
    from hypersphere import training

    config = training.TrainConfig(steps=STEPS, batch_size=16, eval_batch_size=16)
    config.data.source = "synthetic:8x8x3,classes=8,examples=64"
    config.data.flip, config.data.pad = True, 1
    config.model.depth, config.model.width = 3, 1 / 16
    config.model.similarity = similarity
    config.model.momentum = 0.9
    config.loss.name = "w_softmax"
    config.optim.name, config.optim.ema = "adamw", 0.9
    config.optim.weight_decay, config.optim.clip_norm = 1e-2, 1.0
    return config


def losses(config, mesh_sizes, devices):
    from hypersphere import training
    from hypersphere.training.machine import _mesh
    from hypersphere.training.run import _setup

    data, fsdp, model = mesh_sizes
    sizes = training.MeshConfig(data=data, fsdp=fsdp, model=model)
    config = dataclasses.replace(config, mesh=sizes)
    mesh = _mesh.make_mesh(sizes, devices)
    setup = _setup.prepare(config, print, mesh=mesh)
    state, found = setup.program.init(), []
    for step in range(STEPS):
        state, metrics = setup.program.train(state, *setup.feed.take(step, 1))
        found.append(float(setup.program.by_name(metrics)["loss"][0]))
    halves = {
        jax.tree_util.keystr(keys): str(leaf.sharding.spec)
        for keys, leaf in jax.tree_util.tree_flatten_with_path(state)[0]
        if not leaf.sharding.is_fully_replicated
    }
    sums = [
        setup.program.judge(state, *batch) for batch in setup.evaluators["test"].split
    ]
    right = sum(float(part["accuracy"]) for part in sums)
    count = sum(float(part["examples"]) for part in sums)
    return {"losses": found, "divided": halves, "right": right, "examples": count}


if __name__ == "__main__":
    cache = os.environ.get("JAX_CACHE", str(ROOT / ".cache" / "jax"))
    jax.config.update("jax_compilation_cache_dir", cache)
    jax.config.update("jax_persistent_cache_min_compile_time_secs", 0.0)
    shapes = [tuple(map(int, word.split("x"))) for word in sys.argv[2:]]
    answers = {
        "x".join(map(str, shape)): losses(
            config_of(sys.argv[1]), shape, jax.devices()[: int(np.prod(shape))]
        )
        for shape in shapes
    }
    print(json.dumps(answers))
