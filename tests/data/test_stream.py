import errno
import functools
import io
import multiprocessing
import os
import pathlib
import subprocess
import sys
import threading
import time

import numpy as np
import pytest
from PIL import Image

from hypersphere import data
from hypersphere.data import _decode, _examples, _records
from tests.data import test_folder

SIZE = 8
train_batches = functools.partial(data.train_batches, seed=3, image_size=SIZE)
batch_at = functools.partial(data.batch_at, seed=3, image_size=SIZE)
eval_stream = functools.partial(data.eval_stream, image_size=SIZE)


@functools.cache
def photo(index):
    """A file whose blue says which one it is, and whose red and green say where."""
    pixels = np.full((20, 24, 3), index, np.uint8)
    pixels[..., 0] = 10 * np.arange(24)
    pixels[..., 1] = 12 * np.arange(20)[:, None]
    file = io.BytesIO()
    Image.fromarray(pixels).save(file, "PNG")
    return file.getvalue()


class Photos:
    """Images in memory, some of which are broken, or cannot be read some times."""

    def __init__(self, count, broken=(), failing=()):
        self.count, self.broken, self.failing = count, broken, dict(failing)
        self.reads = 0

    def __len__(self):
        return self.count

    def __getitem__(self, index):
        self.reads += 1
        if self.failing.get(index, 0):
            self.failing[index] -= 1
            raise OSError(errno.EIO, "Input/output error", self.name(index))
        content = photo(index)
        if index in self.broken:
            content = content[: len(content) // 2]
        return data.Record(content, 2 * index)

    def name(self, index):
        return f"photo {index}"


def which(batch):
    """The indices that the pixels of a batch show."""
    return batch.images[:, SIZE // 2, SIZE // 2, 2].tolist()


def assert_same(batches, others):
    for batch, other in zip(batches, others, strict=True):
        for values, expected in zip(batch, other, strict=True):
            assert values.dtype == expected.dtype
            np.testing.assert_array_equal(values, expected)


def joined(shares):
    """Global batches, from the batches of each process."""
    return [
        data.Batch(*(np.concatenate(values) for values in zip(*parts, strict=True)))
        for parts in zip(*shares, strict=True)
    ]


@pytest.mark.parametrize("threads", [0, 1, 3])
def test_a_stream_holds_the_batch_of_each_step(threads):
    photos = Photos(10)
    with train_batches(photos, batch_size=4, stop=9, threads=threads) as stream:
        found = list(stream)
    assert_same(found, [batch_at(photos, step, batch_size=4) for step in range(9)])


def test_a_stream_may_start_anywhere():
    photos = Photos(10)
    with train_batches(photos, batch_size=4, stop=9) as stream:
        whole = list(stream)
    with train_batches(photos, batch_size=4, start=5, stop=9) as stream:
        assert_same(stream, whole[5:])


@pytest.mark.parametrize("hosts", [2, 4])
def test_processes_share_the_same_global_batch(hosts):
    photos = Photos(13, broken={2, 5})
    options = {"batch_size": 8, "stop": 5}
    with train_batches(photos, **options) as stream:
        whole = list(stream)
    shares = [
        list(train_batches(photos, share=(host, hosts), **options))
        for host in range(hosts)
    ]
    assert all(len(batch.labels) == 8 // hosts for batch in shares[0])
    assert_same(joined(shares), whole)
    part = batch_at(photos, 3, batch_size=8, share=(1, hosts))
    assert_same([part], [shares[1][3]])


def test_images_and_labels_are_those_of_the_order():
    photos = Photos(10)
    for step in range(7):
        batch = batch_at(photos, step, batch_size=4)
        indices = data.batch_indices(step, size=10, batch_size=4, seed=3)
        assert which(batch) == indices.tolist()
        np.testing.assert_array_equal(batch.labels, 2 * indices)


def test_a_batch_has_the_promised_types():
    batch = batch_at(Photos(5), 0, batch_size=4)
    assert batch.images.shape == (4, SIZE, SIZE, 3)
    assert [x.dtype for x in batch] == [np.uint8, np.int32, np.float32, np.int32]
    assert batch.weights.tolist() == [1] * 4 and batch.skipped.tolist() == [-1] * 4
    assert batch.images.flags.c_contiguous


def test_every_epoch_and_every_seed_crop_anew():
    photos = Photos(2)
    options = {"batch_size": 2, "image_size": SIZE}
    crops = [batch_at(photos, step, batch_size=2).images[..., :2] for step in range(30)]
    assert len({image.tobytes() for batch in crops for image in batch}) == 60
    one, other = (
        data.batch_at(photos, 0, seed=seed, **options).images for seed in (3, 4)
    )
    assert (one[..., :2] != other[..., :2]).any()


def test_scale_reaches_the_crops():
    photos = Photos(4)
    wide, narrow = (
        batch_at(photos, 0, batch_size=4, scale=(share, share)).images[..., 0]
        for share in (0.8, 0.1)
    )
    spread = [np.ptp(images, axis=2).max() for images in (wide, narrow)]
    assert spread[0] > 2 * spread[1]


def test_bad_images_are_replaced_and_reported():
    photos = Photos(9, broken={1, 7})
    with train_batches(photos, batch_size=4, stop=9) as stream:
        batches = list(stream)
    assert_same(batches, [batch_at(photos, step, batch_size=4) for step in range(9)])
    skipped = []
    for step, batch in enumerate(batches):
        indices = data.batch_indices(step, size=9, batch_size=4, seed=3)
        bad = np.isin(indices, [1, 7])
        np.testing.assert_array_equal(batch.skipped, np.where(bad, indices, -1))
        np.testing.assert_array_equal(which(batch), batch.labels // 2)
        np.testing.assert_array_equal(batch.labels[~bad], 2 * indices[~bad])
        assert not np.isin(batch.labels // 2, [1, 7]).any()
        skipped += batch.labels[bad].tolist()
    assert batch.weights.all() and len(set(skipped)) > 2


def test_a_set_without_any_readable_image_is_refused():
    photos = Photos(6, broken=range(6))
    message = r"100 in a row that are not, the first of them photo \d\. Check the set"
    with pytest.raises(ValueError, match=message):
        batch_at(photos, 0, batch_size=2)
    with train_batches(photos, batch_size=2, stop=3) as stream:
        with pytest.raises(ValueError, match=message):
            next(stream)


@pytest.mark.parametrize("hosts", [1, 2, 3])
@pytest.mark.parametrize(
    ("size", "batch_size"), [(1, 6), (5, 6), (6, 6), (7, 6), (13, 6), (25, 12)]
)
def test_an_evaluation_counts_every_image_once(size, batch_size, hosts):
    photos = Photos(size)
    shares = [
        list(eval_stream(photos, batch_size=batch_size, share=(host, hosts)))
        for host in range(hosts)
    ]
    for batches in shares:
        assert len(batches) == -(-size // batch_size)
        assert all(len(batch.images) == batch_size // hosts for batch in batches)
    counted, padding = [], 0
    for batch in joined(shares):
        real = batch.weights == 1
        np.testing.assert_array_equal(
            np.array(which(batch))[real] * 2, batch.labels[real]
        )
        counted += batch.labels[real].tolist()
        padding += (batch.weights == 0).sum()
        assert not batch.images[~real].any() and (batch.skipped == -1).all()
    assert counted == [2 * index for index in range(size)]
    assert padding == -size % batch_size


@pytest.mark.parametrize("kind", ["train", "eval"])
def test_a_read_that_fails_for_a_moment_changes_nothing(kind, monkeypatch):
    monkeypatch.setattr(_records, "_WAITS", (0.0, 0.0, 0.0))

    def batches(photos):
        opened = {
            "train": lambda: train_batches(photos, batch_size=4, stop=5),
            "eval": lambda: eval_stream(photos, batch_size=4),
        }
        with opened[kind]() as stream:
            return list(stream)

    passing = Photos(9, broken={1}, failing={0: 3, 7: 1})
    assert_same(batches(passing), batches(Photos(9, broken={1})))
    with pytest.raises(OSError, match=r"cannot be read .Input/output.*photo 7"):
        batches(Photos(9, failing={7: 99}))


def test_an_evaluation_reports_bad_images_and_goes_on():
    photos = Photos(7, broken={2, 5})
    with eval_stream(photos, batch_size=4) as stream:
        batches = list(stream)
    assert [batch.weights.tolist() for batch in batches] == [[1, 1, 0, 1], [1, 0, 1, 0]]
    assert [batch.skipped.tolist() for batch in batches] == [
        [-1, -1, 2, -1],
        [-1, 5, -1, -1],
    ]


def test_an_evaluation_takes_the_center():
    (batch,) = eval_stream(Photos(1), batch_size=1, crop_fraction=0.5)
    center = _decode.central_crop(photo(0), image_size=SIZE, crop_fraction=0.5)
    np.testing.assert_array_equal(batch.images[0], center)


def threads():
    return [x for x in threading.enumerate() if x.name.startswith("grain")]


def no_threads_within(seconds):
    end = time.monotonic() + seconds
    while threads() and time.monotonic() < end:
        time.sleep(0.01)
    return not threads()


@pytest.mark.parametrize("taken", [0, 1, 6])
def test_closing_ends_the_threads_and_the_stream(taken):
    stream = train_batches(Photos(10), batch_size=4, stop=6)
    for _ in range(taken):
        next(stream)
    stream.close()
    stream.close()
    assert no_threads_within(30)
    assert list(stream) == []


def test_the_last_batch_closes_the_stream():
    stream = train_batches(Photos(10), batch_size=4, stop=3)
    assert len(list(stream)) == 3
    assert no_threads_within(30)


def test_leaving_the_block_closes_the_stream():
    with pytest.raises(RuntimeError, match="mine"):
        with train_batches(Photos(10), batch_size=4, stop=10**6) as stream:
            next(stream)
            raise RuntimeError("mine")
    assert no_threads_within(30)


def test_few_images_are_decoded_ahead():
    photos = Photos(50)
    with train_batches(photos, batch_size=5, stop=10**6, threads=2) as stream:
        next(stream)
        time.sleep(0.3)  # time enough to decode many more
        taken, ahead, waiting, in_hand = 5, 2 * 5, 2 * 4, 2 * 5 + 2
        assert 10 <= photos.reads <= taken + ahead + waiting + in_hand


def test_an_empty_range_of_steps_has_no_batches():
    assert list(train_batches(Photos(4), batch_size=2, start=3, stop=3)) == []


def test_late_steps_of_large_runs_can_be_reached():
    photos = Photos(7)
    step = 2**33
    with train_batches(photos, batch_size=4, start=step, stop=step + 2) as stream:
        found = list(stream)
    assert_same(found, [batch_at(photos, step + i, batch_size=4) for i in range(2)])


@pytest.mark.slow
@pytest.mark.parametrize(("workers", "taken"), [(1, 3), (2, 7)])
def test_worker_processes_change_nothing_and_leave_nothing(
    tmp_path, shared_memory, workers, taken
):
    test_folder.write_classes(tmp_path, {"a": 9, "bb": 4}, shape=(90, 80, 3))
    (tmp_path / "a" / "zz.png").write_bytes(b"broken")
    records = data.open_records(f"folder:{tmp_path}", seed=1).train
    assert "zz.png" in {pathlib.Path(path).name for path in records.paths}
    options = {"batch_size": 4, "seed": 3, "image_size": 64}
    before = set(shared_memory.glob("psm_*"))
    with data.train_batches(records, stop=7, workers=workers, **options) as stream:
        found = [next(stream) for _ in range(taken)]
        assert next(stream, None) is None or taken < 7
    wanted = [data.batch_at(records, step, **options) for step in range(taken)]
    assert_same(found, wanted)
    assert max(batch.skipped.max() for batch in found) >= 0
    assert not multiprocessing.active_children()
    end = time.monotonic() + 5  # a thread of grain's frees it
    while set(shared_memory.glob("psm_*")) - before and time.monotonic() < end:
        time.sleep(0.05)
    assert not set(shared_memory.glob("psm_*")) - before


@pytest.mark.parametrize(
    ("options", "message"),
    [
        ({"batch_size": 11}, "1 <= batch_size <= size`, got `batch_size=11`"),
        ({"batch_size": 0}, "`batch_size=0`"),
        ({"seed": -1}, "`seed=-1`"),
        ({"image_size": 0}, "`image_size >= 1` pixels, got `image_size=0`"),
        ({"scale": (0.0, 1.0)}, r"got `scale=\(0.0, 1.0\)`"),
        ({"start": -1}, "0 <= start <= stop`, got `start=-1` and `stop=3`"),
        ({"start": 4}, "0 <= start <= stop`, got `start=4` and `stop=3`"),
        ({"share": (2, 2)}, r"0 <= share\[0\] < share\[1\].*`share=\(2, 2\)`"),
        ({"share": (0, 3)}, "the 3 processes of `share` can divide.*`batch_size=4`"),
        ({"workers": -1}, "`workers >= 0` and `threads >= 0`, got `workers=-1`"),
        ({"threads": -2}, "got `workers=0` and `threads=-2`"),
    ],
)
def test_training_options_out_of_range_are_refused(options, message):
    with pytest.raises(ValueError, match=message):
        train_batches(Photos(10), **{"batch_size": 4, "stop": 3, **options})


def test_a_negative_step_is_refused():
    with pytest.raises(ValueError, match="`step >= 0`.*got `step=-1`"):
        batch_at(Photos(5), -1, batch_size=4)


@pytest.mark.parametrize(
    ("size", "options", "message"),
    [
        (0, {}, r"at least one image, got `len\(records\)=0`"),
        (3, {"batch_size": 0}, "can divide evenly, got `batch_size=0`"),
        (3, {"share": (-1, 2)}, r"`eval_stream` needs .*`share=\(-1, 2\)`"),
        (3, {"crop_fraction": 0.0}, "got `crop_fraction=0.0`"),
        (3, {"image_size": -1}, "got `image_size=-1`"),
        (3, {"threads": -1}, "`eval_stream` needs .*`threads=-1`"),
    ],
)
def test_evaluation_options_out_of_range_are_refused(size, options, message):
    with pytest.raises(ValueError, match=message):
        eval_stream(Photos(size), **{"batch_size": 4, **options})


def test_a_missing_grain_is_named(monkeypatch):
    monkeypatch.setitem(sys.modules, "grain", None)
    with pytest.raises(ModuleNotFoundError, match="`grain`.*pip install"):
        train_batches(Photos(5), batch_size=4, stop=1)


def test_one_thread_draws_the_order_of_an_epoch(monkeypatch):
    running, together = [], []

    def slow(*args, **options):
        running.append(1)
        time.sleep(0.002)
        together.append(len(running))
        running.pop()
        return data.batch_indices(*args, **options)

    monkeypatch.setattr(_examples, "batch_indices", slow)
    with train_batches(Photos(8), batch_size=4, stop=4, threads=4) as stream:
        assert len(list(stream)) == 4
    assert len(together) == 16 and max(together) == 1


@pytest.mark.slow
@pytest.mark.usefixtures("shared_memory")
def test_workers_end_when_their_parent_is_killed(tmp_path):
    for k in range(4):
        path = tmp_path / f"{'train' if k < 3 else 'test'}" / "cat" / f"{k}.png"
        path.parent.mkdir(parents=True, exist_ok=True)
        Image.new("RGB", (8, 8)).save(path)
    script = tmp_path / "script.py"
    script.write_text(
        "import multiprocessing, time\n"
        "from hypersphere import data\n"
        "if __name__ == '__main__':\n"
        f"    records = data.open_records('folder:{tmp_path}').train\n"
        "    options = dict(batch_size=2, seed=0, image_size=8, stop=10**6)\n"
        "    stream = data.train_batches(records, workers=2, **options)\n"
        "    next(stream)\n"
        "    children = multiprocessing.active_children()\n"
        "    print(*(child.pid for child in children), flush=True)\n"
        "    time.sleep(600)\n"
    )
    environment = os.environ | {"PYTHONPATH": str(pathlib.Path(__file__).parents[2])}
    parent = subprocess.Popen(
        [sys.executable, script], stdout=subprocess.PIPE, text=True, env=environment
    )
    assert parent.stdout is not None
    workers = [int(word) for word in parent.stdout.readline().split()]
    parent.kill()
    parent.wait()
    parent.stdout.close()
    assert len(workers) == 2
    end = time.monotonic() + 20
    while any(map(is_running, workers)) and time.monotonic() < end:
        time.sleep(0.1)
    assert not any(map(is_running, workers))


def is_running(pid):
    """Whether there is such a process, other than one that waits to be collected."""
    try:
        state = pathlib.Path(f"/proc/{pid}/stat").read_text().rsplit(")")[-1].split()[0]
    except OSError:
        return False
    return state != "Z"
