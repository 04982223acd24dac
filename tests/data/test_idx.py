import gzip
import struct

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


@pytest.mark.parametrize(("change", "got"), [(-1, 119), (1, 121)])
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
