"""Files that are whole or not there, also after a power cut."""

import os
from pathlib import Path


def flush(path: Path) -> None:
    """Returns when a file, or which names a folder holds, would survive a power cut.

    Args:
        path: The file or folder.

    Raises:
        OSError: If the disk fails.
    """
    descriptor = os.open(path, os.O_RDONLY)
    try:
        os.fsync(descriptor)
    finally:
        os.close(descriptor)


def write_atomically(path: Path, content: bytes) -> None:
    """Writes a file so that a reader sees the old one or the new one, whole.

    Args:
        path: The file; its folder is made if need be.
        content: What it holds.

    Raises:
        OSError: If it cannot be written; the old one stays.
    """
    path.parent.mkdir(parents=True, exist_ok=True)
    partial = path.with_name(f"{path.name}.{os.getpid()}.part")  # of this writer alone
    try:
        partial.write_bytes(content)
        flush(partial)
        os.replace(partial, path)
    except OSError:
        partial.unlink(missing_ok=True)
        raise
