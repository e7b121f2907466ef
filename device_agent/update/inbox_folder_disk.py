"""Files put into the inbox by root, in a folder that belongs to somebody else: no link in it leads a write anywhere.

Everything goes by the opened folder, which is no link itself and belongs to root or to whom the agent's data folder belongs.
A file is made under a random name that must be new, and then takes its name: whatever had that name is replaced, not followed.
"""

import contextlib
import errno
import io
import os
import shutil
import stat
from collections.abc import Iterator
from pathlib import Path
from typing import IO

from ota.durable_disk import TEMP_SUFFIX, make_folder

ROOT = 0
COPY_BYTES = 1024 * 1024


@contextlib.contextmanager
def opened(folder: Path) -> Iterator[int]:
    """The inbox as a handle; OSError with words unless it is a folder, no link, of root or of the data folder's owner."""
    handle = os.open(folder, os.O_RDONLY | os.O_DIRECTORY | os.O_NOFOLLOW | os.O_CLOEXEC)
    try:
        if os.fstat(handle).st_uid not in (ROOT, os.geteuid(), folder.parent.stat().st_uid):
            raise OSError(errno.EPERM, "it belongs to somebody who is neither root nor the agent", str(folder))
        yield handle
    finally:
        os.close(handle)


def copy_in(folder: Path, name: str, source: IO[bytes]) -> None:
    """A copy of ``source`` as ``name``, whole or not at all. Made by root the folder becomes the agent's. Raises OSError."""
    make_folder(folder, 0o700)
    with opened(folder) as handle:
        if os.geteuid() == ROOT:  # the agent, another user perhaps, must find and remove the file, which itself stays root's
            owner = folder.parent.stat()
            os.fchown(handle, owner.st_uid, owner.st_gid)
        _put(handle, name, source)


def put_aside(folder: Path, name: str, beside: str, words: str) -> None:
    """Take ``name`` away and write ``words`` into ``beside``. What cannot be done is not done."""
    with contextlib.suppress(OSError), opened(folder) as handle:
        with contextlib.suppress(OSError):
            _put(handle, beside, io.BytesIO(words.encode()))
        with contextlib.suppress(OSError):
            os.unlink(name, dir_fd=handle)


def words_of(folder: Path, name: str, limit_bytes: int = 4096) -> str:
    """What a small file of the inbox says; OSError where it is none, a link among them."""
    with opened(folder) as handle:
        file = os.open(name, os.O_RDONLY | os.O_NOFOLLOW | os.O_NONBLOCK | os.O_CLOEXEC, dir_fd=handle)
        try:
            found = os.fstat(file)
            if not stat.S_ISREG(found.st_mode) or found.st_nlink != 1:
                raise OSError(errno.EINVAL, "it is not a plain file", name)
            return os.read(file, limit_bytes).decode("utf-8", "replace").strip()
        finally:
            os.close(file)


def _put(handle: int, name: str, source: IO[bytes]) -> None:
    partial = f"{name}.{os.urandom(8).hex()}{TEMP_SUFFIX}"
    made = os.open(partial, os.O_WRONLY | os.O_CREAT | os.O_EXCL | os.O_NOFOLLOW | os.O_CLOEXEC, 0o600, dir_fd=handle)
    try:
        with os.fdopen(made, "wb") as file:
            shutil.copyfileobj(source, file, COPY_BYTES)
            file.flush()
            os.fchmod(file.fileno(), 0o644)
            os.fsync(file.fileno())
        os.rename(partial, name, src_dir_fd=handle, dst_dir_fd=handle)
    except BaseException:  # also Ctrl-C: nothing half-written may stay
        with contextlib.suppress(OSError):
            os.unlink(partial, dir_fd=handle)
        raise
    os.fsync(handle)
