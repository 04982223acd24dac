"""Runs that are begun wrongly, and runs whose numbers go wrong."""

import json
import time

import numpy as np
import pytest
from PIL import Image

from hypersphere import data, training
from tests.training import resilience
from tests.training.resilience import arrays, kill, last_step, outcome, run, start

pytestmark = pytest.mark.slow


def refusal(workdir, *arguments, devices=1):
    """The one line that a wrong run ends in, before it has compiled anything."""
    cache = workdir.with_name("empty")
    given = {"JAX_COMPILATION_CACHE_DIR": str(cache)}
    log = workdir.with_name("log")
    done = run(workdir, *arguments, devices=devices, log=log, environment=given)
    assert done.status == 1
    assert not list(cache.glob("*-cache"))
    (line,) = done.err.splitlines()
    return line


def test_a_folder_that_cannot_be_made_is_named(tmp_path):
    (tmp_path / "file").write_text("")
    folder = tmp_path / "file" / "run"
    cache = {"JAX_COMPILATION_CACHE_DIR": str(tmp_path / "empty")}
    done = run(folder, "--config.steps=2", log=tmp_path / "log", environment=cache)
    assert done.status == 1
    (line,) = done.err.splitlines()
    assert f"{folder} cannot be written (Not a directory)" in line
    assert not list((tmp_path / "empty").glob("*-cache"))


@pytest.mark.parametrize(
    ("argument", "message"),
    [
        ("--config.mesh.fsdp=3", "to be the number of devices, 4, got"),
        ("--config.batch_size=6", "to be a multiple of 4"),
    ],
)
def test_devices_that_do_not_fit_are_refused(tmp_path, argument, message):
    line = refusal(tmp_path / "run", "--config.steps=2", argument, devices=4)
    assert line.startswith("train.py: ") and message in line
    assert not (tmp_path / "run").exists()


def test_another_config_is_refused_unless_changes_are_allowed(tmp_path):
    folder, steps = tmp_path / "run", "--config.steps=4"
    assert run(folder, steps).status == 0
    before = resilience.logged(folder), arrays(folder)
    changes = ["--config.seed=1", "--config.optim.schedule=constant"]
    changes += ["--config.batch_size=16", "--config.steps=6"]
    line = refusal(folder, *changes)
    for told in (
        "config.seed is 0 there and 1 now",
        "config.optim.schedule.name is 'cosine' there and 'constant' now",
        "config.batch_size is 8 there and 16 now",
        "config.steps is 4 there and 6 now",
        "--allow_changes",
    ):
        assert told in line
    assert (resilience.logged(folder), arrays(folder)) == before

    done = run(folder, *changes, "--allow_changes")
    assert (done.status, done.err) == (0, "")
    assert f"Resuming {folder} at step 4" in done.out
    assert last_step(folder) == 6


def dark_images_and_bright_ones(folder):
    """Sixty images of two classes; every tenth is so bright that gradients overflow."""
    generator = np.random.default_rng(3)
    for index in range(60):
        name = folder / "ab"[index % 2] / f"{index}.png"
        name.parent.mkdir(parents=True, exist_ok=True)
        pixels = generator.integers(0, 2, (8, 8)) + 254 * (index % 10 == 0)
        Image.fromarray(pixels.astype(np.uint8)).save(name)
    return f"folder:{folder}"


def test_steps_that_are_not_finite_are_left_out_and_counted(tiny, tmp_path):
    tiny.steps, tiny.log_every = 30, 1
    tiny.data.source = dark_images_and_bright_ones(tmp_path / "images")
    tiny.data.mean, tiny.data.std, tiny.data.image_size = 0.0, 1e-19, 8
    tiny.model.similarity, tiny.model.batch_norm = "none", False
    tiny.guard.max_skipped = 30
    training.train(tiny, tmp_path / "run")
    lines = (tmp_path / "run" / "metrics.jsonl").read_text().splitlines()
    skipped = [x["skipped"] for x in map(json.loads, lines) if x["split"] == "train"]

    images = data.load(tiny.data.source, image_size=8, seed=tiny.seed).train.images
    is_bright = np.array([image.max() > 200 for image in images])
    batches = [
        data.batch_indices(step, size=len(images), batch_size=8, seed=tiny.seed)
        for step in range(30)
    ]
    has_bright = np.array([is_bright[batch].any() for batch in batches])
    is_left_out = np.diff(skipped, prepend=0).astype(bool)
    assert 1 < skipped[-1] == is_left_out.sum()
    assert np.all(has_bright[is_left_out]) and not np.all(has_bright)

    tiny.guard.max_skipped = int(skipped[-1]) - 1
    with pytest.raises(training.DivergedError, match="other steps that were left out"):
        training.train(tiny, tmp_path / "strict")


def test_a_run_rewinds_past_a_spike_even_when_it_is_killed_after_it(tmp_path):
    arguments = ["--config.steps=150", "--config.checkpoint_every=10"]
    arguments += ["--config.guard.spike=3", "--config.guard.window=20"]
    arguments += ["--config.guard.max_rewinds=50"]
    straight = run(tmp_path / "straight", *arguments)
    assert (straight.status, straight.err) == (0, "")
    assert "Rewound to step" in straight.out

    folder = tmp_path / "killed"
    process = start(folder, *arguments)
    rewound = lambda: "Rewound" in resilience.said(process)  # noqa: E731
    assert resilience.wait_until(rewound, process)
    time.sleep(0.05)
    kill(process)
    done = run(folder, *arguments)
    assert (done.status, done.err) == (0, "")
    assert outcome(folder) == outcome(tmp_path / "straight")
    (position,) = (x for name, x in arrays(folder).items() if "position" in name)
    assert np.frombuffer(position, np.int32)[0] > 150
