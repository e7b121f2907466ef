"""Reading a file that somebody named: a plain file, of no more than so many bytes, or OSError with words.

``/dev/zero`` has no end, a FIFO waits for a writer that never comes, and a folder or device is no document.
"""

import errno
import os
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
