import errno
import os

import pytest

from hypersphere import _files


def test_a_write_that_fails_leaves_the_old_file_and_nothing_else(tmp_path, monkeypatch):
    file = tmp_path / "deep" / "file"
    _files.write_atomically(file, b"old")

    def full(path):
        raise OSError(errno.ENOSPC, "No space left on device")

    monkeypatch.setattr(_files, "flush", full)
    with pytest.raises(OSError, match="No space left"):
        _files.write_atomically(file, b"new")
    assert [path.name for path in file.parent.iterdir()] == ["file"]
    assert file.read_bytes() == b"old"


def test_two_writers_of_one_file_do_not_share_a_half_written_one(tmp_path, monkeypatch):
    seen = []
    monkeypatch.setattr(_files, "flush", lambda path: seen.append(path.name))
    for process in (1, 2):
        monkeypatch.setattr(os, "getpid", lambda process=process: process)
        _files.write_atomically(tmp_path / "table.md", b"all of it")
    assert len(set(seen)) == 2
