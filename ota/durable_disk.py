"""Files that are either whole or absent, also after a power cut: temp file, fsync, rename, fsync of the folder."""

import contextlib
import os
from pathlib import Path

TEMP_SUFFIX = ".part"
"""Ends the name of a file that is being written; after a crash such files are leftovers."""


def fsync_folder(folder: Path) -> None:
    """Make renames, removals and new names in ``folder`` durable."""
    handle = os.open(folder, os.O_RDONLY | os.O_DIRECTORY)
    try:
        os.fsync(handle)
    finally:
        os.close(handle)


def make_folder(folder: Path, mode: int = 0o755) -> None:
    """Create ``folder`` and missing parents; the new names are durable."""
    if folder.is_dir():
        return
    make_folder(folder.parent)
    folder.mkdir(mode=mode, exist_ok=True)
    fsync_folder(folder.parent)


def write_whole(path: Path, data: bytes, mode: int = 0o644, *, durable: bool = True) -> None:
    """Replace ``path`` by ``data``: whoever reads sees old bytes or new ones, never a mixture. Missing folders are made.

    Raises OSError (ENOSPC …) and leaves nothing behind then. ``durable`` False skips the fsyncs, for files whose loss costs
    nothing: still never half-written after a crash of the process.
    """
    make_folder(path.parent)
    temporary = path.with_name(f"{path.name}.{os.urandom(4).hex()}{TEMP_SUFFIX}")
    try:
        handle = os.open(temporary, os.O_WRONLY | os.O_CREAT | os.O_EXCL, mode)
        try:
            os.fchmod(handle, mode)  # whatever the umask is
            view = memoryview(data)
            while view:
                view = view[os.write(handle, view) :]
            if durable:
                os.fsync(handle)
        finally:
            os.close(handle)
        temporary.replace(path)
    except BaseException:  # also Ctrl-C: nothing half-written may stay
        with contextlib.suppress(OSError):
            temporary.unlink()
        raise
    if durable:
        fsync_folder(path.parent)


def remove_leftovers(folder: Path) -> int:
    """Remove what writes interrupted by a crash left in ``folder``; returns how many."""
    count = 0
    for temporary in folder.glob(f"*{TEMP_SUFFIX}"):
        with contextlib.suppress(FileNotFoundError):
            temporary.unlink()
            count += 1
    return count
