import gzip
import struct
import tracemalloc

import numpy as np
import pytest

from hypersphere import data
from hypersphere.data import _memory

NAMES = {
    "train-images": "train-images-idx3-ubyte",
    "train-labels": "train-labels-idx1-ubyte",
    "t10k-images": "t10k-images-idx3-ubyte",
    "t10k-labels": "t10k-labels-idx1-ubyte",
}


def idx(array):
    header = struct.pack(f">{1 + array.ndim}I", 0x800 + array.ndim, *array.shape)
    return header + array.tobytes()


@pytest.fixture
def arrays():
    rng = np.random.default_rng(3)
    return {
        "train-images": rng.integers(0, 256, (9, 5, 4), dtype=np.uint8),
        "train-labels": np.arange(9, dtype=np.uint8) % 3,
        "t10k-images": rng.integers(0, 256, (6, 5, 4), dtype=np.uint8),
        "t10k-labels": np.arange(6, dtype=np.uint8) % 3,
    }


@pytest.fixture
def folder(tmp_path, arrays):
    for key, array in arrays.items():
        (tmp_path / NAMES[key]).write_bytes(idx(array))
    return tmp_path


def check_equal(dataset, arrays):
    for part, prefix in ((dataset.train, "train"), (dataset.test, "t10k")):
        np.testing.assert_array_equal(part.images[..., 0], arrays[f"{prefix}-images"])
        np.testing.assert_array_equal(part.labels, arrays[f"{prefix}-labels"])
        assert part.labels.dtype == np.int32
        assert part.images.flags.c_contiguous
    assert dataset.class_names == ("0", "1", "2")


def test_arrays_are_read_back(folder, arrays):
    check_equal(data.load(f"idx:{folder}"), arrays)


def test_gzipped_files_are_read(tmp_path, arrays):
    for key, array in arrays.items():
        (tmp_path / f"{NAMES[key]}.gz").write_bytes(gzip.compress(idx(array)))
    check_equal(data.load(f"idx:{tmp_path}"), arrays)


def test_the_spelling_with_a_dot_is_read(tmp_path, arrays):
    for key, array in arrays.items():
        (tmp_path / NAMES[key].replace("-idx", ".idx")).write_bytes(idx(array))
    check_equal(data.load(f"idx:{tmp_path}"), arrays)


def test_a_missing_file_is_named(folder):
    (folder / NAMES["t10k-labels"]).unlink()
    message = "t10k-labels-idx1-ubyte, t10k-labels-idx1-ubyte.gz.*got none in"
    with pytest.raises(FileNotFoundError, match=message):
        data.load(f"idx:{folder}")


def test_a_missing_folder_is_named(tmp_path):
    with pytest.raises(FileNotFoundError, match="got none in .*nowhere"):
        data.load(f"idx:{tmp_path / 'nowhere'}")


@pytest.mark.parametrize(("change", "got"), [(-1, "119"), (1, "at least 121")])
def test_a_file_of_wrong_length_is_named(folder, change, got):
    path = folder / NAMES["t10k-images"]
    path.write_bytes((path.read_bytes() + b"\0")[: 16 + 120 + change])
    message = f"got {got} bytes of data in .*t10k-images.*promises 120"
    with pytest.raises(ValueError, match=message):
        data.load(f"idx:{folder}")


@pytest.mark.parametrize(
    "header", [b"", b"\0\0\x08\x01", b"\x89PNG and more than that"]
)
def test_a_wrong_magic_number_is_named(folder, header):
    (folder / NAMES["train-images"]).write_bytes(header)
    message = r"3 axes \(magic number 2051\), got the magic number .*train-images"
    with pytest.raises(ValueError, match=message):
        data.load(f"idx:{folder}")


@pytest.mark.parametrize("keep", [5, 60])
def test_a_truncated_gzip_file_is_named(folder, arrays, keep):
    path = folder / NAMES["train-images"]
    packed = gzip.compress(path.read_bytes())
    path.unlink()
    path.with_name(f"{path.name}.gz").write_bytes(packed[:keep])
    with pytest.raises(
        ValueError, match=r"whole files, got .*train-images.*\.gz.*unpack"
    ):
        data.load(f"idx:{folder}")


def test_counts_must_agree(folder, arrays):
    (folder / NAMES["train-labels"]).write_bytes(idx(arrays["train-labels"][:-1]))
    with pytest.raises(ValueError, match="train.*got 9 images and 8 labels"):
        data.load(f"idx:{folder}")


def test_a_test_label_that_training_lacks_is_named(folder, arrays):
    labels = arrays["t10k-labels"].copy()
    labels[4] = 3
    (folder / NAMES["t10k-labels"]).write_bytes(idx(labels))
    with pytest.raises(ValueError, match=r"test.*0 <= label < 3.*labels\[4\]=3"):
        data.load(f"idx:{folder}")


def test_a_set_too_large_for_memory_is_refused_before_reading(folder, monkeypatch):
    path = folder / NAMES["train-images"]
    path.write_bytes(path.read_bytes()[:16])
    monkeypatch.setattr(_memory, "MAX_BYTES", 100)
    with pytest.raises(ValueError, match="got 9 of 5x4"):
        data.load(f"idx:{folder}")


def test_no_more_is_unpacked_than_the_header_promises(folder, arrays):
    """Where a few kilobytes would become gigabytes."""
    path = folder / NAMES["t10k-images"]
    content = idx(arrays["t10k-images"]) + bytes(2**26)
    path.write_bytes(gzip.compress(content, 1))  # and told by content, not by ending
    tracemalloc.start()
    with pytest.raises(ValueError, match="at least 121 bytes"):
        data.load(f"idx:{folder}")
    assert tracemalloc.get_traced_memory()[1] < 2**22
    tracemalloc.stop()


def test_what_is_packed_is_told_by_its_content(folder, arrays):
    for name in (NAMES["train-images"], NAMES["t10k-labels"]):
        (folder / name).write_bytes(gzip.compress((folder / name).read_bytes()))
    plain = folder / NAMES["train-labels"]
    plain.rename(folder / f"{plain.name}.gz")
    check_equal(data.load(f"idx:{folder}"), arrays)


def test_emnists_letters_count_from_one_and_have_their_names(folder, arrays):
    for key, name in NAMES.items():
        array = arrays[key] + 1 if "labels" in key else arrays[key]
        new = name.replace("t10k", "test")
        (folder / f"emnist-letters-{new}").write_bytes(idx(array))
        (folder / name).unlink()
    mapping = "".join(f"{i} {64 + i} {96 + i}\n" for i in range(1, 4))
    (folder / "emnist-letters-mapping.txt").write_text(mapping)
    dataset = data.load(f"idx:{folder}")
    assert dataset.class_names == ("A", "B", "C")
    np.testing.assert_array_equal(dataset.train.labels, arrays["train-labels"])
    np.testing.assert_array_equal(dataset.test.labels, arrays["t10k-labels"])
