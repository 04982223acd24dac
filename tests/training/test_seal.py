import os

import numpy as np
import pytest

from hypersphere.training.checkpoints._seal import (
    SEAL,
    check_files,
    read_seal,
    write_seal,
)


@pytest.fixture
def sealed(tmp_path):
    (tmp_path / "inner").mkdir()
    (tmp_path / "inner" / "data").write_bytes(bytes(range(200)))
    (tmp_path / "empty").write_bytes(b"")
    write_seal(tmp_path, {"step": 7, "meta": {"a": [1, 2.5, "é"]}})
    return tmp_path


def verify(folder):
    seal = read_seal(folder)
    check_files(folder, seal)
    return seal


def test_what_was_sealed_comes_back_and_is_whole(sealed):
    assert verify(sealed)["meta"] == {"a": [1, 2.5, "é"]}
    assert sorted(verify(sealed)["files"]) == ["empty", "inner/data"]


@pytest.mark.parametrize("name", ["inner/data", SEAL])
def test_every_single_bit_flip_is_noticed(sealed, name):
    whole = (sealed / name).read_bytes()
    for bit in np.random.default_rng(1).permutation(8 * len(whole))[:80]:
        flipped = bytearray(whole)
        flipped[bit // 8] ^= 1 << (bit % 8)
        (sealed / name).write_bytes(flipped)
        with pytest.raises(ValueError, match=r"has changed since it was written"):
            verify(sealed)


@pytest.mark.parametrize("name", ["inner/data", SEAL])
def test_a_file_cut_short_at_any_place_is_noticed(sealed, name):
    whole = (sealed / name).read_bytes()
    for length in range(len(whole)):
        (sealed / name).write_bytes(whole[:length])
        with pytest.raises(ValueError, match=r"has changed since it was written"):
            verify(sealed)


def test_a_missing_file_and_a_missing_seal_are_named(sealed):
    (sealed / "empty").unlink()
    with pytest.raises(ValueError, match=r"file empty is missing"):
        verify(sealed)
    (sealed / SEAL).unlink()
    with pytest.raises(ValueError, match=r"has no seal.json"):
        verify(sealed)


def test_a_file_added_later_does_not_matter(sealed):
    (sealed / "note").write_text("mine")
    assert verify(sealed)["step"] == 7


def test_every_file_and_folder_is_on_the_disk_when_the_seal_is(tmp_path, monkeypatch):
    (tmp_path / "inner").mkdir()
    (tmp_path / "inner" / "data").write_bytes(b"1")
    synced = set()
    monkeypatch.setattr(os, "fsync", lambda file: synced.add(os.fstat(file).st_ino))
    write_seal(tmp_path, {})
    assert synced == {path.stat().st_ino for path in (tmp_path, *tmp_path.rglob("*"))}
