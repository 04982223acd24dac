import json
import shutil

import jax
import numpy as np
import pytest
from PIL import Image

from hypersphere import data, training
from hypersphere.training.machine import _mesh
from hypersphere.training.run import _feed, _loop
from hypersphere.training.settings._config import MeshConfig
from tests.training.small import config_of, set_up

SIZE = 8
PARTS = {"train": 6, "test": 3}  # images of each of three classes


def level(part, label, index):
    """The gray of an image, which tells it from all others."""
    return 5 + 20 * label + 3 * index + (100 if part == "test" else 0)


@pytest.fixture(scope="module")
def folder(tmp_path_factory):
    """Eighteen images to train on and nine to test on, each of one gray."""
    root = tmp_path_factory.mktemp("images")
    for part, count in PARTS.items():
        for label, name in enumerate(("cat", "dog", "owl")):
            (root / part / name).mkdir(parents=True)
            for index in range(count):
                gray = level(part, label, index)
                pixels = np.full((12, 10, 3), gray, np.uint8)
                Image.fromarray(pixels).save(root / part / name / f"{index}.png")
    return root


def config_for(folder, **changes):
    fields = {"data.source": f"folder:{folder}", "data.stream": True}
    fields |= {"data.image_size": SIZE, "data.threads": 2, "batch_size": 6}
    return config_of(fields | changes)


def feed_of(config, say=print):
    mesh = _mesh.make_mesh(MeshConfig(data=1), jax.devices()[:1])
    return _feed.make_feed(config, mesh, say)


@pytest.fixture
def stream(folder):
    feed = feed_of(config_for(folder))
    yield feed
    feed.close()


def expected(folder, position):
    config = config_for(folder)
    records = data.open_records(config.data.source, seed=config.seed)
    return data.batch_at(
        records.train,
        position,
        batch_size=config.batch_size,
        seed=config.seed,
        image_size=SIZE,
        scale=(config.data.min_crop, 1.0),
    )


@pytest.mark.parametrize("positions", [(0, 1, 2, 3, 4), (7, 8), (4, 5, 1, 2, 9, 0)])
def test_any_position_has_the_batch_that_it_always_has(stream, folder, positions):
    for position in positions:
        (images, labels), order = stream.take(position, 1)
        batch = expected(folder, position)
        np.testing.assert_array_equal(images, batch.images)
        np.testing.assert_array_equal(labels, batch.labels)
        assert order is None


def test_a_stream_goes_on_after_the_last_step_of_a_run(stream, folder):
    for position in (5, 6):  # the run has six steps
        images = stream.take(position, 1)[0][0]
        np.testing.assert_array_equal(images, expected(folder, position).images)


def test_a_duration_in_epochs_is_no_hindrance(folder):
    feed = feed_of(config_for(folder, steps="2 epochs"))
    images = feed.take(0, 1)[0][0]
    feed.close()
    np.testing.assert_array_equal(images, expected(folder, 0).images)


def test_a_stream_gives_one_batch_at_a_time(stream):
    with pytest.raises(ValueError, match=r"one batch at a time, not 2"):
        stream.take(0, 2)


def test_a_closed_stream_can_be_closed_again_and_taken_from(stream, folder):
    stream.take(0, 1)
    stream.close()
    stream.close()
    images = stream.take(3, 1)[0][0]
    np.testing.assert_array_equal(images, expected(folder, 3).images)


def seen(split):
    """(gray, label) of every image that counts, and the sum of the weights."""
    found, total = [], 0.0
    for (images, labels), order, weights in split:
        assert order is None and images.shape == (7, SIZE, SIZE, 3)
        real = np.asarray(weights) > 0
        grays = np.asarray(images)[real, 0, 0, 0].tolist()
        found += zip(grays, np.asarray(labels)[real].tolist(), strict=True)
        total += float(np.sum(weights))
    return sorted(found), total


def all_of(part):
    classes = range(3)
    return sorted((level(part, k, i), k) for k in classes for i in range(PARTS[part]))


def test_an_evaluation_counts_every_test_image_once(stream):
    found, total = seen(stream.split("test"))
    assert found == all_of("test") and total == 9
    assert seen(stream.split("test"))[0] == found


def test_some_images_are_evenly_spaced(stream):
    found, total = seen(stream.split("train", most=9))
    assert total == 9 == len(set(found))
    assert set(found) <= set(all_of("train"))


def test_the_facts_are_those_of_the_folder(stream):
    facts = stream.images.facts()
    assert facts.pop("name").startswith("folder:")
    contents = facts.pop("contents")
    assert {part: len(digest) for part, digest in contents.items()} == {
        "train": 32,
        "test": 32,
    }
    assert facts == {
        "image_shape": [SIZE, SIZE, 3],
        "num_classes": 3,
        "train": 18,
        "test": 9,
        "validation": 0,
        "dtype": "uint8",
        "class_names": ["cat", "dog", "owl"],
    }


def test_a_label_that_is_no_class_is_refused_by_its_number(folder):
    opened = data.open_records(f"folder:{folder}")
    two = data.RecordSet("two", opened.train, opened.test, opened.class_names[:2])
    mesh = _mesh.make_mesh(MeshConfig(data=1), jax.devices()[:1])
    feed = _feed.make_feed(config_for(folder), mesh, print, dataset=two)
    with pytest.raises(ValueError, match="two, train, has the label 2, but only 2"):
        feed.take(0, 1)
    feed.close()


@pytest.fixture
def torn(folder, tmp_path):
    """The same images, one of each part cut in half."""
    root = tmp_path / "torn"
    shutil.copytree(folder, root)
    for name in ("train/dog/2.png", "test/owl/1.png"):
        content = (root / name).read_bytes()
        (root / name).write_bytes(content[: len(content) // 2])
    return root


def test_an_unreadable_file_is_said_once_by_its_name(torn):
    said = []
    feed = feed_of(config_for(torn, **{"data.max_bad": 0.5}), said.append)
    for position in range(9):  # three epochs
        feed.take(position, 1)
    feed.close()
    assert len(said) == 1
    assert said[0].endswith("train/dog/2.png") and "cannot be decoded" in said[0]


def test_an_unreadable_test_image_counts_nothing(torn):
    said = []
    feed = feed_of(config_for(torn, **{"data.max_bad": 0.5}), said.append)
    for _ in range(2):
        found, total = seen(feed.split("test"))
        assert total == 8
        assert set(all_of("test")) - set(found) == {(level("test", 2, 1), 2)}
    assert len(said) == 1 and said[0].endswith("test/owl/1.png")


@pytest.mark.parametrize("part", ["train", "test"])
def test_more_unreadable_files_than_allowed_end_the_run(torn, part):
    feed = feed_of(config_for(torn, **{"data.max_bad": 0.01}), lambda line: None)
    with pytest.raises(
        ValueError, match=rf"1 of the \d+ images of .*{part}.*max_bad=0"
    ):
        if part == "test":
            seen(feed.split("test"))
        for position in range(9):
            feed.take(position, 1)
    feed.close()


@pytest.mark.slow
def test_a_run_trains_on_a_stream(folder, tmp_path, monkeypatch):
    config = config_for(folder, steps="2 epochs", evaluators=("train every 3",))
    monkeypatch.setattr(_loop, "finish", lambda c, f, run, *_: {"steps": run.step})
    assert training.train(config, tmp_path) == {"steps": 6}
    rows = map(json.loads, (tmp_path / "metrics.jsonl").read_text().splitlines())
    found = {(row["split"], row["step"]) for row in rows if np.isfinite(row["loss"])}
    assert {("test", 3), ("test", 6), ("train_eval", 6), ("train", 6)} <= found


@pytest.mark.slow
def test_a_whole_run_on_a_stream_ends_with_its_result_and_its_model(folder, tmp_path):
    config = config_for(folder, steps=3)
    result = training.train(config, tmp_path)
    with np.load(tmp_path / "features.npz") as arrays:
        assert len(arrays["features"]) == 9
        assert sorted(arrays["labels"].tolist()) == [0, 0, 0, 1, 1, 1, 2, 2, 2]
    assert result["steps"] == 3
    assert training.load(tmp_path).model.image_shape == (SIZE, SIZE, 3)


@pytest.mark.slow
def test_a_dry_run_opens_a_stream_once(folder, monkeypatch):
    start, starts = _feed.Streamed._start, []

    def counted(self, position):
        starts.append(position)
        start(self, position)

    monkeypatch.setattr(_feed.Streamed, "_start", counted)
    found = training.dry_run(config_for(folder, steps="1 epochs"))
    assert starts == [0]
    assert found["training_seconds"] == 3 * found["step_seconds"]


def test_a_resident_set_is_taken_in_the_order_of_the_steps():
    config = config_of()
    feed = set_up(config).feed
    (images, labels), order = feed.take(4, 3)
    whole = data.load(config.data.source, seed=config.seed).train
    np.testing.assert_array_equal(images, whole.images)
    np.testing.assert_array_equal(labels, whole.labels)
    options = {"size": 48, "batch_size": 8, "seed": config.seed}
    steps = [data.batch_indices(step, **options) for step in (4, 5, 6)]
    np.testing.assert_array_equal(order, np.stack(steps))


def test_a_batch_larger_than_the_set_is_refused():
    with pytest.raises(ValueError, match=r"batch_size=49.*size=48"):
        feed_of(config_of(batch_size=49))


def test_a_streamed_set_smaller_than_a_batch_is_refused(folder):
    with pytest.raises(ValueError, match=r"batch_size=19.*size=18"):
        feed_of(config_for(folder, batch_size=19))


def test_evenly_spaced_ones_reach_over_the_whole_set():
    chosen = _feed.spaced(np.arange(4), size=4, total=10)
    assert chosen.tolist() == [0, 2, 5, 7]
    np.testing.assert_array_equal(
        _feed.spaced(np.arange(7), size=7, total=7), np.arange(7)
    )
    most = _feed.spaced(np.array([49_999], np.int32), size=50_000, total=1_300_000)
    assert most == [1_299_974]
