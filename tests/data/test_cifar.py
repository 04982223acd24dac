import gzip
import io
import tarfile
import tracemalloc

import numpy as np
import pytest

from hypersphere.data._cifar import load_cifar

TEN = [f"data_batch_{k}.bin" for k in range(1, 6)] + ["test_batch.bin"]


def images(count, seed):
    """Images of (height, width, channel)."""
    rng = np.random.default_rng(seed)
    return rng.integers(0, 256, (count, 32, 32, 3), dtype=np.uint8)


def row(image, labels):
    """One image as the format's description has it: labels, then plane after plane."""
    planes = b"".join(image[:, :, channel].tobytes() for channel in range(3))
    return bytes(labels) + planes


def write_ten(folder):
    """CIFAR-10 with 2 images per file, whose label is the file's number."""
    folder.mkdir(parents=True)
    for number, name in enumerate(TEN):
        pair = images(2, seed=number)
        content = b"".join(row(image, [number]) for image in pair)
        (folder / name).write_bytes(content)
    names = "".join(f"class{k}\n" for k in range(10)) + "\n"
    (folder / "batches.meta.txt").write_text(names)


def write_hundred(folder):
    """CIFAR-100 with 3 images to train and 2 to test on."""
    folder.mkdir(parents=True)
    for name, count in (("train.bin", 3), ("test.bin", 2)):
        rows = [
            row(image, [7, 90 + k]) for k, image in enumerate(images(count, seed=count))
        ]
        (folder / name).write_bytes(b"".join(rows))
    fine = "".join(f"fine{k}\n" for k in range(100))
    (folder / "fine_label_names.txt").write_text(fine)
    (folder / "coarse_label_names.txt").write_text("coarse\n")


def pack(folder):
    """The published archive: the folder in a tar.gz beside it."""
    name = {"cifar-10-batches-bin": "cifar-10-binary"}.get(folder.name, folder.name)
    archive = folder.with_name(f"{name}.tar.gz")
    with tarfile.open(archive, "w:gz") as tar:
        tar.add(folder, arcname=folder.name)
    for file in folder.iterdir():
        file.unlink()
    folder.rmdir()
    return archive


@pytest.mark.parametrize("form", ["parent", "folder", "archive", "archive's parent"])
def test_ten_classes_are_read_from_every_form(tmp_path, form):
    folder = tmp_path / "cifar-10-batches-bin"
    write_ten(folder)
    archive = pack(folder) if "archive" in form else folder
    path = tmp_path if "parent" in form else archive
    dataset = load_cifar(str(path))
    expected = np.concatenate([images(2, seed=number) for number in range(5)])
    np.testing.assert_array_equal(dataset.train.images, expected)
    np.testing.assert_array_equal(dataset.test.images, images(2, seed=5))
    assert dataset.train.labels.tolist() == [0, 0, 1, 1, 2, 2, 3, 3, 4, 4]
    assert dataset.test.labels.tolist() == [5, 5]
    assert dataset.class_names == tuple(f"class{k}" for k in range(10))
    assert dataset.train.images.flags.c_contiguous
    assert dataset.name == f"cifar:{path}"


@pytest.mark.parametrize("packed", [False, True])
def test_a_hundred_classes_have_their_fine_labels(tmp_path, packed):
    folder = tmp_path / "cifar-100-binary"
    write_hundred(folder)
    if packed:
        pack(folder)
    dataset = load_cifar(str(tmp_path))
    np.testing.assert_array_equal(dataset.train.images, images(3, seed=3))
    assert dataset.train.labels.tolist() == [90, 91, 92]
    assert dataset.test.labels.tolist() == [90, 91]
    assert dataset.class_names[90] == "fine90" and dataset.num_classes == 100


def test_two_sets_in_one_folder_are_told_apart(tmp_path):
    write_ten(tmp_path / "cifar-10-batches-bin")
    write_hundred(tmp_path / "cifar-100-binary")
    with pytest.raises(ValueError, match="got both CIFAR-10 and CIFAR-100.*Name one"):
        load_cifar(str(tmp_path))


def test_a_missing_set_is_named(tmp_path):
    with pytest.raises(FileNotFoundError, match="cifar-10-batches-bin.*got none in"):
        load_cifar(str(tmp_path))


@pytest.mark.parametrize("name", ["data_batch_3.bin", "batches.meta.txt"])
@pytest.mark.parametrize("packed", [False, True])
def test_a_missing_file_is_named(tmp_path, name, packed):
    folder = tmp_path / "cifar-10-batches-bin"
    write_ten(folder)
    (folder / name).unlink()
    if packed:
        pack(folder)
    with pytest.raises(FileNotFoundError, match=f"the file {name}, got none in"):
        load_cifar(str(tmp_path))


@pytest.mark.parametrize(
    ("size", "sizes"), [(6145, "6,145.*6,146"), (0, "got 0.*3,073"), (9, "9.*3,073")]
)
def test_a_truncated_file_is_named_with_both_sizes(tmp_path, size, sizes):
    write_ten(tmp_path / "cifar-10-batches-bin")
    path = tmp_path / "cifar-10-batches-bin" / "data_batch_4.bin"
    path.write_bytes(path.read_bytes()[:size])
    with pytest.raises(ValueError, match=f"whole files.*{sizes}.*Fetch it again") as e:
        load_cifar(str(tmp_path))
    assert str(path) in str(e.value)


@pytest.mark.parametrize("keep", [30, 5000])
def test_a_truncated_archive_is_named(tmp_path, keep):
    write_ten(tmp_path / "cifar-10-batches-bin")
    archive = pack(tmp_path / "cifar-10-batches-bin")
    archive.write_bytes(archive.read_bytes()[:keep])
    with pytest.raises(ValueError, match="whole archive, got .*gz, which cannot be"):
        load_cifar(str(archive))


def test_an_archive_of_something_else_is_named(tmp_path):
    archive = tmp_path / "cifar-10-binary.tar.gz"
    archive.write_bytes(gzip.compress(b"no tar at all" * 100))
    with pytest.raises(ValueError, match="whole archive, got .*cannot be unpacked"):
        load_cifar(str(archive))


def test_an_unknown_label_is_named(tmp_path):
    write_ten(tmp_path / "cifar-10-batches-bin")
    content = io.BytesIO()
    content.write(row(images(1, seed=0)[0], [10]))
    path = tmp_path / "cifar-10-batches-bin" / "test_batch.bin"
    path.write_bytes(content.getvalue())
    with pytest.raises(ValueError, match=r"test.*0 <= label < 10.*labels\[0\]=10"):
        load_cifar(str(tmp_path))


def test_what_else_is_in_an_archive_is_not_unpacked(tmp_path):
    write_ten(tmp_path / "cifar-10-batches-bin")
    (tmp_path / "cifar-10-batches-bin" / "more.bin").write_bytes(bytes(2**26))
    (tmp_path / "cifar-10-batches-bin" / "again").symlink_to(tmp_path)
    archive = pack(tmp_path / "cifar-10-batches-bin")
    tracemalloc.start()
    assert len(load_cifar(str(archive)).train.labels) == 10
    assert tracemalloc.get_traced_memory()[1] < 2**24
    tracemalloc.stop()


def test_names_that_are_no_utf8_are_told_by_their_file(tmp_path):
    write_ten(tmp_path / "cifar-10-batches-bin")
    (tmp_path / "cifar-10-batches-bin" / "batches.meta.txt").write_bytes(
        b"\xffx\n" * 10
    )
    with pytest.raises(ValueError, match="names of classes in UTF-8.*batches.meta.txt"):
        load_cifar(str(tmp_path))
