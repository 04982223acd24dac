import importlib.util
import io
import json
import os
import pathlib
import resource
import struct
import subprocess
import sys
import tarfile

import numpy as np
import pytest
import tensorflow_datasets as tfds
from PIL import Image

from hypersphere import data
from hypersphere.data import __main__ as program, _encode, _prepare
from hypersphere.data._shards import check_set


def prepare(source, out, *flags, name="tiny"):
    program.main(["prepare", source, f"--out={out}", f"--name={name}", *flags])


def pixels(index, size=(4, 6, 3)):
    """An image whose first byte says which one it is."""
    image = np.random.default_rng(index).integers(0, 256, size, dtype=np.uint8)
    image.flat[0] = index
    return image


def encoded(image, kind="PNG", **options):
    file = io.BytesIO()
    Image.fromarray(image).save(file, kind, **options)
    return file.getvalue()


def write_idx(folder, *, train=12, test=5):
    """MNIST's format: gray images 0, 1, ... and 100, 101, ...; labels 0 to 2."""
    for part, first, count in (("train", 0, train), ("t10k", 100, test)):
        images = np.stack([pixels(first + k, (5, 4)) for k in range(count)])
        labels = np.arange(count, dtype=np.uint8) % 3
        for name, array in (("images-idx3", images), ("labels-idx1", labels)):
            header = struct.pack(f">{1 + array.ndim}I", 2048 + array.ndim, *array.shape)
            path = folder / f"{part}-{name}-ubyte"
            path.write_bytes(header + array.tobytes())
    return f"idx:{folder}"


def write_cifar(folder, *, train=(4, 2), test=3):
    """CIFAR-100's files; the class is the image's number."""
    (folder / "cifar-100-binary").mkdir()
    for name, first, count in (("train", 0, sum(train)), ("test", 50, test)):
        rows = [
            bytes([0, first + k]) + pixels(first + k, (3, 32, 32)).tobytes()
            for k in range(count)
        ]
        (folder / "cifar-100-binary" / f"{name}.bin").write_bytes(b"".join(rows))
    names = "\n".join(f"class{k:02d}" for k in range(100))
    (folder / "cifar-100-binary" / "fine_label_names.txt").write_text(names)
    return f"cifar:{folder}"


def write_folder(folder, *, counts=(("train", 7), ("test", 3)), size=(4, 6, 3)):
    """Two classes of PNG files, numbered through in the order of their paths."""
    index = 0
    for part, count in counts:
        for name in ("cat", "dog"):
            path = folder / part / name
            path.mkdir(parents=True)
            for k in range(count):
                (path / f"{k}.png").write_bytes(encoded(pixels(index, size)))
                index += 1
    return f"folder:{folder}"


def write_tar(folder):
    """The images of `write_folder` in two archives."""
    write_folder(folder / "files")
    for part in ("train", "test"):
        with tarfile.open(folder / f"{part}.tar", "w") as archive:
            for path in sorted((folder / "files" / part).rglob("*.png")):
                name = str(path.relative_to(folder / "files" / part))
                archive.add(path, arcname=name)
    return f"tar:{folder}"


def by_index(part):
    """Maps an image's number to its pixels and label."""
    return {image.flat[0]: (image, label) for image, label in zip(*part, strict=True)}


def check_part(part, expected):
    found = by_index(part)
    assert sorted(found) == sorted(expected)
    for index, (image, label) in expected.items():
        np.testing.assert_array_equal(found[index][0], image)
        assert found[index][1] == label


def snapshot(folder):
    return {path.name: path.read_bytes() for path in folder.iterdir()}


@pytest.fixture
def source(tmp_path):
    (tmp_path / "source").mkdir()
    return tmp_path / "source"


@pytest.fixture
def out(tmp_path):
    return tmp_path / "sets"


def test_mnist_files_come_back_bit_for_bit(source, out):
    prepare(write_idx(source), out, "--shards=3")
    dataset = data.load("tfds:tiny", data_dir=str(out))
    assert dataset.class_names == ("0", "1", "2")
    for part, first, count in ((dataset.train, 0, 12), (dataset.test, 100, 5)):
        images = {first + k: pixels(first + k, (5, 4)) for k in range(count)}
        expected = {i: (images[i][..., None], (i - first) % 3) for i in images}
        check_part(part, expected)


def test_cifar_files_come_back_bit_for_bit(source, out):
    prepare(write_cifar(source), out)
    dataset = data.load("tfds:tiny", data_dir=str(out))
    assert dataset.class_names == tuple(f"class{k:02d}" for k in range(100))
    for part, first, count in ((dataset.train, 0, 6), (dataset.test, 50, 3)):
        images = {first + k: pixels(first + k, (3, 32, 32)) for k in range(count)}
        check_part(part, {i: (images[i].transpose(1, 2, 0), i) for i in images})


@pytest.mark.parametrize("write", [write_folder, write_tar])
def test_image_files_come_back_byte_for_byte(source, out, write):
    prepare(write(source), out, "--shards=2")
    dataset = data.load("tfds:tiny", data_dir=str(out))
    assert dataset.class_names == ("cat", "dog")
    check_part(dataset.train, {k: (pixels(k), k // 7) for k in range(14)})
    check_part(dataset.test, {14 + k: (pixels(14 + k), k // 3) for k in range(6)})
    builder = tfds.builder("tiny", data_dir=str(out))
    decoders = {"image": tfds.decode.SkipDecoding()}
    for record in builder.as_data_source("test", decoders=decoders):
        index = Image.open(io.BytesIO(record["image"])).getpixel((0, 0))[0]
        assert record["image"] == encoded(pixels(index))
        assert record["file_name"] == f"{(index - 14) % 3}.png".encode()


def test_a_folder_of_gray_images_stays_gray(source, out):
    prepare(write_folder(source, size=(4, 6)), out)
    dataset = data.load("tfds:tiny", data_dir=str(out))
    assert dataset.image_shape == (4, 6, 1)


def test_one_image_with_colors_makes_all_of_them_colored(source, out):
    text = write_folder(source, size=(4, 6))
    (source / "test" / "dog" / "2.png").write_bytes(encoded(pixels(19)))
    prepare(text, out)
    assert data.load("tfds:tiny", data_dir=str(out)).image_shape == (4, 6, 3)


def test_a_folder_is_divided_as_when_it_is_loaded(source, out):
    text = write_folder(source, counts=[("", 10)])
    prepare(text, out, "--test_fraction=0.3", "--seed=5")
    dataset = data.load("tfds:tiny", data_dir=str(out))
    expected = data.load(text, test_fraction=0.3, seed=5)
    assert len(dataset.test.labels) == 6
    for part, wanted in (
        (dataset.train, expected.train),
        (dataset.test, expected.test),
    ):
        check_part(part, by_index(wanted))


def test_training_images_are_in_a_random_order_of_the_seed(source, tmp_path):
    text = write_idx(source, train=60)
    orders = []
    for out, flags in (("a", []), ("b", []), ("c", ["--seed=1"])):
        prepare(text, tmp_path / out, *flags)
        dataset = data.load("tfds:tiny", data_dir=str(tmp_path / out))
        orders.append(dataset.train.images[:, 0, 0, 0].tolist())
        assert dataset.test.images[:, 0, 0, 0].tolist() == list(range(100, 105))
    assert orders[0] == orders[1] != orders[2]
    assert sorted(orders[2]) == list(range(60))
    displacement = np.abs(np.array(orders[0]) - np.arange(60)).mean()
    assert displacement > 10  # 20 is expected, a third of the length


def test_shards_share_the_images_evenly(source, out):
    prepare(write_idx(source), out, "--shards=5")
    splits = tfds.builder("tiny", data_dir=str(out)).info.splits
    assert splits["train"].shard_lengths == [3, 3, 2, 2, 2]
    assert splits["test"].shard_lengths == [2, 2, 1]


def test_a_name_that_tensorflow_datasets_knows_is_loaded_by_its_version(
    source, out, capsys
):
    prepare(write_idx(source), out, name="mnist")
    used = capsys.readouterr().out.splitlines()[-1]
    assert used == (
        f"To use it: --config.data.source=tfds:mnist:1.0.0 --config.data.data_dir={out}"
    )
    dataset = data.load("tfds:mnist:1.0.0", data_dir=str(out))
    assert len(dataset.train.labels) == 12


def test_the_summary_counts_and_says_how_to_use_the_set(source, out, capsys):
    prepare(write_idx(source), out, "--shards=2")
    *files, total, use = capsys.readouterr().out.splitlines()
    assert files == [
        "tiny-train.array_record-00000-of-00002",
        "tiny-train.array_record-00001-of-00002",
        "tiny-test.array_record-00000-of-00001",
    ]
    assert total.startswith(f"{out}/tiny/1.0.0: 17 images, 0.4 MB, ")
    assert use.endswith(f"source=tfds:tiny --config.data.data_dir={out}")


class Killed(BaseException):
    """Stands for a signal: nothing in the program catches it."""


def kill_after(monkeypatch, images):
    count = iter(range(images))
    encode = _encode.encode

    def counted(*arguments, **options):
        if next(count, None) is None:
            raise Killed
        return encode(*arguments, **options)

    monkeypatch.setattr(_prepare, "encode", counted)


@pytest.mark.parametrize(
    "images",
    [0, 5, *(pytest.param(n, marks=pytest.mark.slow) for n in (1, 9, 16))],
)
def test_a_set_prepared_in_two_starts_has_the_same_bytes(
    source, tmp_path, monkeypatch, images
):
    text = write_idx(source)
    prepare(text, tmp_path / "whole", "--shards=4", "--threads=1")
    with monkeypatch.context() as patch, pytest.raises(Killed):
        kill_after(patch, images)
        prepare(text, tmp_path / "resumed", "--shards=4", "--threads=1")
    with pytest.raises(FileNotFoundError, match="no set at all there"):
        data.load("tfds:tiny", data_dir=str(tmp_path / "resumed"))
    prepare(text, tmp_path / "resumed", "--shards=4", "--threads=3")
    whole, resumed = (tmp_path / part / "tiny" for part in ("whole", "resumed"))
    assert [path.name for path in resumed.iterdir()] == ["1.0.0"]
    assert snapshot(whole / "1.0.0") == snapshot(resumed / "1.0.0")


def test_whole_files_are_not_written_again(source, out, monkeypatch):
    text = write_idx(source)
    with monkeypatch.context() as patch, pytest.raises(Killed):
        kill_after(patch, 7)
        prepare(text, out, "--shards=4", "--threads=1")
    first = "tiny-train.array_record-00000-of-00004"
    path = out / "tiny" / "1.0.0.incomplete" / first
    before = path.stat().st_ino
    prepare(text, out, "--shards=4")
    assert (out / "tiny" / "1.0.0" / first).stat().st_ino == before


def test_a_file_damaged_between_two_starts_is_written_again(
    source, out, tmp_path, monkeypatch
):
    text = write_idx(source)
    prepare(text, tmp_path / "whole", "--shards=4")
    with monkeypatch.context() as patch, pytest.raises(Killed):
        kill_after(patch, 7)
        prepare(text, out, "--shards=4", "--threads=1")
    first = "tiny-train.array_record-00000-of-00004"
    damage(out / "tiny" / "1.0.0.incomplete" / first)
    prepare(text, out, "--shards=4")
    whole = tmp_path / "whole" / "tiny" / "1.0.0"
    assert snapshot(whole) == snapshot(out / "tiny" / "1.0.0")


@pytest.mark.parametrize(
    ("flag", "difference"),
    [
        ("--shards=2", "`shards=2` instead of `4`"),
        ("--seed=1", "`seed=1` instead of `0`"),
        ("--max_side=3", "`max_side=3` instead of `0`"),
    ],
)
def test_a_folder_begun_by_another_command_is_refused(
    source, out, monkeypatch, flag, difference
):
    text = write_idx(source)
    with monkeypatch.context() as patch, pytest.raises(Killed):
        kill_after(patch, 7)
        prepare(text, out, "--shards=4", "--threads=1")
    before = snapshot(out / "tiny" / "1.0.0.incomplete")
    message = f"the command that began .*incomplete, got {difference}.*Repeat that"
    with pytest.raises(SystemExit, match=message):
        prepare(text, out, "--shards=4", flag)
    assert snapshot(out / "tiny" / "1.0.0.incomplete") == before


def test_two_processes_do_not_write_one_set(source, out):
    folder = out / "tiny" / "1.0.0.incomplete"
    folder.mkdir(parents=True)
    script = (
        "import fcntl, os, sys\n"
        "fcntl.flock(os.open(sys.argv[1], os.O_RDONLY), fcntl.LOCK_EX)\n"
        "print('locked', flush=True)\n"
        "sys.stdin.read()\n"
    )
    with subprocess.Popen(
        [sys.executable, "-c", script, folder],
        stdin=subprocess.PIPE,
        stdout=subprocess.PIPE,
    ) as other:
        other.stdout.readline()
        with pytest.raises(SystemExit, match="for itself, got another process"):
            prepare(write_idx(source), out)
        other.stdin.close()
    prepare(write_idx(source), out)


def damage(path):
    content = bytearray(path.read_bytes())
    content[len(content) // 2] ^= 1
    path.write_bytes(content)


@pytest.fixture
def prepared(source, out):
    prepare(write_idx(source), out, "--shards=2")
    return out / "tiny" / "1.0.0"


@pytest.mark.parametrize("below", ["", "1.0.0"])
def test_a_whole_set_passes_the_check(prepared, capsys, below):
    capsys.readouterr()
    program.main(["check", str(prepared.parent / below)])
    line = capsys.readouterr().out
    assert line == f"{prepared}: 6 files, 17 images, all whole.\n"


@pytest.mark.parametrize(
    ("name", "harm", "message"),
    [
        ("tiny-train.array_record-00001-of-00002", damage, "has changed: its SHA-256"),
        ("tiny-test.array_record-00000-of-00001", os.remove, "is missing"),
        (
            "tiny-test.array_record-00000-of-00001",
            lambda path: os.truncate(path, 9),
            "has 9 bytes instead of 131,072",
        ),
        ("dataset_info.json", damage, "has changed"),
        ("label.labels.txt", damage, "has changed"),
    ],
)
def test_a_damaged_file_fails_the_check(prepared, name, harm, message):
    harm(prepared / name)
    (damaged,) = check_set(str(prepared))[2]
    assert str(prepared / name) in damaged
    with pytest.raises(SystemExit, match=f"{name} {message}.*prepare the set again"):
        program.main(["check", str(prepared.parent)])


def test_every_file_of_a_set_is_checked(prepared):
    manifest = json.loads((prepared / "prepare.json").read_text())
    names = {path.name for path in prepared.iterdir()}
    assert set(manifest["files"]) == names - {"prepare.json"}


def test_an_unfinished_set_fails_the_check(source, out, monkeypatch):
    with monkeypatch.context() as patch, pytest.raises(Killed):
        kill_after(patch, 7)
        prepare(write_idx(source), out, "--shards=4", "--threads=1")
    with pytest.raises(SystemExit, match="where one is unfinished"):
        program.main(["check", str(out / "tiny")])


def test_a_folder_without_a_set_fails_the_check(tmp_path):
    with pytest.raises(SystemExit, match="finished, got .*, where 0 are"):
        program.main(["check", str(tmp_path)])


def write_photos(folder, photos):
    """Two classes that hold the same files, given by name, in both parts."""
    for part in ("train", "test"):
        for class_name in ("cat", "dog"):
            (folder / part / class_name).mkdir(parents=True)
            for name, content in photos.items():
                (folder / part / class_name / name).write_bytes(content)
    return f"folder:{folder}"


def stored(out):
    """The stored file of each name in the test part."""
    source = tfds.builder("tiny", data_dir=str(out)).as_data_source(
        "test", decoders={"image": tfds.decode.SkipDecoding()}
    )
    return {record["file_name"].decode(): record["image"] for record in source}


def smooth(height, width):
    """A horizontal and a vertical ramp, which survive JPEG."""
    rows, columns = np.meshgrid(
        np.linspace(0, 255, height), np.linspace(0, 255, width), indexing="ij"
    )
    return np.stack([rows, columns, 255 - rows], -1).astype(np.uint8)


def test_max_side_shrinks_the_shorter_side_and_never_enlarges(source, out):
    photos = {
        "wide.jpg": encoded(smooth(40, 100), "JPEG"),
        "tall.png": encoded(smooth(90, 30)),
        "just.jpg": encoded(smooth(20, 50), "JPEG"),
        "small.png": encoded(smooth(10, 12)),
    }
    prepare(write_photos(source, photos), out, "--max_side=20")
    files = stored(out)
    assert files["just.jpg"] == photos["just.jpg"]
    assert files["small.png"] == photos["small.png"]
    for name, size in (("wide.jpg", (50, 20)), ("tall.png", (20, 60))):
        image = Image.open(io.BytesIO(files[name]))
        assert (image.format, image.mode, image.size) == ("JPEG", "RGB", size)
        # A ramp made smaller is the same ramp, but for the border.
        expected = smooth(size[1], size[0]).astype(int)
        assert np.abs(np.asarray(image).astype(int) - expected).mean() < 4


def test_shrinking_averages_over_what_it_drops(source, out):
    checks = np.indices((64, 64)).sum(0) % 2 * 255
    photos = {"checks.png": encoded(np.stack([checks] * 3, -1).astype(np.uint8))}
    prepare(write_photos(source, photos), out, "--max_side=16")
    image = np.asarray(Image.open(io.BytesIO(stored(out)["checks.png"])))
    np.testing.assert_allclose(image, 127.5, atol=4)


def test_quality_is_that_of_the_jpegs(source, tmp_path):
    noise = np.random.default_rng(0).integers(0, 256, (64, 64, 3), dtype=np.uint8)
    text = write_photos(source, {"noise.png": encoded(noise)})
    sizes = []
    for quality in (30, 95):
        out = tmp_path / f"quality{quality}"
        prepare(text, out, "--max_side=48", f"--quality={quality}")
        sizes.append(len(stored(out)["noise.png"]))
    assert sizes[0] < sizes[1] / 2


def test_every_kind_of_pixel_becomes_a_jpeg(source, out):
    red = Image.new("RGB", (40, 30), (200, 30, 10))
    clear = Image.new("RGBA", (40, 30), (0, 0, 0, 0))
    deep = Image.fromarray(np.full((30, 40), 100 << 8, np.uint16))
    photos = {}
    for name, image, kind in [
        ("cmyk.jpg", red.convert("CMYK"), "JPEG"),
        ("palette.png", red.quantize(4), "PNG"),
        ("clear.png", clear, "PNG"),
        ("gray.jpg", Image.new("L", (40, 30), 77), "JPEG"),
        ("deep.png", deep, "PNG"),
        ("two.gif", red.convert("1"), "GIF"),
    ]:
        file = io.BytesIO()
        image.save(file, kind)
        photos[name] = file.getvalue()
    prepare(write_photos(source, photos), out, "--max_side=15")
    images = {k: Image.open(io.BytesIO(v)) for k, v in stored(out).items()}
    assert {(i.format, i.mode, i.size) for i in images.values()} == {
        ("JPEG", "RGB", (20, 15))
    }
    for name, color in [
        ("cmyk.jpg", (200, 30, 10)),
        ("palette.png", (200, 30, 10)),
        ("clear.png", (255, 255, 255)),
        ("gray.jpg", (77, 77, 77)),
        ("deep.png", (100, 100, 100)),
    ]:
        found = np.asarray(images[name].crop((5, 5, 6, 6))).ravel()
        np.testing.assert_allclose(found, color, atol=4)


def test_unreadable_images_are_left_out_named_and_counted(source, out, capsys):
    text = write_folder(source, counts=[("train", 9), ("test", 1)], size=(8, 8, 3))
    broken = source / "train" / "dog" / "3.png"
    broken.write_bytes(broken.read_bytes()[:90])
    (source / "train" / "cat" / "0.png").write_bytes(b"no image")
    prepare(text, out, "--max_side=4", "--max_bad=0.1", "--shards=3")
    told = capsys.readouterr().out
    assert "Skipped 2 unreadable images: " in told
    assert str(broken) in told and f"{source}/train/cat/0.png" in told
    assert ": 18 images, " in told
    splits = tfds.builder("tiny", data_dir=str(out)).info.splits
    assert (splits["train"].num_examples, splits["test"].num_examples) == (16, 2)
    dataset = data.load("tfds:tiny", data_dir=str(out))
    assert dataset.train.labels.tolist().count(0) == 8


def test_too_many_unreadable_images_are_an_error(source, out):
    text = write_folder(source, counts=[("train", 9), ("test", 1)], size=(8, 8, 3))
    for name in ("cat", "dog"):
        (source / "train" / name / "0.png").write_bytes(b"no image")
    with pytest.raises(SystemExit, match=r"at most 1 unread.*got 2, .*0\.png.* mend"):
        prepare(text, out, "--max_side=4", "--max_bad=0.09")


def test_unreadable_images_are_stored_where_nothing_looks_at_them(source, out):
    text = write_folder(source)
    (source / "train" / "cat" / "0.png").write_bytes(b"no image")
    prepare(text, out)
    assert tfds.builder("tiny", data_dir=str(out)).info.splits.total_num_examples == 20


def test_an_existing_set_is_kept(prepared, source, out):
    before = snapshot(prepared)
    with pytest.raises(SystemExit, match="not there yet, got .*tiny/1.0.0. Delete it"):
        prepare(f"idx:{source}", out)
    assert snapshot(prepared) == before


def test_a_missing_source_leaves_nothing_behind(tmp_path, out):
    with pytest.raises(SystemExit, match="needs a folder .*gone, which does not exist"):
        prepare(f"folder:{tmp_path}/gone", out)
    assert list(out.iterdir()) == []


def test_an_unwritable_folder_is_named(source, tmp_path):
    (tmp_path / "file").touch()
    message = "a folder it can write to, got .*file/tiny/1.0.0.incomplete .Not a dir"
    with pytest.raises(SystemExit, match=message):
        prepare(write_idx(source), tmp_path / "file")


def test_a_full_disk_is_one_line_and_can_be_resumed(source, out, tmp_path):
    text = write_idx(source)
    limits = resource.getrlimit(resource.RLIMIT_FSIZE)
    resource.setrlimit(resource.RLIMIT_FSIZE, (30_000, limits[1]))
    try:
        with pytest.raises(SystemExit, match="could not write .*Make room, and give"):
            prepare(text, out)
    finally:
        resource.setrlimit(resource.RLIMIT_FSIZE, limits)
    prepare(text, out)
    assert check_set(str(out / "tiny"))[2] == []


@pytest.mark.parametrize(
    ("flag", "message"),
    [
        ("--max_side=-1", "`0 <= max_side`, got `max_side=-1`"),
        ("--quality=0", "`1 <= quality <= 100`, got `quality=0`"),
        ("--quality=101", "got `quality=101`"),
        ("--shards=-2", "`0 <= shards`, got `shards=-2`"),
        ("--test_fraction=1", "`0 < test_fraction < 1`, got `test_fraction=1.0`"),
        ("--seed=-1", "`0 <= seed < 2..64`, got `seed=-1`"),
        ("--max_bad=1.5", "`0 <= max_bad <= 1`.*`max_bad=1.5`"),
        ("--threads=-1", "`0 <= threads`.*`threads=-1`"),
        ("--name=My-Set", "lower-case letters.*got `--name=My-Set`"),
    ],
)
def test_options_out_of_range_are_refused(source, out, flag, message):
    with pytest.raises(SystemExit, match=message):
        prepare(write_idx(source), out, flag)
    assert not out.exists()


@pytest.mark.parametrize("source", ["mnist5k", "idx:", "tfds:mnist", "zip:/x"])
def test_other_sources_are_refused(out, source):
    with pytest.raises(SystemExit, match=f"`cifar:PATH`, got `source='{source}'`"):
        prepare(source, out)


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        ([], "prepare|check"),
        (["prepare"], "required: SOURCE, --out, --name"),
        (["prepare", "idx:x", "--out=y"], "required: --name"),
        (["prepare", "idx:x", "--out=y", "--name=z", "--shards=a"], "invalid int"),
        (["check"], "required: DATA_DIR/NAME"),
    ],
)
def test_a_wrong_command_line_is_one_line(capsys, arguments, message):
    with pytest.raises(SystemExit, match="2"):
        program.main(arguments)
    told = capsys.readouterr().err
    assert message in told and told.count("\n") == 1


@pytest.mark.parametrize(
    ("arguments", "words"),
    [
        ([], ["prepare", "check"]),
        (["prepare"], ["cifar:PATH", "tar:PATH", "--max_side", "example:"]),
        (["check"], ["DATA_DIR/NAME"]),
    ],
)
def test_help_helps(capsys, arguments, words):
    with pytest.raises(SystemExit, match="0"):
        program.main([*arguments, "--help"])
    told = capsys.readouterr().out
    assert all(word in told for word in words)


@pytest.mark.slow
def test_the_program_imports_no_tensorflow(source, out, tmp_path):
    trap = tmp_path / "trap" / "tensorflow"
    trap.mkdir(parents=True)
    (trap / "__init__.py").write_text("raise SystemExit('tensorflow was imported')")
    spec = importlib.util.find_spec("hypersphere")
    root = pathlib.Path(spec.origin).parents[1]
    path = os.pathsep.join([str(trap.parent), str(root)])
    command = [sys.executable, "-W", "error", "-m", "hypersphere.data"]
    arguments = ["prepare", write_idx(source), f"--out={out}", "--name=tiny"]
    done = subprocess.run(
        [*command, *arguments],
        env=os.environ | {"PYTHONPATH": path},
        capture_output=True,
        text=True,
    )
    assert (done.returncode, done.stderr) == (0, "")
    assert "17 images" in done.stdout
