"""Reading a file that somebody named: a plain file, of no more than so many bytes, or OSError with words.

``/dev/zero`` has no end, a FIFO waits for a writer that never comes, and a folder or device is no document.
"""

import errno
import os
import select
import stat
from pathlib import Path
from typing import IO

DOCUMENT_BYTES = 16 * 1024 * 1024
"""The most that a document may have (metadata, keys, cards, labels, policies): metadata, the largest, may have 6 MiB."""
CHUNK_BYTES = 1024 * 1024


def open_plain(path: Path) -> IO[bytes]:
    """The file for reading; OSError (``strerror`` says it to a person) unless it is a plain file, and never a wait for one."""
    handle = os.open(path, os.O_RDONLY | os.O_CLOEXEC | os.O_NONBLOCK | os.O_NOCTTY)
    try:
        if not stat.S_ISREG(os.fstat(handle).st_mode):
            raise OSError(errno.EINVAL, "it is not a plain file", str(path))
        return os.fdopen(handle, "rb")
    except BaseException:
        os.close(handle)
        raise


def read_plain(path: Path, limit_bytes: int = DOCUMENT_BYTES) -> bytes:
    """All bytes of a plain file; OSError when it is none, or has more than ``limit_bytes``."""
    pieces, left_bytes = [], limit_bytes
    with open_plain(path) as file:
        while piece := file.read(min(CHUNK_BYTES, left_bytes + 1)):  # not all at once: that would set the limit's memory aside
            left_bytes -= len(piece)
            if left_bytes < 0:
                raise OSError(errno.EFBIG, f"it has more than {limit_bytes} bytes", str(path))
            pieces.append(piece)
    return b"".join(pieces)


def read_first_line(path: Path, limit_bytes: int = 64 * 1024, deadline_s: float = 60.0) -> bytes:
    """The first line of a plain file or of a pipe (``--passphrase-file <(pass show fleet)``), without its end.

    OSError when it is neither, when there is no line, and when a pipe's writer says nothing for ``deadline_s`` seconds.
    """
    handle = os.open(path, os.O_RDONLY | os.O_CLOEXEC | os.O_NONBLOCK | os.O_NOCTTY)
    try:
        kind = os.fstat(handle).st_mode
        if not (stat.S_ISREG(kind) or stat.S_ISFIFO(kind)):
            raise OSError(errno.EINVAL, "it is neither a plain file nor a pipe", str(path))
        found = b""
        while b"\n" not in found and len(found) <= limit_bytes:
            if not select.select([handle], [], [], deadline_s)[0]:
                raise OSError(errno.ETIMEDOUT, f"nothing came within {deadline_s:.0f} s", str(path))
            piece = os.read(handle, 4096)
            if not piece:
                break
            found += piece
    finally:
        os.close(handle)
    lines = found.splitlines()
    if not lines or len(lines[0]) > limit_bytes:
        raise OSError(errno.EINVAL, "there is no line in it" if not lines else "its first line has no end", str(path))
    return lines[0]
