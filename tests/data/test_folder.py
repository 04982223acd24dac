import os

import numpy as np
import pytest
from PIL import Image

from hypersphere import data
from hypersphere.data import _memory


def write(path, pixels):
    path.parent.mkdir(parents=True, exist_ok=True)
    Image.fromarray(pixels).save(path)
    return pixels


def random_pixels(seed, shape=(6, 5, 3)):
    return np.random.default_rng(seed).integers(0, 256, shape, dtype=np.uint8)


def write_classes(folder, counts, *, shape=(6, 5, 3)):
    """Writes `counts[name]` images of each class; returns them in loading order."""
    return [
        write(folder / name / f"{i:03}.png", random_pixels([len(name), i], shape))
        for name, count in sorted(counts.items())
        for i in range(count)
    ]


def load(folder, **options):
    return data.load(f"folder:{folder}", **options)


def test_pixels_and_classes_are_read_back(tmp_path):
    train = write_classes(tmp_path / "train", {"dog": 3, "a cat": 2})
    test = write_classes(tmp_path / "test", {"dog": 1, "a cat": 1})
    dataset = load(tmp_path)
    assert dataset.class_names == ("a cat", "dog")
    np.testing.assert_array_equal(dataset.train.images, np.stack(train))
    np.testing.assert_array_equal(dataset.test.images, np.stack(test))
    assert dataset.train.labels.tolist() == [0, 0, 1, 1, 1]
    assert dataset.test.labels.tolist() == [0, 1]
    assert dataset.train.images.flags.c_contiguous


def test_many_images_stay_in_order(tmp_path):
    train = write_classes(tmp_path / "train", {"a": 700}, shape=(2, 2))
    write_classes(tmp_path / "val", {"a": 1}, shape=(2, 2))
    np.testing.assert_array_equal(load(tmp_path).train.images[..., 0], np.stack(train))


@pytest.mark.parametrize("name", ["val", "validation", "test"])
def test_the_test_part_has_three_names(tmp_path, name):
    write_classes(tmp_path / "train", {"a": 2, "bb": 2})
    test = write_classes(tmp_path / name, {"a": 1, "bb": 2})
    np.testing.assert_array_equal(load(tmp_path).test.images, np.stack(test))


def test_a_test_folder_without_classes_gives_way_to_validation(tmp_path):
    write_classes(tmp_path / "train", {"a": 2, "bb": 2})
    write(tmp_path / "test" / "unlabelled.png", random_pixels(9))
    test = write_classes(tmp_path / "val", {"a": 1, "bb": 1})
    np.testing.assert_array_equal(load(tmp_path).test.images, np.stack(test))


def test_test_images_are_drawn_from_each_class(tmp_path):
    written = write_classes(tmp_path, {"a": 10, "bb": 5, "ccc": 2, "dddd": 1})
    dataset = load(tmp_path, test_fraction=0.3, seed=4)
    np.testing.assert_array_equal(np.bincount(dataset.test.labels), [3, 2, 1])
    np.testing.assert_array_equal(np.bincount(dataset.train.labels), [7, 3, 1, 1])
    both = [*dataset.train.images, *dataset.test.images]
    assert sorted(x.tobytes() for x in both) == sorted(x.tobytes() for x in written)


def test_the_seed_decides_what_is_drawn(tmp_path):
    write_classes(tmp_path, {"a": 12, "bb": 12})
    once, again, other = (load(tmp_path, seed=seed).test.images for seed in (0, 0, 1))
    np.testing.assert_array_equal(once, again)
    assert (once != other).any()


def test_almost_everything_can_be_drawn_but_not_all(tmp_path):
    write_classes(tmp_path, {"a": 3, "bb": 3})
    dataset = load(tmp_path, test_fraction=0.99)
    assert (len(dataset.train.labels), len(dataset.test.labels)) == (2, 4)


def test_other_files_are_ignored(tmp_path):
    write_classes(tmp_path, {"a": 2, "bb": 2})
    (tmp_path / "README.txt").write_text("hello")
    (tmp_path / "a" / "labels.csv").write_text("1,2")
    (tmp_path / "a" / ".000.png").write_bytes(b"not an image")
    (tmp_path / ".git").mkdir()
    dataset = load(tmp_path)
    assert dataset.class_names == ("a", "bb")
    assert len(dataset.train.labels) + len(dataset.test.labels) == 4


def test_extensions_may_be_upper_case(tmp_path):
    for name in ("1.PNG", "2.Jpg", "3.bmp", "4.tif"):
        write(tmp_path / "a" / name, random_pixels(1))
    assert len(load(tmp_path).train.labels) == 3


def test_gray_images_have_one_channel(tmp_path):
    train = write_classes(tmp_path / "train", {"a": 2}, shape=(6, 5))
    write_classes(tmp_path / "test", {"a": 1}, shape=(6, 5))
    images = load(tmp_path).train.images
    np.testing.assert_array_equal(images, np.stack(train)[..., None])


def test_one_color_image_makes_all_rgb(tmp_path):
    train = write_classes(tmp_path / "train", {"a": 2}, shape=(6, 5))
    test = write_classes(tmp_path / "test", {"a": 1})
    dataset = load(tmp_path)
    np.testing.assert_array_equal(
        dataset.train.images, np.repeat(np.stack(train)[..., None], 3, axis=-1)
    )
    np.testing.assert_array_equal(dataset.test.images, np.stack(test))


def load_one(folder, image, extension="png"):
    for split in ("train", "test"):
        (folder / split / "a").mkdir(parents=True)
        image.save(folder / split / "a" / f"1.{extension}")
    return load(folder).train.images[0]


@pytest.mark.parametrize("extension", ["png", "tif", "pgm"])
def test_16_bit_gray_keeps_its_upper_8_bits(tmp_path, extension):
    pixels = np.array([[0, 255, 256], [4096, 40000, 65535]], np.uint16)
    read = load_one(tmp_path, Image.fromarray(pixels), extension)
    np.testing.assert_array_equal(read[..., 0], pixels >> 8)


def test_a_palette_is_looked_up(tmp_path):
    colors = np.array([[[255, 0, 0], [0, 0, 255]], [[0, 128, 0], [9, 9, 9]]], np.uint8)
    read = load_one(tmp_path, Image.fromarray(colors).quantize(4))
    np.testing.assert_array_equal(read, colors)


def test_transparent_pixels_are_white(tmp_path):
    pixels = np.array([[[10, 20, 30, 255], [10, 20, 30, 0]]], np.uint8)
    read = load_one(tmp_path, Image.fromarray(pixels))
    np.testing.assert_array_equal(read, [[[10, 20, 30], [255, 255, 255]]])


def test_gray_with_transparency_stays_gray(tmp_path):
    pixels = np.array([[[10, 255], [10, 0]]], np.uint8)
    read = load_one(tmp_path, Image.fromarray(pixels))
    np.testing.assert_array_equal(read, [[[10], [255]]])


def test_a_transparent_palette_is_read(tmp_path):
    image = Image.fromarray(np.array([[0, 1]], np.uint8)).convert("P")
    image.putpalette([200, 0, 0, 0, 200, 0])
    for split in ("train", "test"):
        (tmp_path / split / "a").mkdir(parents=True)
        image.save(tmp_path / split / "a" / "1.png", transparency=bytes([255, 0]))
    read = load(tmp_path).train.images[0]
    np.testing.assert_array_equal(read, [[[200, 0, 0], [255, 255, 255]]])


def test_black_and_white_becomes_0_and_255(tmp_path):
    pixels = np.array([[True, False]])
    read = load_one(tmp_path, Image.fromarray(pixels))
    np.testing.assert_array_equal(read[..., 0], [[255, 0]])


def test_cmyk_becomes_rgb(tmp_path):
    image = Image.new("CMYK", (8, 8), (0, 255, 255, 0))
    read = load_one(tmp_path, image, "jpg")
    assert read.shape == (8, 8, 3)
    assert read[4, 4, 0] > 240 and read[4, 4, 1:].max() < 15


def test_floating_point_pixels_are_refused(tmp_path):
    image = Image.fromarray(np.ones((2, 2), np.float32))
    with pytest.raises(ValueError, match="1.tif.*neither 8- nor 16-bit"):
        load_one(tmp_path, image, "tif")


def test_image_size_resizes_the_shorter_side_and_cuts_the_center(tmp_path):
    wide = np.tile(np.arange(40, dtype=np.uint8) * 6, (20, 1))
    tall = np.ascontiguousarray(wide.T)
    for split in ("train", "test"):
        write(tmp_path / split / "a" / "1.png", wide)
        write(tmp_path / split / "a" / "2.png", tall)
    images = load(tmp_path, image_size=10).train.images[..., 0]
    expected = 6 * (10.5 + 2 * np.arange(10))  # columns 10 to 29, two at a time
    assert images.shape == (2, 10, 10)
    for image in (images[0], images[1].T):
        assert np.abs(image - expected).max() < 3
        assert (image == image[0]).all()


def test_downsizing_averages(tmp_path):
    checkers = np.indices((64, 64)).sum(0) % 2 * np.uint8(255)
    for split in ("train", "test"):
        write(tmp_path / split / "a" / "1.png", checkers.astype(np.uint8))
    images = load(tmp_path, image_size=8).train.images
    assert np.abs(images.astype(int) - 128).max() < 6


def test_images_of_different_sizes_are_named(tmp_path):
    write(tmp_path / "train" / "a" / "1.png", random_pixels(0, (6, 5, 3)))
    write(tmp_path / "test" / "a" / "2.png", random_pixels(0, (7, 4, 3)))
    message = (
        r"one size, got 6x5 \(height x width\) in .*1\.png and 7x4 in .*2\.png.*"
        "data.image_size=4"
    )
    with pytest.raises(ValueError, match=message):
        load(tmp_path)
    assert load(tmp_path, image_size=4).image_shape == (4, 4, 3)


@pytest.mark.parametrize("extension", ["png", "jpg", "gif", "bmp"])
def test_a_truncated_image_is_named(tmp_path, extension):
    write_classes(tmp_path, {"a": 3}, shape=(40, 50, 3))
    path = tmp_path / "a" / f"broken.{extension}"
    write(path, random_pixels(5, (40, 50, 3)))
    path.write_bytes(path.read_bytes()[: path.stat().st_size // 2])
    message = rf"got .*broken\.{extension}, which cannot be decoded \(.*Replace"
    with pytest.raises(ValueError, match=message):
        load(tmp_path)


@pytest.mark.parametrize("content", [b"", b"<html>404</html>"])
def test_a_file_that_is_no_image_is_named(tmp_path, content):
    write_classes(tmp_path, {"a": 3}, shape=(4, 4))
    (tmp_path / "a" / "zz.jpg").write_bytes(content)
    with pytest.raises(ValueError, match=r"zz\.jpg, which cannot be decoded"):
        load(tmp_path)


def test_a_missing_folder_is_named(tmp_path):
    with pytest.raises(FileNotFoundError, match="one subfolder per class.*not exist"):
        load(tmp_path / "nowhere")


def test_a_file_is_no_folder(tmp_path):
    (tmp_path / "images.zip").write_bytes(b"")
    with pytest.raises(FileNotFoundError, match=r"images\.zip, which is a file"):
        load(tmp_path / "images.zip")


def test_an_empty_folder_is_refused(tmp_path):
    with pytest.raises(ValueError, match="image files .*got no class in"):
        load(tmp_path)


def test_images_without_classes_are_refused(tmp_path):
    write(tmp_path / "train" / "1.png", random_pixels(0))
    with pytest.raises(ValueError, match="got no class in .*train"):
        load(tmp_path)


def test_a_class_without_images_is_named(tmp_path):
    write_classes(tmp_path, {"a": 2})
    (tmp_path / "empty").mkdir()
    with pytest.raises(ValueError, match="got none in .*empty"):
        load(tmp_path)


def test_training_images_alone_are_refused(tmp_path):
    write_classes(tmp_path / "train", {"a": 2})
    message = "`test`, .*`valid` or `val`.*To have a test part drawn"
    with pytest.raises(FileNotFoundError, match=message):
        load(tmp_path)


def test_classes_of_one_image_leave_nothing_to_test(tmp_path):
    write_classes(tmp_path, {"a": 1, "bb": 1})
    with pytest.raises(ValueError, match="test.*at least one image"):
        load(tmp_path)


@pytest.mark.parametrize(
    ("train", "test", "message"),
    [
        ({"a": 2}, {"a": 1, "new": 1}, r"got \['new'\] only in the test part and none"),
        ({"a": 2, "old": 1}, {"a": 1}, r"got none only in the test part and \['old'\]"),
    ],
)
def test_classes_must_agree(tmp_path, train, test, message):
    write_classes(tmp_path / "train", train)
    write_classes(tmp_path / "test", test)
    with pytest.raises(ValueError, match=message):
        load(tmp_path)


def test_a_set_too_large_for_memory_is_refused_before_decoding(tmp_path, monkeypatch):
    write_classes(tmp_path, {"a": 4})
    (tmp_path / "a" / "zz.png").write_bytes(b"never decoded")
    monkeypatch.setattr(_memory, "MAX_BYTES", 400)
    with pytest.raises(ValueError, match="got 5 of 6x5x3"):
        load(tmp_path)


@pytest.mark.parametrize(
    ("train", "test"), [("Train", "Test"), ("training", "TESTING"), ("train", "valid")]
)
def test_parts_have_usual_names_in_any_case(tmp_path, train, test):
    write_classes(tmp_path / train, {"a": 2, "bb": 2})
    write_classes(tmp_path / test, {"a": 1, "bb": 1})
    assert [
        len(part.labels) for part in (load(tmp_path).train, load(tmp_path).test)
    ] == [*(4, 2)]


def test_folders_below_a_class_belong_to_it_and_what_is_left_out_is_told(
    tmp_path, caplog
):
    write_classes(tmp_path / "train", {"a": 1, "bb": 1})
    write_classes(tmp_path / "test", {"a": 1, "bb": 1})
    train = tmp_path / "train"
    write(train / "a" / "deep" / "down" / "z.png", random_pixels(3))
    (train / "a" / "deep" / "again").symlink_to(train / "a")  # a loop
    for name in ("a/._z.png", "__MACOSX/a/1.png", "a/Thumbs.db"):  # a system's own
        write(train / "x.png", random_pixels(1)).tofile(train / "x.png")
        (train / name).parent.mkdir(parents=True, exist_ok=True)
        (train / "x.png").rename(train / name)
    for name in ("notes.txt", "a/labels.csv", "a/more.csv", "bb/README"):
        (train / name).write_text("no image")
    assert load(tmp_path).train.labels.tolist() == [0, 0, 1]
    (line,) = {record.getMessage() for record in caplog.records}
    assert line.endswith("left out: 2 .csv, 1 .txt, 1 without an ending.")


@pytest.mark.parametrize(
    "name", ["x.jfif", "x.jpe", "x.JPG", "x.jp2", "x.apng", "x.pnm", "x.avif", "x"]
)
def test_common_endings_are_read_and_files_without_one_by_their_content(tmp_path, name):
    write_classes(tmp_path / "train", {"a": 1, "bb": 1})
    write_classes(tmp_path / "test", {"a": 1, "bb": 1})
    kind = {".apng": ".png", "": ".png"}.get(name[1:].lower(), name[1:])
    file = tmp_path / f"image{kind}"
    try:
        Image.fromarray(random_pixels(5)).save(file)
    except (KeyError, OSError, ValueError):
        pytest.skip(f"Pillow writes no {kind} here")
    file.rename(tmp_path / "train" / "a" / name)
    assert load(tmp_path).train.labels.tolist() == [0, 0, 1]


def test_a_class_may_be_empty_if_that_is_meant(tmp_path):
    write_classes(tmp_path / "train", {"a": 1, "bb": 1})
    write_classes(tmp_path / "test", {"a": 1, "new": 1})
    (tmp_path / "train" / "none").mkdir()
    with pytest.raises(ValueError, match="empty_classes=True"):
        load(tmp_path)
    dataset = load(tmp_path, empty_classes=True)
    assert dataset.class_names == ("a", "bb", "new", "none")
    assert dataset.train.labels.tolist() == [0, 1]
    assert dataset.test.labels.tolist() == [0, 2]


def test_a_class_may_be_called_like_a_part(tmp_path):
    write_classes(tmp_path, {"Bus": 2, "Train": 2})
    assert load(tmp_path).class_names == ("Bus", "Train")


@pytest.mark.slow
def test_a_large_image_has_its_colors(tmp_path):
    write_classes(tmp_path, {"a": 2, "bb": 2}, shape=(4, 4))
    Image.new("RGB", (8200, 8200), "red").save(tmp_path / "a" / "000.png")
    dataset = load(tmp_path, image_size=2, max_pixels=10**8)
    assert dataset.image_shape == (2, 2, 3)


def test_what_is_no_regular_file_is_left_out_and_told(tmp_path, caplog):
    write_classes(tmp_path / "train", {"a": 1, "bb": 1})
    write_classes(tmp_path / "test", {"a": 1, "bb": 1})
    folder = tmp_path / "train" / "a"
    os.mkfifo(folder / "pipe.png")  # which would wait for somebody to write
    (folder / "endless.png").symlink_to("/dev/zero")
    (folder / "broken.png").symlink_to(tmp_path / "nowhere")
    (folder / "folder.png").mkdir()
    assert load(tmp_path).train.labels.tolist() == [0, 1]
    (line,) = {record.getMessage() for record in caplog.records}
    assert line.endswith("left out: 3 no regular file.")


def test_as_many_broken_images_as_allowed_are_left_out_by_name(tmp_path, caplog):
    pixels = write_classes(tmp_path / "train", {"a": 3, "bb": 3})
    write_classes(tmp_path / "test", {"a": 1, "bb": 1})
    for name in ("a/000.png", "bb/001.png"):
        (tmp_path / "train" / name).write_bytes(b"no image")
    dataset = load(tmp_path, max_bad=0.4)
    assert dataset.train.labels.tolist() == [0, 0, 1, 1]
    kept = [pixels[index] for index in (1, 2, 3, 5)]
    np.testing.assert_array_equal(dataset.train.images, np.stack(kept))
    told = [record.getMessage() for record in caplog.records]
    assert ["a/000.png" in told[0], "bb/001.png" in told[1]] == [True, True]
    with pytest.raises(ValueError, match="needs whole, readable images, got .*png"):
        load(tmp_path, max_bad=0.2)


@pytest.mark.parametrize("orient", [True, False])
def test_images_in_memory_are_turned_the_way_their_exif_tells(tmp_path, orient):
    write_classes(tmp_path, {"a": 2, "bb": 2}, shape=(4, 4, 3))
    image = Image.fromarray(random_pixels(1, (4, 4, 3)))
    exif = image.getexif()
    exif[0x0112] = 6
    image.save(tmp_path / "a" / "000.png", exif=exif)
    turned = np.asarray(image.rotate(-90) if orient else image)
    dataset = load(tmp_path, orient=orient)
    every = np.concatenate([dataset.train.images, dataset.test.images])
    assert sum(np.array_equal(each, turned) for each in every) == 1


def test_a_class_whose_name_is_no_utf8_is_told_before_anything_else(tmp_path):
    write_classes(tmp_path, {"a": 2, "bb": 2})
    (tmp_path / "bb").rename(os.fsdecode(os.fsencode(tmp_path) + b"/\xff"))
    with pytest.raises(ValueError, match=r"names are UTF-8, got b'\\xff' in"):
        load(tmp_path)
