import os
import zlib

from hypersphere.training.machine import _cache


def test_half_written_entries_are_removed_and_whole_ones_stay(tmp_path):
    whole = zlib.compress(bytes(range(256)) * 20)
    (tmp_path / "a-cache").write_bytes(whole)
    (tmp_path / "b-cache").write_bytes(whole[: len(whole) // 2])
    (tmp_path / "c-cache").write_bytes(b"")
    (tmp_path / "note.txt").write_bytes(b"x")
    _cache.remove_broken(tmp_path)
    left = {path.name for path in tmp_path.iterdir()}
    assert left == {"a-cache", "note.txt", "checked"}


def test_only_new_entries_are_looked_at(tmp_path, monkeypatch):
    (tmp_path / "old-cache").write_bytes(zlib.compress(b"old"))
    _cache.remove_broken(tmp_path)
    os.utime(tmp_path / "old-cache", (1, 1))
    (tmp_path / "new-cache").write_bytes(zlib.compress(b"new"))
    seen = []
    monkeypatch.setattr(_cache, "_is_whole", lambda x: seen.append(x) or True)
    _cache.remove_broken(tmp_path)
    assert seen == [zlib.compress(b"new")]


def test_every_kind_of_processor_has_a_folder_of_its_own(monkeypatch, tmp_path):
    monkeypatch.delenv("JAX_COMPILATION_CACHE_DIR", raising=False)
    monkeypatch.setenv("HOME", str(tmp_path))
    monkeypatch.setattr(_cache.jax.config, "update", lambda name, value: None)
    first = _cache.use_compilation_cache()
    monkeypatch.setattr(_cache.platform, "machine", lambda: "another")
    second = _cache.use_compilation_cache()
    assert (
        first != second
        and first.parent == second.parent == tmp_path / ".cache/hypersphere"
    )
    assert first.is_dir()


def test_the_folder_can_be_chosen(monkeypatch, tmp_path):
    monkeypatch.setenv("JAX_COMPILATION_CACHE_DIR", str(tmp_path / "mine"))
    monkeypatch.setattr(_cache.jax.config, "update", lambda name, value: None)
    assert _cache.use_compilation_cache() == tmp_path / "mine"
