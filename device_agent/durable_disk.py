"""Files that are either whole or absent: temp, fsync, rename, fsync of the folder."""

import contextlib
import os
import secrets
from pathlib import Path

TEMP_SUFFIX = ".part"
"""Ends the name of a file that is being written; after a crash such files are leftovers."""


def sync_folder(folder: Path) -> None:
    """Make renames and removals in this folder survive a power cut."""
    handle = os.open(folder, os.O_RDONLY | os.O_DIRECTORY)
    try:
        os.fsync(handle)
    finally:
        os.close(handle)


def write_whole(path: Path, data: bytes, mode: int = 0o644, *, durable: bool = True) -> None:
    """Replace ``path`` by ``data`` atomically. Raises OSError (ENOSPC …) and leaves nothing behind then.

    ``durable`` False skips the fsyncs, for files whose loss costs nothing: still never half-written after a crash of the process.
    """
    temp = path.with_name(f"{path.name}.{secrets.token_hex(4)}{TEMP_SUFFIX}")
    try:
        handle = os.open(temp, os.O_WRONLY | os.O_CREAT | os.O_EXCL, mode)
        try:
            view = memoryview(data)
            while view:
                view = view[os.write(handle, view) :]
            if durable:
                os.fsync(handle)
        finally:
            os.close(handle)
        temp.replace(path)
    except OSError:
        with contextlib.suppress(OSError):
            temp.unlink()
        raise
    if durable:
        sync_folder(path.parent)


def remove_leftovers(folder: Path) -> int:
    """Remove what writes interrupted by a crash left in ``folder``; returns how many."""
    count = 0
    for temp in folder.glob(f"*{TEMP_SUFFIX}"):
        with contextlib.suppress(FileNotFoundError):
            temp.unlink()
            count += 1
    return count
