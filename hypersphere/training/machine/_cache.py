"""The compilation cache: what was compiled once is read the next time."""

import contextlib
import hashlib
import importlib
import os
import platform
import time
import zlib
from pathlib import Path
from typing import Any

import jax

_MARK = "checked"  # a file whose age tells which entries are known to be whole


def use_compilation_cache() -> Path:
    """Keeps compiled programs on disk, so that a later start takes seconds.

    The folder is `$JAX_COMPILATION_CACHE_DIR` or one below `~/.cache/hypersphere`, for
    each kind of processor its own. An entry that a killed process has left half
    written is removed: JAX would warn of it at every start.

    Returns:
        The folder.

    Example:
        >>> from hypersphere import training
        >>> training.use_compilation_cache()  # doctest: +SKIP
    """
    chosen = os.environ.get("JAX_COMPILATION_CACHE_DIR")
    folder = Path(chosen or f"~/.cache/hypersphere/xla-{_processor()}").expanduser()
    try:
        folder.mkdir(parents=True, exist_ok=True)
        remove_broken(folder)
    except OSError:  # a run without a cache is slower to start, and no worse
        return folder
    jax.config.update("jax_compilation_cache_dir", str(folder))
    jax.config.update("jax_persistent_cache_min_compile_time_secs", 0.0)
    jax.config.update("jax_persistent_cache_min_entry_size_bytes", -1)
    return folder


def remove_broken(folder: Path) -> None:
    """Removes half-written entries among those that are new since the last look."""
    mark = folder / _MARK
    last = mark.stat().st_mtime if mark.is_file() else 0.0
    now = time.time() - 1  # the clock of files is a little behind
    for entry in folder.glob("*-cache"):
        with contextlib.suppress(FileNotFoundError):  # another process has removed it
            if entry.stat().st_mtime >= last and not _is_whole(entry.read_bytes()):
                entry.unlink()
    mark.touch()
    os.utime(mark, (now, now))  # what was written meanwhile is looked at next time


def _is_whole(content: bytes) -> bool:
    decompress: Any = zlib.decompress
    if content.startswith(b"\x28\xb5\x2f\xfd"):  # zstd, which JAX prefers
        decompress = _zstd_decompress()
    try:
        decompress(content)
    except Exception:  # each library has errors of its own
        return False
    return True


def _zstd_decompress() -> Any:
    """Of Python, which has it from 3.14 on, or of the package that JAX would take."""
    for name in ("compression.zstd", "zstandard"):
        with contextlib.suppress(ImportError):
            return importlib.import_module(name).decompress
    return len  # nothing here reads such an entry, not even JAX


def _processor() -> str:
    """A short name for the kind of processor: programs run on their own kind only."""
    info = Path("/proc/cpuinfo")
    text = info.read_text(encoding="utf-8") if info.is_file() else ""
    lines = text.partition("\n\n")[0].splitlines()
    kind = [x for x in lines if x.startswith(("model name", "flags", "Features"))]
    told = "\n".join([platform.machine(), platform.processor(), *kind])
    return hashlib.sha256(told.encode()).hexdigest()[:12]
