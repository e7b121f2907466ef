"""What was hashed already in this process, by the file's identity: nothing is read twice that nobody touched in between.

A file's identity is where it lies and when it was last changed (device, inode, length, times of change to the nanosecond):
whoever writes into it, renames it or puts another in its place changes that, and it is read again. Nothing outlives the process:
after a power cut every file is hashed from the disk. (The kernel's clock for it ticks every 4 to 10 ms: a change in the very tick
of our own writing is not seen. It guards against rot and hands, not against somebody who writes into the agent's own folders.)
"""

import hashlib
import os
from pathlib import Path

Identity = tuple[int, int, int, int, int]


class Hashed:
    """sha256 by identity. One for all that one process installs. ``read_bytes`` counts what was read in order to hash it."""

    def __init__(self) -> None:
        self._seen: dict[Identity, str] = {}
        self.read_bytes = 0

    def record(self, path: Path, sha256: str) -> None:
        """This process has just written the file and hashed every byte on the way. Raises OSError."""
        self._seen[_identity(path.stat())] = sha256

    def known(self, path: Path) -> str | None:
        """What it hashed to, where nobody has touched it since; else None."""
        try:
            return self._seen.get(_identity(path.stat()))
        except OSError:
            return None

    def sha256(self, path: Path) -> str:
        """Lower-case hexadecimal; read from the disk only where that is not known. Raises OSError."""
        with path.open("rb") as file:
            before = _identity(os.fstat(file.fileno()))
            known = self._seen.get(before)
            if known is not None:
                return known
            found = hashlib.file_digest(file, "sha256").hexdigest()
            self.read_bytes += file.tell()
            if _identity(os.fstat(file.fileno())) == before:  # else it was written to while it was read
                self._seen[before] = found
            return found

    def is_whole(self, path: Path, sha256: str, length_bytes: int) -> bool:
        """Whether a file is there and is what was signed, to the byte."""
        try:
            return path.stat().st_size == length_bytes and self.sha256(path) == sha256
        except OSError:
            return False


def _identity(found: os.stat_result) -> Identity:
    return (found.st_dev, found.st_ino, found.st_size, found.st_mtime_ns, found.st_ctime_ns)
