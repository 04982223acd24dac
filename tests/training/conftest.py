import subprocess

import pytest

from hypersphere import training


@pytest.fixture
def tiny():
    """A config whose run takes seconds."""
    config = training.TrainConfig(steps=6, batch_size=8, eval_batch_size=7)
    config.log_every, config.eval_every, config.checkpoint_every = 2, 3, 3
    config.data.source = "synthetic:8x8x1,classes=3,examples=48"
    config.data.flip, config.data.pad = True, 1
    config.model.depth, config.model.width = 3, 1 / 64
    config.model.momentum = 0.5
    config.optim.learning_rate, config.optim.schedule = 1e-2, "cosine"
    return config


@pytest.fixture
def small_disk(tmp_path):
    """A disk of 6 MB."""
    folder = tmp_path / "disk"
    folder.mkdir()
    mount = ["mount", "-t", "tmpfs", "-o", "size=6m", "tmpfs", folder]
    try:
        done = subprocess.run(mount, capture_output=True, text=True)
    except OSError as error:
        pytest.skip(f"no disk can be mounted here: {error}")
    if done.returncode:
        pytest.skip(f"no disk can be mounted here: {done.stderr}")
    yield folder
    subprocess.run(["umount", "--lazy", folder], check=True)
